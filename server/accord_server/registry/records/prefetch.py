"""What checks and projections of a run's record will ask for, in one query.

Guarantees: changes nothing but how many statements there are: each row is in the session, as if
asked for by its key; whatever is not there, its reader asks for itself.
"""

from collections.abc import Iterable

from sqlalchemy import and_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_server.registry.budgets.tables import RunBudgetRow
from accord_server.registry.tables import AgreementRow, LeaseRow, RunRow, SiteRow

_HELD = "accord_held"
_ROWS = (
    select(RunRow, AgreementRow, LeaseRow, SiteRow, RunBudgetRow)
    .join(AgreementRow, AgreementRow.hash == RunRow.agreement)
    .outerjoin(LeaseRow, LeaseRow.run == RunRow.id)
    .outerjoin(SiteRow, and_(SiteRow.run == RunRow.id, SiteRow.party == bindparam("party")))
    .outerjoin(
        RunBudgetRow,
        and_(RunBudgetRow.run == RunRow.id, RunBudgetRow.dataset == SiteRow.dataset),
    )
    .where(RunRow.manifest == bindparam("manifest"))
)


async def prefetch(session: AsyncSession, manifest: str, party: str) -> None:
    """Load a run's rows and those of one of its sites."""
    found = await session.execute(_ROWS, {"manifest": manifest, "party": party})
    hold(session, [row for rows in found.all() for row in rows])


def hold(session: AsyncSession, rows: Iterable[object]) -> None:
    """Keep rows in a session to its end: it has those alone that somebody holds."""
    session.info.setdefault(_HELD, []).extend(rows)
