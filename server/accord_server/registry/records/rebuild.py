"""Derive all projections anew from `records`."""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_server.registry.projected import PROJECTIONS
from accord_server.registry.records.append import leaf_hash
from accord_server.registry.records.projections import project
from accord_server.registry.tables import RecordRow


async def rebuild(session: AsyncSession) -> int:
    """Empty the projections and replay every record; return how many there are.

    Raises:
        VerificationError: `damaged-record` where a record is not what its hashes say.
    """
    for table in reversed(PROJECTIONS):
        await session.execute(delete(table))
    query = select(RecordRow).order_by(RecordRow.sequence)
    count = 0
    for row in (await session.execute(query)).scalars():
        count += 1
        envelope = Envelope.from_bytes(row.envelope)
        found = (count, envelope.kind, envelope.hash, leaf_hash(row.envelope))
        if found != (row.sequence, row.kind, row.hash, row.leaf):
            raise VerificationError("damaged-record", f"record {row.sequence} is not as stored")
        await project(session, row, envelope)
    return count
