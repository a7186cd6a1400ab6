"""`accord doctor`: what is wrong with the folder of any party but a node, or of a registry."""

from pathlib import Path
from typing import Annotated

import typer

from accord_common.checks.check import tell
from accord_common.cli import Format, FormatOption
from accord_common.home import Home

app = typer.Typer(add_completion=False)

_REGISTRY = "registry.json"  # what makes a folder a registry's


@app.command(epilog="Example: accord doctor --home ~/.accord-registry")
def doctor(
    home: Annotated[
        Path,
        typer.Option(
            "--home",
            envvar="ACCORD_HOME",
            help="The folder of a coordinator, an auditor, an aggregator or a registry.",
        ),
    ] = Path("~/.accord"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Walk along every connection and look at keys, clock, disk and database.

    Each line names what was looked at and the layer; a failure comes with its code and what to do.
    Exits with 0 where all is well, 4 where a connection fails, else 1. Nodes: accord-node check.
    """
    folder = home.expanduser().absolute()
    if (folder / _REGISTRY).exists():
        from accord_server.registry import doctor as registry
        from accord_server.registry.settings import load

        raise typer.Exit(tell(registry.examine(load(folder)), format_))
    from accord_server import doctor as party

    raise typer.Exit(tell(party.examine(Home.open(folder)), format_))
