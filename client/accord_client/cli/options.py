"""Options and openers that all verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord_client.devices import DeviceChoice

if TYPE_CHECKING:
    from accord_common.home import Home

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="ACCORD_NODE_HOME", help="The node's folder.")
]
DeviceOption = Annotated[
    DeviceChoice,
    typer.Option(
        "--device",
        envvar="ACCORD_NODE_DEVICE",
        help="Where to train; auto takes CUDA where torch finds it.",
    ),
]
MetricsFileOption = Annotated[
    Path | None,
    typer.Option(
        "--metrics-file",
        envvar="ACCORD_NODE_METRICS_FILE",
        help="Write figures for Prometheus into this file, NAME.prom, as node_exporter reads it.",
    ),
]
MetricsPushOption = Annotated[
    str,
    typer.Option(
        "--metrics-push",
        envvar="ACCORD_NODE_METRICS_PUSH",
        help="Send them to the institution's own Pushgateway, https://HOST:PORT.",
    ),
]
StartDeviceOption = Annotated[
    DeviceChoice | None,
    typer.Option(
        "--device",
        envvar="ACCORD_NODE_DEVICE",
        help="Where to train; auto takes CUDA where torch finds it. Else the CPU.",
    ),
]
CoresOption = Annotated[
    int | None,
    typer.Option(
        "--cores",
        envvar="ACCORD_NODE_CORES",
        help="Keep to so many processor cores; else torch uses one.",
    ),
]
MemoryOption = Annotated[
    int | None,
    typer.Option(
        "--memory-mib",
        envvar="ACCORD_NODE_MEMORY_MIB",
        help="MiB of memory; a round that needs more is refused before it is charged.",
    ),
]
HoursOption = Annotated[
    list[str] | None,
    typer.Option(
        "--hours",
        help="When rounds may begin, local time: 'Mon-Fri 18:00-06:00'; may be repeated.",
    ),
]
MostRunsOption = Annotated[
    int | None,
    typer.Option(
        "--most-runs", envvar="ACCORD_NODE_MOST_RUNS", help="Runs to take part in at once."
    ),
]
DEFAULT_HOME = Path("~/.accord-node")


def open_home(path: Path) -> Home:
    """Open the node's folder.

    Raises:
        UsageError: `no-home`, `exposed-home`, or `not-a-node` for another role's folder.
    """
    from accord_common.errors import UsageError
    from accord_common.home import Home

    home = Home.open(path.expanduser())
    if home.profile.role != "data-holder":
        raise UsageError(
            "not-a-node",
            f"{home.path} is the folder of a {home.profile.role}",
            hint="Use accord for it; a node's folder is made by accord-node init.",
        )
    return home
