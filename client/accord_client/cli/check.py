"""`accord-node check`: everything that a run will need, one line each."""

from __future__ import annotations

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption

EXAMPLE = "Example: accord-node check && accord-node start"


def check(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """Check the way to registry and aggregators, clock, keys, disk, ledger, outbox and datasets.

    Each line names what was looked at and the layer; a failure comes with its code and what to do.
    Exits with 0 where all is well, 4 where a connection fails, else 1.
    """
    from accord_client.health import examine
    from accord_common.checks.check import tell

    raise typer.Exit(tell(examine(open_home(home)), format_))
