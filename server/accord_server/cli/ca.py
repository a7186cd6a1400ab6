"""`accord ca`: the certificate authority, its servers' certificates, and its successor."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.x509 import Certificate

from accord_common.api.membership import TrustView
from accord_common.api.schemas import FINAL_STATES
from accord_common.authorities import fingerprint_of
from accord_common.cli import Format, FormatOption, YesOption, confirm, emit, note, table, verbs
from accord_common.errors import AccordError, ConflictError, UsageError
from accord_common.expiry import Term
from accord_common.fields import format_time, now, parse_time
from accord_common.home import Home
from accord_server.ca import Issued, authorities, create_ca
from accord_server.certificates import RENEW, IssuedLine, issue, issued, renew
from accord_server.cli.options import DEFAULT_HOME as PARTY_HOME
from accord_server.rotation import retire_ca, rotate_ca

app = verbs("Make the certificate authority and servers' certificates, and exchange them.")

_HOME = Path("~/.accord-ca")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="ACCORD_CA_HOME", help="The CA's folder; keep it offline.")
]
PartyOption = Annotated[
    Path, typer.Option("--party", help="The coordinator's folder, to ask who trusts which CA.")
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
    if not _FILE_NAME.fullmatch(name):
        raise UsageError(
            "bad-name",
            f"{name!r} is no name for a file: letters, digits, '.', '_' and '-', 64 at most",
            hint="The folder goes to --out.",
        )
    made = issue(home.expanduser(), hosts, out / f"{name}.pem", out / f"{name}.key", now())
    emit(
        _view(made),
        format_,
        f"certificate {made.certificate}\nkey         {made.key} (mode 0600)\n"
        f"names       {', '.join(hosts)}\nexpires     {format_time(made.expires)}",
    )


@app.command("renew", epilog="Example: accord ca renew registry.pem aggregator.pem")
def renew_(
    certificates: Annotated[list[Path], typer.Argument(help="Certificates that it issued.")],
    home: HomeOption = _HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Issue certificates anew, for the same names and keys, in the place of their files.

    Offers and runs name the aggregator's key, so that runs under way go on. A server takes its
    certificate up on SIGHUP, or when it is started again.
    """
    made = [renew(home.expanduser(), path, now()) for path in certificates]
    lines = [f"{one.certificate} until {format_time(one.expires)}" for one in made]
    lines.append("Bring them to their servers, then: kill -HUP, or a restart.")
    emit([_view(one) for one in made], format_, "\n".join(lines))


@app.command(epilog="Example: accord ca rotate")
def rotate(
    home: HomeOption = _HOME, yes: YesOption = False, format_: FormatOption = Format.TEXT
) -> None:
    """Make the authority's successor; both are trusted until the former one is retired.

    Bring the new ca.pem to the registry, and renew the servers' certificates. Nodes, aggregator and
    partners take the successor over by themselves; nobody is shut out meanwhile.
    """
    folder = home.expanduser()
    confirm("Make a new certificate authority?", yes=yes)
    made = rotate_ca(folder, now())
    files = " ".join(line.file for line in issued(folder, now())) or "FILE ..."
    emit(
        _view(made),
        format_,
        f"New authority {made.fingerprint}\n"
        f"1. Bring {made.certificate} to the registry, in the place of its CA file.\n"
        f"2. accord ca renew {files}\n"
        "3. See who has taken it over: accord ca status\n"
        "4. Then: accord ca retire",
    )


@app.command(epilog="Example: accord ca retire")
def retire(
    home: HomeOption = _HOME,
    party: PartyOption = PARTY_HOME,
    even_so: Annotated[
        bool, typer.Option("--even-so", help="Also where partners would be shut out.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Drop the former authority, once every partner trusts the present one.

    Refused while a partner has not said so, a server shows a certificate of the former one, or a
    run is open. Who is shut out all the same joins again with a new invitation.
    """
    folder = home.expanduser()
    own = fingerprint_of(authorities(folder)[-1])
    with Home.open(party.expanduser()).registry() as client:
        behind = [one.name for one in client.trusts() if own not in one.ca]
        running = [run.title for run in client.runs() if run.state not in FINAL_STATES]
    if behind and not even_so:
        raise ConflictError(
            "partners-behind",
            f"{', '.join(behind)} have not taken the present authority over",
            hint="They do so once connected, or when they next use accord. Or --even-so.",
        )
    if running and not even_so:
        raise ConflictError(
            "runs-open",
            f"{', '.join(running)} are not over, and nodes may hold connections for them",
            hint="Wait for their end.",
        )
    made = retire_ca(folder, now())
    text = f"Only {made.fingerprint} is left.\nBring {made.certificate} to the registry."
    if behind:
        text += f"\nShut out, until they join again: {', '.join(behind)}"
    emit(_view(made) | {"shut_out": behind}, format_, text)


@app.command(epilog="Example: accord ca status --format json")
def status(
    home: HomeOption = _HOME,
    party: PartyOption = PARTY_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show authorities, the certificates under each and until when, and who trusts which.

    What ends within 30 days is named, with the command that renews it.
    """
    folder, moment = home.expanduser(), now()
    found = authorities(folder)
    present = fingerprint_of(found[-1])
    servers = issued(folder, moment)
    trusts = _trusts(party)
    shown: list[dict[str, Any]] = [
        {
            "fingerprint": fingerprint_of(one),
            "name": one.subject.rfc4514_string().removeprefix("CN="),
            "expires": format_time(one.not_valid_after_utc),
            "present": one == found[-1],
        }
        for one in found
    ]
    answer: dict[str, Any] = {
        "authorities": shown,
        "servers": [line.model_dump() for line in servers],
        "expiring": [
            {"trouble": trouble, "renew": term.renew}
            for term in _terms(found[-1], servers)
            if (trouble := term.trouble(moment)) is not None
        ],
        "partners": None
        if trusts is None
        else [one.model_dump() | {"ready": present in one.ca} for one in trusts],
    }
    rows = [
        (one["fingerprint"][:16], one["name"], one["expires"], "" if one["present"] else "former")
        for one in shown
    ]
    parts = [
        table("authority", "name", "until", "", rows=rows),
        table(
            *("certificate", "names", "until", "authority"),
            rows=[
                (line.file, ", ".join(line.hosts), line.expires, line.authority[:16])
                for line in servers
            ],
        ),
    ]
    if trusts is not None:
        ready = [(one.name, "yes" if present in one.ca else "no", one.told) for one in trusts]
        parts.append(table("partner", "trusts the present one", "said so", rows=ready))
    if answer["expiring"]:
        parts.append("\n".join(f"{one['trouble']}: {one['renew']}" for one in answer["expiring"]))
    emit(answer, format_, "\n\n".join(parts))


def _terms(present: Certificate, servers: list[IssuedLine]) -> list[Term]:
    """What ends; the former authority is to go anyway."""
    return [
        Term("the certificate authority", present.not_valid_after_utc, "accord ca rotate"),
        *(
            Term(f"the certificate {line.file}", parse_time(line.expires), f"{RENEW} {line.file}")
            for line in servers
        ),
    ]


def _trusts(party: Path) -> list[TrustView] | None:
    """Ask the registry, where this is also the coordinator's machine and it answers."""
    try:
        with Home.open(party.expanduser()).registry() as client:
            return client.trusts()
    except AccordError as error:
        note(f"Who trusts which authority is not known: {error.message} [{error.code}]")
        return None


def _view(made: Issued) -> dict[str, Any]:
    key = None if made.key is None else str(made.key)
    paths = {"certificate": str(made.certificate), "key": key}
    return asdict(made) | paths | {"expires": format_time(made.expires)}
