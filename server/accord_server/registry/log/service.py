"""Checkpoints and proofs, as callers get them."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.log_schemas import Consistency, Inclusion
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError, UsageError
from accord_common.fields import format_time, now
from accord_common.log.checkpoint import sign_checkpoint
from accord_common.log.merkle import Span, consistency_spans, inclusion_spans, needed, span_hash
from accord_server.registry.context import Registry
from accord_server.registry.log import repository
from accord_server.registry.log.tables import CheckpointRow
from accord_server.registry.records import repository as records


async def checkpoint(registry: Registry) -> Envelope:
    """The checkpoint of all records now: the one kept, or a new one, which is kept."""
    async with registry.database.read() as session:
        kept = await repository.checkpoint_of(session, await repository.size_of(session))
    if kept is not None:
        return kept
    async with registry.database.write() as session:
        size = await repository.size_of(session)
        if (kept := await repository.checkpoint_of(session, size)) is not None:
            return kept
        edge, moment = await repository.frontier(session, size), now()
        made = sign_checkpoint(registry.log_key, size, edge.root, format_time(moment))
        session.add(CheckpointRow(size=size, envelope=made.to_bytes(), created=moment))
    return made


async def inclusion(
    session: AsyncSession,
    sees: str | None,
    record: str | None,
    sequence: int | None,
    size: int | None,
) -> Inclusion:
    """Prove that a record, by hash or sequence, is in the tree of `size` (all, where not given).

    By hash where the party `sees`, with None any, may read it: a hash of terms can be guessed by
    whoever knows nearly all of them.

    Raises:
        UsageError: `bad-request`, `wrong-tree-size`.
        NotFoundError: `unknown-record`.
    """
    if (record is None) == (sequence is None):
        raise UsageError("bad-request", "name a record or a sequence, and not both")
    size = await _check_size(session, size)
    if record is not None:
        row = await records.one(session, sees, record)
        if row is None:
            raise NotFoundError("unknown-record", f"there is no record {record[:16]}")
        sequence = row.sequence
    assert sequence is not None
    if sequence > size:
        raise _wrong_size(f"record {sequence} is not in the tree of {size}")
    found = await proofs(session, size, None, sequence - 1, 1)
    if not found:
        raise NotFoundError("unknown-record", f"there is no record {sequence}")
    return found[0]


async def proofs(
    session: AsyncSession, size: int, run: str | None, after: int, limit: int
) -> list[Inclusion]:
    """Prove that records behind `after`, all or a run's, are in the tree of `size`.

    Raises:
        UsageError: `wrong-tree-size`.
    """
    await _check_size(session, size)
    found = await repository.leaves(session, size, run, after, limit)
    spans = {sequence: inclusion_spans(sequence - 1, size) for sequence, _ in found}
    each = [span for path in spans.values() for span in path]
    known = await repository.hashes(session, needed(each))
    made = {span: span_hash(span, known).hex() for span in set(each)}
    return [
        Inclusion(
            sequence=sequence,
            size=size,
            leaf=leaf,
            proof=[made[span] for span in spans[sequence]],
        )
        for sequence, leaf in found
    ]


async def consistency(session: AsyncSession, first: int, second: int) -> Consistency:
    """Prove that the tree of `second` records begins with that of `first`.

    Raises:
        UsageError: `wrong-tree-size`.
    """
    await _check_size(session, second)
    if first > second:
        raise _wrong_size(f"{first} records are more than {second}")
    spans: Sequence[Span] = consistency_spans(first, second)
    known = await repository.hashes(session, needed(spans))
    return Consistency(
        first=first, second=second, proof=[span_hash(span, known).hex() for span in spans]
    )


async def _check_size(session: AsyncSession, size: int | None) -> int:
    whole = await repository.size_of(session)
    if size is None:
        return whole
    if size > whole:
        raise _wrong_size(f"the log has {whole} records, not {size}")
    return size


def _wrong_size(why: str) -> UsageError:
    return UsageError("wrong-tree-size", why, hint="Ask for /v1/log/checkpoint first.")
