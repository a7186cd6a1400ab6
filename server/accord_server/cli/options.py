"""Options and words that the coordinator's and auditor's verbs share."""

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="ACCORD_HOME", help="This party's folder."),
]
DEFAULT_HOME = Path("~/.accord")
HashArgument = Annotated[str, typer.Argument(help="Hash, or the first digits of it.")]
WholeHashArgument = Annotated[str, typer.Argument(help="The whole hash, 64 digits.")]
NameOption = Annotated[str, typer.Option(help="The party's name, as agreements will show it.")]
CountryOption = Annotated[
    str, typer.Option("--jurisdiction", help="The party's country, two letters.")
]
ContactOption = Annotated[str, typer.Option(help="Whom partners write to.")]
MetricsOption = Annotated[
    str,
    typer.Option(
        "--metrics",
        help="HOST:PORT for Prometheus, in plain HTTP at /metrics: a loopback address, "
        "or one behind a firewall. Nothing is exposed where not given.",
    ),
]
InvitationArgument = Annotated[str, typer.Argument(help="The line that starts with accord-invite:")]


def size(count: int) -> str:
    """Write a number of bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
