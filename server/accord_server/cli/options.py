"""Options and openers that the coordinator's and auditor's verbs share."""

from pathlib import Path
from typing import Annotated

import typer

from accord_common.home import Home

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="ACCORD_HOME", help="This party's folder."),
]
DEFAULT_HOME = Path.home() / ".accord"


def open_home(path: Path) -> Home:
    """Open the party's folder."""
    return Home.open(path.expanduser())
