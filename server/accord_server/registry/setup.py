"""Making a registry, and repairing one: what is done before it serves."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import func, select

from accord_common.api.membership import Invitation
from accord_common.errors import FormatError, UsageError
from accord_common.fields import now
from accord_common.files import write_secret
from accord_common.identity import SigningKey
from accord_server.ca import fingerprint
from accord_server.registry.blocking import finish
from accord_server.registry.db import Database
from accord_server.registry.partners.service import invite
from accord_server.registry.records.rebuild import rebuild
from accord_server.registry.schema import Found, refusal
from accord_server.registry.settings import SETTINGS, Settings, load
from accord_server.registry.tables import MemberRow


async def initialise(settings: Settings) -> Invitation:
    """Make the folder, the log key and the database; return the first coordinator's invitation.

    Again, while nobody has joined: a new invitation, everything else stays.

    Raises:
        UsageError: `registry-exists`, `bad-certificate`, `foreign-database`, `wrong-schema`.
    """
    check_certificate(settings)
    again = (settings.home / SETTINGS).exists()
    if again:
        settings = load(settings.home)
    else:
        make_home(settings)
    async with using(settings.open_patiently()) as database:
        if not again:
            await require_empty(database, settings)
            if not settings.log_key.exists():
                write_secret(settings.log_key, SigningKey.generate().to_pem())
            settings.save()
        await database.migrate()
        async with database.write() as session:
            if (await session.execute(select(func.count(MemberRow.party)))).scalar_one():
                raise UsageError(
                    "registry-exists",
                    f"the registry in {settings.home} has members",
                    hint="Start it with `accord registry start`; its coordinator invites others.",
                )
            pinned = fingerprint(settings.ca.read_bytes())
            return invite(session, settings.url, pinned, None, None, now())


async def migrate(settings: Settings) -> Found:
    """Bring the database to this release's schema; return what was found.

    Raises:
        UsageError: `wrong-schema` where it is newer, or empty; `foreign-database`.
    """
    async with using(settings.open_patiently()) as database:
        found = await database.look()
        if found.state == "empty":
            raise refusal(found)
        return await database.migrate()


async def check(settings: Settings) -> None:
    """Raise UsageError unless the database has this release's schema."""
    async with using(settings.open_database()) as database:
        await database.check()


async def rebuild_projections(settings: Settings) -> int:
    """Derive all projections anew; return the number of records."""
    async with using(settings.open_patiently()) as database:
        await database.check()
        return await database.append(lambda session: finish(rebuild(session)))


@asynccontextmanager
async def using(database: Database) -> AsyncIterator[Database]:
    """Close a database at the end of a block."""
    try:
        yield database
    finally:
        await database.close()


async def require_empty(database: Database, settings: Settings) -> None:
    """Raise UsageError `registry-exists`, or `schema`'s, unless nothing is in the database."""
    found = await database.look()
    if found.state == "foreign":
        raise refusal(found)
    if found.state != "empty":
        raise UsageError(
            "registry-exists",
            "the database holds a registry already",
            hint=f"Name the folder that belongs to it, not {settings.home}, or another database.",
        )


def make_home(settings: Settings) -> None:
    """Make the registry's folder, for its owner alone."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.home.chmod(0o700)


def check_certificate(settings: Settings) -> None:
    """Raise UsageError `no-file`, `bad-certificate` unless the three PEM files fit."""
    for path in (settings.certificate, settings.key, settings.ca):
        _require_file(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        fingerprint(settings.ca.read_bytes())
    except (ssl.SSLError, FormatError) as error:
        raise UsageError(
            "bad-certificate",
            f"{settings.certificate} and {settings.key} do not fit, or {settings.ca} is no CA: "
            f"{error}",
            hint="Issue them with `accord ca issue`.",
        ) from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise UsageError(
            "no-file", f"{path} is not there", hint="Make it with `accord ca init` and `ca issue`."
        )
