"""What state a fully signed agreement is in: a function of its projection and the time."""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import AgreementStatus
from accord_common.errors import PolicyError, VerificationError
from accord_common.fields import CLOCK_TOLERANCE_S
from accord_server.registry.tables import AgreementRow

_TOLERANCE = timedelta(seconds=CLOCK_TOLERANCE_S)


def status_of(row: AgreementRow, moment: datetime) -> AgreementStatus:
    """Return the state; `proposed` also while all have signed and its dates lie ahead."""
    if row.withdrawal is not None:
        return "withdrawn"
    if row.superseded_from is not None and row.superseded_from <= moment + _TOLERANCE:
        return "superseded"
    if row.valid_until + _TOLERANCE < moment:
        return "expired"
    return "active" if row.valid_from <= moment + _TOLERANCE else "proposed"


async def require_active(session: AsyncSession, agreement_hash: str, moment: datetime) -> None:
    """Raise PolicyError `agreement-not-active` unless runs may start under the agreement."""
    row = await session.get(AgreementRow, agreement_hash)
    if row is None:
        raise VerificationError(
            "missing-predecessor", f"agreement {agreement_hash[:16]} is not fully signed here"
        )
    if (status := status_of(row, moment)) != "active":
        raise PolicyError(
            "agreement-not-active",
            f"agreement {agreement_hash[:16]} is {status}",
            hint="Runs start under the active version only.",
        )
