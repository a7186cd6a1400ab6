"""What state a fully signed agreement is in: a function of its projection and the time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import AgreementStatus
from accord_common.errors import PolicyError, VerificationError
from accord_common.fields import CLOCK_TOLERANCE_S, format_time
from accord_common.sentences import Said, Sentence, say
from accord_server.registry.tables import AgreementPartyRow, AgreementRow

_TOLERANCE = timedelta(seconds=CLOCK_TOLERANCE_S)


@dataclass(frozen=True, slots=True)
class Ended:
    """An agreement that time ended, for every run under it: since when, and why."""

    since: datetime
    why: Said


def status_of(row: AgreementRow, moment: datetime, *, suspended: bool) -> AgreementStatus:
    """Return the state; `proposed` also while all have signed and its dates lie ahead."""
    if row.withdrawal is not None:
        return "withdrawn"
    if row.superseded_from is not None and row.superseded_from <= moment + _TOLERANCE:
        return "superseded"
    if row.valid_until + _TOLERANCE < moment:
        return "expired"
    if suspended:
        return "suspended"
    return "active" if row.valid_from <= moment + _TOLERANCE else "proposed"


async def suspended_of(session: AsyncSession, hashes: Iterable[str]) -> frozenset[str]:
    """Return those agreements that a party suspends now."""
    query = select(AgreementPartyRow.agreement).where(
        AgreementPartyRow.agreement.in_(set(hashes)), AgreementPartyRow.suspended.is_(True)
    )
    return frozenset((await session.execute(query)).scalars())


async def ended(session: AsyncSession, hashes: Iterable[str], moment: datetime) -> dict[str, Ended]:
    """Return those agreements that a newer version or their last day ended, by hash."""
    query = select(AgreementRow).where(AgreementRow.hash.in_(set(hashes)))
    found = {}
    for row in (await session.execute(query)).scalars():
        status = status_of(row, moment, suspended=False)
        if status == "superseded" and row.superseded_from is not None:
            why = say(Sentence.REPLACED, version=row.version + 1)
            found[row.hash] = Ended(row.superseded_from, why)
        elif status == "expired":
            why = say(Sentence.AGREEMENT_OVER, time=format_time(row.valid_until))
            found[row.hash] = Ended(row.valid_until + _TOLERANCE, why)
    return found


async def require_active(session: AsyncSession, agreement_hash: str, moment: datetime) -> None:
    """Raise PolicyError `agreement-not-active` unless runs may start under the agreement."""
    row = await session.get(AgreementRow, agreement_hash)
    if row is None:
        raise VerificationError(
            "missing-predecessor", f"agreement {agreement_hash[:16]} is not fully signed here"
        )
    suspended = bool(await suspended_of(session, [agreement_hash]))
    if (status := status_of(row, moment, suspended=suspended)) != "active":
        raise PolicyError(
            "agreement-not-active",
            f"agreement {agreement_hash[:16]} is {status}",
            hint="Runs start under the active version only.",
        )
