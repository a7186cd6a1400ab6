"""What ends by a date at a registry: its certificate, the authorities, the parties' delegations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from accord_common.enrolment import DELEGATION, Delegation
from accord_common.errors import AccordError
from accord_common.expiry import ROTATE_CA, Daily, Term, of_certificates, of_delegation, tell
from accord_common.fields import now
from accord_common.sentences import Sentence
from accord_server.certificates import RENEW
from accord_server.registry.context import Registry
from accord_server.registry.records.lookup import load
from accord_server.registry.tables import MemberRow, PartnerRow

LOOK_EVERY_S = 3600.0  # a day's warning is at most this late

_VERBS = {"data-holder": "accord-node renew", "aggregator": "accord aggregator renew"}

log = structlog.get_logger(__name__)


async def terms(registry: Registry) -> list[Term]:
    """Everything that ends; of delegations those that somebody relies on."""
    settings = registry.settings
    found = of_certificates(settings.certificate, Sentence.CERTIFICATE, f"{RENEW} FILE")
    found += of_certificates(settings.ca, Sentence.AUTHORITY, ROTATE_CA)
    query = (
        select(PartnerRow)
        .join(MemberRow, MemberRow.party == PartnerRow.id)
        .where(PartnerRow.role.in_(_VERBS), PartnerRow.delegation.is_not(None))
        .order_by(PartnerRow.id)
    )
    async with registry.database.read() as session:
        rows = list((await session.execute(query)).scalars())
        heads = await load(session, [row.delegation for row in rows if row.delegation])
    for row in rows:
        head = heads.get(row.delegation or "")
        if head is not None and head.kind == DELEGATION:
            given = Delegation.from_bytes(head.payload)
            found.append(of_delegation(given, row.name, f"{_VERBS[row.role]}, by {row.name}"))
    return found


@asynccontextmanager
async def told(registry: Registry) -> AsyncIterator[None]:
    """Log what ends, once a day, for the length of a block."""
    ended = asyncio.Event()
    watch = asyncio.create_task(_watch(registry, ended))
    yield
    ended.set()
    await watch


async def _watch(registry: Registry, ended: asyncio.Event) -> None:
    daily = Daily()
    while not ended.is_set():
        moment = now()
        try:
            for term in await terms(registry) if daily.due(moment) else ():
                tell(term, moment)
        except (AccordError, OSError, SQLAlchemyError) as error:
            log.warning("expiry-not-known", detail=str(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), LOOK_EVERY_S)
