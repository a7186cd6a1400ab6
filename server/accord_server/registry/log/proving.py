"""A record with its proof, as `accord audit verify` takes it (`accord_common.log.proof`)."""

from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError
from accord_common.log.checkpoint import verify_checkpoint
from accord_common.log.proof import RecordProof, above
from accord_server.registry.context import Registry
from accord_server.registry.log import service
from accord_server.registry.records import repository
from accord_server.registry.records.lookup import load_one


async def prove(registry: Registry, sees: str | None, record_hash: str) -> RecordProof:
    """Prove a record that the party may read, with None any; NotFoundError `unknown-record`."""
    async with registry.database.read() as session:
        row = await repository.one(session, sees, record_hash)
    if row is None:
        raise NotFoundError("unknown-record", f"there is no record {record_hash[:16]}")
    checkpoint = await service.checkpoint(registry)
    async with registry.database.read() as session:
        size = verify_checkpoint(checkpoint).size
        found = await service.inclusion(session, None, row.sequence, size)
        record = Envelope.from_bytes(row.envelope)
        under: Envelope | None = record
        while under is not None and under.kind != "agreement":
            name = above(under)
            under = None if name is None else await load_one(session, name)
    return RecordProof(
        format=1,
        sequence=row.sequence,
        record=record,
        proof=found.proof,
        checkpoint=checkpoint,
        agreement=under,
    )
