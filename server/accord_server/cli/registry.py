"""`accord registry`: set up, start, look at and repair the registry."""

import asyncio
import socket
from typing import Annotated

import typer

from accord_common.api.client import RegistryClient
from accord_common.cli import BundleArgument, Format, FormatOption, YesOption, emit, verbs
from accord_common.errors import UsageError
from accord_common.exposition import exposed, require_place
from accord_common.fields import now
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
from accord_server.ca import fingerprint
from accord_server.certificates import check_dates
from accord_server.cli.options import MetricsOption
from accord_server.cli.registry_backup import backup, restore
from accord_server.cli.registry_options import (
    HOME,
    CaOption,
    CertificateOption,
    DatabaseOption,
    HomeOption,
    KeyOption,
)
from accord_server.logs import log_as_json
from accord_server.registry import settings as stored
from accord_server.registry.server import Server, listen
from accord_server.registry.settings import Settings
from accord_server.registry.settled import settle, settle_again
from accord_server.registry.setup import check, initialise, migrate, rebuild_projections

app = verbs("Set up and start the registry.")


@app.command(
    epilog="Example: accord registry init --host 0.0.0.0 --url https://registry.example.org:8443 "
    "--cert registry.pem --key registry.key --ca ca.pem"
)
def init(
    certificate: CertificateOption,
    key: KeyOption,
    ca: CaOption,
    home: HomeOption = HOME,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = 8443,
    url: Annotated[
        str, typer.Option(help="Address that partners use; https://HOST:PORT where not given.")
    ] = "",
    database_url: DatabaseOption = "",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a registry and print the first coordinator's one-time invitation."""
    if not url and host in {"0.0.0.0", "::"}:
        raise UsageError(
            "no-url", f"{host} is no address that partners can use", hint="Add --url https://..."
        )
    port = port or _free_port(host)
    settings = Settings(
        home=home.expanduser().absolute(),
        host=host,
        port=port,
        url=url or f"https://{host}:{port}",
        certificate=certificate.absolute(),
        key=key.absolute(),
        ca=ca.absolute(),
        database_url=database_url,
    )
    log_as_json()
    invitation = asyncio.run(initialise(settings))
    settings = stored.load(settings.home)
    emit(
        {
            "home": str(settings.home),
            "url": settings.url,
            "ca": fingerprint(settings.ca.read_bytes()),
            "log_key": settings.read_log_key().public,
            "invitation": invitation.text,
            "expires": invitation.expires,
        },
        format_,
        f"Registry in {settings.home}, to serve {settings.url}\n\n"
        f"The coordinator's invitation, for one use, until {invitation.expires}:\n\n"
        f"{invitation.text}\n\nKeep a copy of {settings.log_key} apart: no backup holds it, and "
        f"none is restored without it.\n\nNext: accord registry start --home {settings.home}",
    )


@app.command(epilog="Example: accord registry start --metrics 127.0.0.1:9464")
def start(
    metrics: MetricsOption = "",
    home: HomeOption = HOME,
    log_file: LogFileOption = None,
    log_mib: LogSizeOption = LOG_MIB,
    log_backups: LogBackupsOption = LOG_BACKUPS,
    debug: DebugOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Serve until SIGTERM or Ctrl-C; logs go to stderr, and to --log-file, as JSON lines.

    The file is rotated by size; SIGHUP opens it anew, and reads the certificate
    again, after `accord ca renew`.
    """
    require_place(metrics)
    settings = stored.load(home.expanduser().absolute())
    log_as_json(LogFile.given(log_file, log_mib, log_backups), debug=debug)

    def listening() -> None:
        settling.append(asyncio.create_task(settle_again(server.registry)))
        emit(
            {
                "status": "listening",
                "url": settings.url,
                "port": settings.port,
                "metrics_port": metrics_port,
            },
            format_,
            f"Listening on {settings.url}",
        )

    settling: list[asyncio.Task[None]] = []  # the loop holds none of its tasks, and cancels all
    check_dates(settings.certificate, now())
    asyncio.run(check(settings))
    with listen(settings) as bound:
        asyncio.run(settle(settings))  # who connects meanwhile waits
        server = Server(settings, listening)
        on_hangup(server.reload)
        with exposed(metrics, server.metrics) as metrics_port:
            server.run(sockets=[bound])


@app.command(epilog="Example: accord registry status")
def status(home: HomeOption = HOME, format_: FormatOption = Format.TEXT) -> None:
    """Ask the running registry whether it can serve."""
    settings = stored.load(home.expanduser().absolute())
    with RegistryClient(settings.url, settings.ca.read_bytes(), timeout_s=5) as client:
        client.ready()
        info = client.info()
    emit(
        {"status": "ready", "url": settings.url} | info.model_dump(),
        format_,
        f"Ready at {settings.url}: release {info.version}, protocol {info.protocol}",
    )


@app.command("migrate", epilog="Example: accord registry migrate")
def migrate_(home: HomeOption = HOME, format_: FormatOption = Format.TEXT) -> None:
    """Bring the database of an older release to this one; stop the registry and back up first."""
    settings = stored.load(home.expanduser().absolute())
    log_as_json()
    found = asyncio.run(migrate(settings))
    emit(
        {"before": found.revision, "release": found.release, "changed": found.state == "older"},
        format_,
        f"Brought from schema {found.revision} to this release's"
        if found.state == "older"
        else "The database has this release's schema already",
    )


@app.command(epilog="Example: accord registry rebuild")
def rebuild(home: HomeOption = HOME, format_: FormatOption = Format.TEXT) -> None:
    """Derive everything that follows from the signed records anew."""
    settings = stored.load(home.expanduser().absolute())
    log_as_json()
    count = asyncio.run(rebuild_projections(settings))
    emit({"records": count}, format_, f"Rebuilt from {count} records")


app.command(
    epilog="Example: accord registry backup registry-2026-11-22.tar",
)(backup)
app.command(
    epilog="Example: accord registry restore registry-2026-11-22.tar --log-key log.pem "
    "--cert registry.pem --key registry.key --ca ca.pem"
)(restore)


@app.command(
    epilog="Example: accord registry support-bundle registry.zip --log-file registry.jsonl"
)
def support_bundle(
    file: BundleArgument,
    log_file: LogFileOption = None,
    home: HomeOption = HOME,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write versions, states, counts and the log's events for whoever helps you.

    What is in it is listed before it is written. No name, no address of a database, no key, no
    token, no model and no message is in it.
    """
    from accord_common.support_cli import offer
    from accord_server.registry.support import collect

    offer(
        collect(stored.load(home.expanduser().absolute()), log_file), file, yes=yes, format_=format_
    )


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
