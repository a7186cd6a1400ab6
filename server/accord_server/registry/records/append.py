"""The one way into `records`: verify, append, project, in one transaction.

Guarantees: what is stored was signed by the keys that SPEC.md's table names, follows the head of
its chain, and came from its signer; the same record again gets the same place; sequences have no
gap.
"""

from collections.abc import Awaitable, Callable

from accord_common.agreement import AGREEMENT, RESUMPTION, SUSPENSION, WITHDRAWAL
from accord_common.api.schemas import Stored
from accord_common.catalogue import DATASET_ENTRY, DATASET_PROFILE
from accord_common.enrolment import DELEGATION, OFFER, REVOCATION
from accord_common.errors import ConflictError, VerificationError
from accord_common.log.merkle import leaf_hash
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    CONSENT,
    EVALUATION,
    NODE_RECEIPT,
    RESULT,
)
from accord_server.registry.log.repository import edge_of, grow
from accord_server.registry.records import verify_datasets, verify_parties, verify_runs
from accord_server.registry.records.bodies import OF_RUNS, body_of
from accord_server.registry.records.lookup import find, note_manifest, note_record
from accord_server.registry.records.posting import Posting
from accord_server.registry.records.projections import project
from accord_server.registry.tables import RecordRow

_CHECKS: dict[str, Callable[[Posting], Awaitable[None]]] = {
    DELEGATION: verify_parties.delegation,
    REVOCATION: verify_parties.revocation,
    WITHDRAWAL: verify_parties.withdrawal,
    SUSPENSION: verify_parties.suspension,
    RESUMPTION: verify_parties.resumption,
    OFFER: verify_parties.offer,
    AGREEMENT: verify_parties.agreement,
    DATASET_ENTRY: verify_datasets.entry,
    DATASET_PROFILE: verify_datasets.profile,
    MANIFEST: verify_runs.manifest,
    CONSENT: verify_runs.consent,
    NODE_RECEIPT: verify_runs.node_receipt,
    AGGREGATOR_RECEIPT: verify_runs.aggregator_receipt,
    RESULT: verify_runs.result,
    EVALUATION: verify_runs.evaluation,
}


async def append(posting: Posting) -> tuple[Stored, RecordRow | None]:
    """Verify and append a record; its row, if it is new.

    Raises:
        VerificationError: `wrong-kind`, or what the kind's check finds.
        ConflictError: `record-exists` where the same record is stored with other signature bytes.
    """
    envelope = posting.envelope
    if (row := await find(posting.session, envelope.hash)) is not None:
        if row.envelope != envelope.to_bytes():
            raise ConflictError("record-exists", f"{row.hash[:16]} is stored with other signatures")
        return Stored(sequence=row.sequence, hash=row.hash), None
    check = _CHECKS.get(envelope.kind)
    if check is None:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is not stored by this call")
    await check(posting)
    row = await store(posting)
    return Stored(sequence=row.sequence, hash=row.hash), row


async def store(posting: Posting) -> RecordRow:
    """Append a record that was verified, and project it."""
    session, envelope = posting.session, posting.envelope
    edge = await edge_of(session)
    data = envelope.to_bytes()
    row = RecordRow(
        sequence=edge.size + 1,
        kind=envelope.kind,
        hash=envelope.hash,
        envelope=data,
        leaf=leaf_hash(data).hex(),
        run=await _run_of(posting),
        received=posting.moment,
    )
    session.add(row)
    note_record(session, row)
    grow(session, edge, row.leaf)
    await project(session, row, envelope)
    if envelope.kind != NODE_RECEIPT:  # their rows are written with those of their neighbours
        await session.flush()
    return row


async def _run_of(posting: Posting) -> str | None:
    envelope = posting.envelope
    if envelope.kind == MANIFEST:
        note_manifest(posting.session, envelope.hash)
        return RunManifest.from_bytes(envelope.payload).id
    if (record := OF_RUNS.get(envelope.kind)) is None:
        return None
    run = await posting.runs.get(posting.session, body_of(record, envelope).manifest)
    return run.manifest.id
