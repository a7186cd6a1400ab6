"""`accord ca`: make the certificate authority, issue certificates for the servers."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from accord_common.cli import Format, FormatOption, emit, verbs
from accord_common.fields import format_time, now
from accord_server.ca import Issued, create_ca, issue

app = verbs("Make the certificate authority and servers' certificates.")

_HOME = Path("~/.accord-ca")
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="ACCORD_CA_HOME", help="The CA's folder; keep it offline.")
]


@app.command(epilog="Example: accord ca init --name 'Tumour study'")
def init(
    home: HomeOption = _HOME,
    name: Annotated[str, typer.Option(help="Name in the certificate.")] = "Accord CA",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a certificate authority, good for 10 years."""
    made = create_ca(home.expanduser(), name, now())
    emit(
        _view(made),
        format_,
        f"CA certificate {made.certificate}\nfingerprint    {made.fingerprint}\n"
        f"key            {made.key} (mode 0600; whoever has it can pose as any server)",
    )


@app.command(
    "issue",
    epilog="Example: accord ca issue registry.example.org 192.0.2.7 --out . --name registry",
)
def issue_(
    hosts: Annotated[list[str], typer.Argument(help="DNS names and IP addresses of the server.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.pem and NAME.key.")],
    home: HomeOption = _HOME,
    name: Annotated[str, typer.Option(help="Name of the two files.")] = "server",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Issue a server certificate with a new key, good for 397 days."""
    made = issue(home.expanduser(), hosts, out / f"{name}.pem", out / f"{name}.key", now())
    emit(
        _view(made),
        format_,
        f"certificate {made.certificate}\nkey         {made.key} (mode 0600)\n"
        f"names       {', '.join(hosts)}\nexpires     {format_time(made.expires)}",
    )


def _view(made: Issued) -> dict[str, Any]:
    paths = {"certificate": str(made.certificate), "key": str(made.key)}
    return asdict(made) | paths | {"expires": format_time(made.expires)}
