"""`accord aggregator`: set up, sign, start and look at the aggregator."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from accord_common import delegating, revoking_cli
from accord_common.cli import (
    BundleArgument,
    Format,
    FormatOption,
    PassphraseOption,
    ReasonOption,
    RotateKeyOption,
    YesOption,
    emit,
    note,
    read_passphrase,
    table,
    verbs,
)
from accord_common.errors import ConflictError, UsageError
from accord_common.fields import now
from accord_common.home import Home
from accord_common.logs import (
    LOG_BACKUPS,
    LOG_MIB,
    DebugOption,
    LogBackupsOption,
    LogFile,
    LogFileOption,
    LogSizeOption,
    on_hangup,
)
from accord_server.cli.join import join, make_home
from accord_server.cli.options import (
    ContactOption,
    CountryOption,
    InvitationArgument,
    MetricsOption,
    NameOption,
    WholeHashArgument,
)
from accord_server.cli.signing import brief, sign_agreement, signatures

app = verbs("Set up and start the aggregator.")

_HOME = Path("~/.accord-aggregator")
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="ACCORD_AGGREGATOR_HOME", help="The aggregator's folder.")
]


@app.command(epilog="Example: accord aggregator init --name 'Computing centre' --jurisdiction DE")
def init(
    name: NameOption,
    jurisdiction: CountryOption,
    contact: ContactOption = "",
    home: HomeOption = _HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make the aggregator's keys and folder; the identity key is sealed with a passphrase."""
    make_home(
        home,
        "aggregator",
        name=name,
        jurisdiction=jurisdiction,
        contact=contact,
        passphrase_file=passphrase_file,
        format_=format_,
        following="accord aggregator enroll INVITATION",
    )


@app.command(epilog="Example: accord aggregator enroll accord-invite:eyJjYSI6...")
def enroll(
    invitation: InvitationArgument,
    home: HomeOption = _HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Join the registry that an invitation names, and pin its certificate authority."""
    join(_open(home), invitation, passphrase_file, format_)


@app.command(epilog="Example: accord aggregator sign 3f9a0c21... (all 64 digits)")
def sign(
    agreement: WholeHashArgument,
    home: HomeOption = _HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Sign an agreement: its runs may use this aggregator from then on."""
    view = sign_agreement(_open(home), agreement, passphrase_file, yes=yes)
    emit(brief(view), format_, signatures(view))


@app.command(
    epilog="Example: accord aggregator start --listen 0.0.0.0:9092 --address agg.example.org:9092 "
    "--cert agg.pem --key agg.key"
)
def start(
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on; port 0 takes a free one.")],
    certificate: Annotated[Path, typer.Option("--cert", help="Server certificate, PEM.")],
    key: Annotated[Path, typer.Option("--key", help="The certificate's key, PEM.")],
    ca: Annotated[
        Path | None, typer.Option("--ca", help="CA that nodes trust; else the one pinned here.")
    ] = None,
    address: Annotated[
        str, typer.Option(help="HOST:PORT at which nodes reach it, where --listen does not say so.")
    ] = "",
    metrics: MetricsOption = "",
    home: HomeOption = _HOME,
    log_file: LogFileOption = None,
    log_mib: LogSizeOption = LOG_MIB,
    log_backups: LogBackupsOption = LOG_BACKUPS,
    debug: DebugOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Serve runs until SIGTERM or Ctrl-C; logs go to stderr, and to --log-file, as JSON lines.

    The file is rotated by size; SIGHUP opens it anew, and reads the certificate
    again, after `accord ca renew`.
    """
    from accord_server.logs import log_as_json

    log_as_json(LogFile.given(log_file, log_mib, log_backups), debug=debug)

    opened = _open(home)
    os.environ["FLWR_HOME"] = str(opened.path / "flower")  # flwr looks when it is imported

    from accord_server.aggregator.process import open_service

    with open_service(
        opened,
        listen,
        certificate=certificate,
        key=key,
        ca=ca or opened.ca_path,
        address=address,
        metrics=metrics,
    ) as service:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.terminate())
        on_hangup(service.reload)
        offer = service.publish()
        where = service.endpoint
        answer = {
            "status": "ready",
            "party": opened.profile.party,
            "address": where.address,
            "tls_spki": where.tls_spki,
            "offer": offer,
            "metrics_port": service.metrics_port,
        }
        emit(answer, format_, f"{opened.profile.name} is ready at {where.address}")
        service.serve()


@app.command(epilog="Example: accord aggregator renew (yearly; it may run meanwhile)")
def renew(
    rotate_key: RotateKeyOption = False,
    home: HomeOption = _HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Delegate the aggregator's key for another year; runs go on, and new offers follow.

    With --rotate-key it gets a new key, and the old one ends: stop it first. Runs rest on keys of
    their own, and go on when it is started again.
    """
    opened = _open(home)
    with ExitStack() as stack:
        if rotate_key or delegating.is_exchanging(opened):
            from accord_server.aggregator.locking import lock

            stack.callback(os.close, lock(opened))
        done = delegating.renew(
            opened,
            stack.enter_context(opened.registry()),
            read_passphrase(passphrase_file),
            rotate_key=rotate_key,
            before_rotating=lambda: None,
            moment=now(),
        )
    emit(*delegating.describe(done, "accord aggregator enroll INVITATION", format_))


@app.command(epilog="Example: accord aggregator revoke --reason 'the server was stolen'")
def revoke(
    reason: ReasonOption,
    home: HomeOption = _HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take back the aggregator's key and tokens, at once: its server was lost, or broken into."""
    opened = _open(home)
    revoking_cli.revoke(
        opened,
        reason,
        passphrase_file,
        yes=yes,
        format_=format_,
        whose=opened.profile.name,
        renew="accord aggregator renew",
    )


@app.command(epilog="Example: accord aggregator status --format json")
def status(home: HomeOption = _HOME, format_: FormatOption = Format.TEXT) -> None:
    """Show whether the aggregator runs, and the runs that name it."""
    from accord_server.aggregator.locking import lock

    opened = _open(home)
    try:
        os.close(lock(opened))
        running = False
    except ConflictError:
        running = True
    with opened.registry() as client:
        runs = client.runs()
    answer = {
        "party": opened.profile.party,
        "name": opened.profile.name,
        "registry": opened.profile.registry_url,
        "running": running,
        "runs": [
            {"id": run.id, "title": run.title, "state": run.state, "round": run.round}
            for run in runs
        ],
    }
    if format_ is Format.TEXT:
        note(f"{opened.profile.name} {'is running' if running else 'is not running'}")
    rows = [[run.id, run.title, run.state, f"{run.round}/{run.rounds}"] for run in runs]
    emit(answer, format_, table("run", "title", "state", "round", rows=rows))


@app.command(epilog="Example: accord aggregator support-bundle aggregator.zip")
def support_bundle(
    file: BundleArgument,
    log_file: LogFileOption = None,
    home: HomeOption = _HOME,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write versions, states, counts and the log's events for whoever helps you.

    What is in it is listed before it is written. No name, no address of a database, no key, no
    token, no model and no message is in it.
    """
    from accord_common.support_cli import offer
    from accord_server.aggregator.support import collect

    offer(collect(_open(home), log_file), file, yes=yes, format_=format_)


def _open(path: Path) -> Home:
    home = Home.open(path.expanduser())
    if home.profile.role != "aggregator":
        raise UsageError(
            "wrong-home",
            f"{home.path} belongs to a {home.profile.role}",
            hint="Name the aggregator's folder with --home.",
        )
    return home
