"""A record with its proof, as `accord audit verify` takes it (`accord_common.log.proof`).

Guarantees: nothing is in it that the caller may not read by itself.
"""

from accord_common.agreement import AGREEMENT
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError
from accord_common.log.checkpoint import verify_checkpoint
from accord_common.log.proof import RecordProof, above, delegation_of
from accord_common.manifest import MANIFEST
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
        found = await service.inclusion(session, sees, None, row.sequence, size)
        record = Envelope.from_bytes(row.envelope)
        under: Envelope | None = record
        manifest = None
        while under is not None and under.kind != AGREEMENT:
            name = above(under)
            manifest = under if under.kind == MANIFEST and under is not record else manifest
            higher = None if name is None else await repository.one(session, sees, name)
            under = None if higher is None else Envelope.from_bytes(higher.envelope)
        named = delegation_of(record, manifest)
        delegation = None if named is None else await load_one(session, named[1])
    return RecordProof(
        format=1,
        sequence=row.sequence,
        record=record,
        proof=found.proof,
        checkpoint=checkpoint,
        agreement=under,
        manifest=manifest,
        delegation=delegation,
    )
