"""Reading records."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import RecordView
from accord_common.envelope import Envelope
from accord_common.fields import format_time
from accord_server.registry.tables import RecordRow


async def page(
    session: AsyncSession, after: int, limit: int, kind: str | None, run: str | None
) -> list[RecordView]:
    """Return records behind sequence `after`, in order."""
    query = select(RecordRow).where(RecordRow.sequence > after).order_by(RecordRow.sequence)
    if kind is not None:
        query = query.where(RecordRow.kind == kind)
    if run is not None:
        query = query.where(RecordRow.run == run)
    return [view(row) for row in (await session.execute(query.limit(limit))).scalars()]


def view(row: RecordRow) -> RecordView:
    """Show a record."""
    return RecordView(
        sequence=row.sequence,
        hash=row.hash,
        kind=row.kind,
        run=row.run,
        received=format_time(row.received),
        leaf=row.leaf,
        envelope=Envelope.from_bytes(row.envelope),
    )
