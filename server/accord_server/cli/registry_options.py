"""Options that several verbs of `accord registry` share."""

from pathlib import Path
from typing import Annotated

import typer

HOME = Path("~/.accord-registry")
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="ACCORD_REGISTRY_HOME", help="The registry's folder.")
]
CertificateOption = Annotated[Path, typer.Option("--cert", help="Server certificate, PEM.")]
KeyOption = Annotated[Path, typer.Option("--key", help="The certificate's key, PEM.")]
CaOption = Annotated[Path, typer.Option("--ca", help="CA certificate, PEM; invitations pin it.")]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="ACCORD_REGISTRY_DATABASE_URL",
        help="postgresql://USER@HOST:PORT/NAME, without a password: that goes into "
        "passfile=/path, ~/.pgpass or $PGPASSWORD. A file in the folder where not given.",
    ),
]
