"""Derive all projections, and the hashes of the log's subtrees, anew from `records`."""

from sqlalchemy import bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.log.merkle import Frontier, leaf_hash
from accord_server.registry.log.repository import grow
from accord_server.registry.log.tables import LogNodeRow
from accord_server.registry.projected import PROJECTIONS
from accord_server.registry.records.projections import project
from accord_server.registry.tables import RecordRow

_AT_ONCE = 500  # records, each at most 1 MiB
_PAGE = (
    select(RecordRow)
    .where(RecordRow.sequence > bindparam("after"))
    .order_by(RecordRow.sequence)
    .limit(_AT_ONCE)
)


async def rebuild(session: AsyncSession) -> int:
    """Empty the projections and replay every record; return how many there are.

    Raises:
        VerificationError: `damaged-record` where a record is not what its hashes say.
    """
    for table in reversed(PROJECTIONS):
        await session.execute(delete(table))
    await session.execute(delete(LogNodeRow))
    edge = Frontier()
    count = 0
    while rows := list((await session.execute(_PAGE, {"after": count})).scalars()):
        for row in rows:
            count += 1
            envelope = Envelope.from_bytes(row.envelope)
            found = (count, envelope.kind, envelope.hash, leaf_hash(row.envelope).hex())
            if found != (row.sequence, row.kind, row.hash, row.leaf):
                raise VerificationError("damaged-record", f"record {row.sequence} is not as stored")
            grow(session, edge, row.leaf)
            await project(session, row, envelope)
            await session.flush()
    return count
