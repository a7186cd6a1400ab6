"""Which sites of runs are shut out: their key was revoked, or their party is suspended.

Guarantees: a site that is barred posts no consent and no receipt, whoever holds its key or token;
the aggregator is told with the run, and leaves it out. Where the aggregator itself is barred, nodes
are told to stop.
"""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.enrolment import REVOCATION
from accord_common.errors import PolicyError
from accord_common.sentences import Sentence, say
from accord_server.registry.tables import PartnerRow, RecordRow, SiteRow, SuspensionRow

REVOKED, SUSPENDED = "key-revoked", "party-suspended"


async def bars(session: AsyncSession, runs: Collection[str]) -> dict[tuple[str, str], str]:
    """Return (run, party) -> code of the barred sites of these runs."""
    query = (
        select(SiteRow.run, SiteRow.party, SiteRow.revoked)
        .outerjoin(SuspensionRow, SuspensionRow.party == SiteRow.party)
        .where(SiteRow.run.in_(runs), SiteRow.revoked | SuspensionRow.party.is_not(None))
    )
    return {
        (run, party): REVOKED if revoked else SUSPENDED
        for run, party, revoked in (await session.execute(query)).all()
    }


async def aggregator_bars(
    session: AsyncSession, parties: Collection[str]
) -> dict[str, tuple[str, str]]:
    """Return party -> (code, reason) of aggregators whose runs nodes must leave for now."""
    query = (
        select(PartnerRow.id, PartnerRow.name, SuspensionRow.party.is_not(None))
        .outerjoin(RecordRow, RecordRow.hash == PartnerRow.delegation)
        .outerjoin(SuspensionRow, SuspensionRow.party == PartnerRow.id)
        .where(PartnerRow.id.in_(parties))
        .where((RecordRow.kind == REVOCATION) | SuspensionRow.party.is_not(None))
    )
    return {
        party: (SUSPENDED, say(Sentence.AGGREGATOR_BARRED, name=name))
        if suspended
        else (REVOKED, say(Sentence.KEY_REVOKED, name=name))
        for party, name, suspended in (await session.execute(query)).all()
    }


def require_key(site: SiteRow) -> None:
    """Refuse what a revoked key signed: PolicyError `key-revoked`."""
    if site.revoked:
        raise PolicyError(
            REVOKED,
            f"{site.party} has revoked the key that the manifest names, or exchanged it",
            hint="The institution takes part again in runs that name its new key.",
        )


async def require_admitted(session: AsyncSession, parties: Collection[str]) -> None:
    """Refuse a run in which a suspended party would take part: PolicyError `party-suspended`."""
    query = select(SuspensionRow).where(SuspensionRow.party.in_(parties))
    row = (await session.execute(query.order_by(SuspensionRow.party).limit(1))).scalar_one_or_none()
    if row is not None:
        raise PolicyError(
            SUSPENDED,
            f"{row.party} is suspended: {row.reason}",
            hint="Plan without it, or let it in again: accord partner readmit",
        )
