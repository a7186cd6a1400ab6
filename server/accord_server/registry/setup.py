"""Making a registry, and repairing one: what is done before it serves."""

import ssl
from pathlib import Path

from sqlalchemy import func, select

from accord_common.api.schemas import Invitation
from accord_common.errors import FormatError, UsageError
from accord_common.fields import now
from accord_common.files import write_secret
from accord_common.identity import SigningKey
from accord_server.ca import fingerprint
from accord_server.registry.db import Database
from accord_server.registry.partners.service import invite
from accord_server.registry.records.rebuild import rebuild
from accord_server.registry.settings import SETTINGS, Settings, load
from accord_server.registry.tables import MemberRow


async def initialise(settings: Settings) -> Invitation:
    """Make the folder, the log key and the database; return the first coordinator's invitation.

    Again, while nobody has joined: a new invitation, everything else stays.

    Raises:
        UsageError: `registry-exists`, `bad-certificate`.
    """
    _check_certificate(settings)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.home.chmod(0o700)
    if (settings.home / SETTINGS).exists():
        settings = load(settings.home)
    else:
        write_secret(settings.log_key, SigningKey.generate().to_pem())
        settings.save()
    database = Database(settings.database)
    try:
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
    finally:
        await database.close()


async def migrate(settings: Settings) -> None:
    """Bring the database to this release's schema; UsageError `wrong-schema` if it is newer."""
    database = Database(settings.database)
    try:
        await database.migrate()
    finally:
        await database.close()


async def rebuild_projections(settings: Settings) -> int:
    """Derive all projections anew; return the number of records."""
    database = Database(settings.database)
    try:
        await database.migrate()
        async with database.write() as session:
            return await rebuild(session)
    finally:
        await database.close()


def _check_certificate(settings: Settings) -> None:
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
