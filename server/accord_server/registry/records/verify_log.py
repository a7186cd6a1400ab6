"""The whole log, verified again from its first record: what a restored registry rests on.

Guarantees: sequences without a gap; every column of `records` but `received` follows from the
envelope; the walk's (`accord_common.log.walk`); `log_nodes` are the subtrees of these leaves, and
no others; every kept checkpoint, and every head in a record, is signed by its log key and is a
tree that this one grew from.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.errors import AccordError, VerificationError
from accord_common.log.checkpoint import verify_checkpoint
from accord_common.log.tree import Grown
from accord_common.log.walk import Walk
from accord_server.registry.log.repository import kept
from accord_server.registry.log.tables import CheckpointRow, LogNodeRow
from accord_server.registry.tables import RecordRow

_PAGE = 500  # records read at once


@dataclass(slots=True)
class Verified:
    """What the log holds: how many records, the last leaf, and all that the walk learned."""

    records: int = 0
    leaf: str | None = None
    walk: Walk = field(default_factory=Walk)
    tree: Grown = field(default_factory=Grown)


async def verify_log(session: AsyncSession) -> Verified:
    """Verify every record, and the tree over them.

    Raises:
        VerificationError: `damaged-record`, naming the first that does not hold and why;
            `damaged-log` for a subtree's hash, `log-forked` for a checkpoint or a head that is of
            another history, `log-rolled-back` for one of more records than there are.
    """
    found = Verified()
    while await extend(session, found, _PAGE):
        pass
    await settle(session, found)
    return found


async def extend(session: AsyncSession, found: Verified, limit: int) -> bool:
    """Verify at most `limit` records more; whether there were any. Raises as `verify_log`."""
    query = select(RecordRow).where(RecordRow.sequence > found.records)
    ordered = query.order_by(RecordRow.sequence).limit(limit)
    rows = list((await session.execute(ordered)).scalars())
    session.expunge_all()
    # Off the loop that serves: a record's signatures take some 0.3 ms.
    made = await asyncio.to_thread(_take_all, found, rows)
    await _check_nodes(session, made)
    return bool(rows)


async def settle(session: AsyncSession, found: Verified) -> None:
    """Verify that there is nothing beside the records, once `extend` has found no more of them."""
    await _check_count(session, found.records)
    checkpoints = await session.stream(select(CheckpointRow).order_by(CheckpointRow.size))
    async for checkpoint in checkpoints.scalars():
        _check_checkpoint(checkpoint, found.tree)
    for witness in found.walk.witnesses.values():
        found.tree.check(witness.head, f"what {witness.party} signed in {witness.place}")


def _take_all(found: Verified, rows: Sequence[RecordRow]) -> dict[tuple[int, int], bytes]:
    made: dict[tuple[int, int], bytes] = {}
    for row in rows:
        made |= _take(found, row)
    return made


def _take(found: Verified, row: RecordRow) -> dict[tuple[int, int], bytes]:
    found.records += 1
    name = f"record {found.records}"
    try:
        envelope = Envelope.from_bytes(row.envelope)
        made = found.tree.add(row.envelope)
        run = found.walk.take(envelope, f"{name}, a {envelope.kind}")
        found.leaf = found.tree.last.hex()
        told = (row.sequence, row.kind, row.hash, row.leaf, row.run)
        if told != (found.records, envelope.kind, envelope.hash, found.leaf, run):
            raise VerificationError("damaged-record", "its columns differ from its bytes")
    except AccordError as error:
        raise VerificationError(
            "damaged-record",
            f"{name} of the log, {row.hash[:16]}, does not hold: {error.message}",
        ) from error
    return dict(made)


async def _check_nodes(session: AsyncSession, made: dict[tuple[int, int], bytes]) -> None:
    stored = await kept(session, list(made))
    for node, value in made.items():
        if stored.get(node) != value:
            level, number = node
            last = (number + 1) << level
            raise _damaged(f"the hash over records {last - (1 << level) + 1} to {last}")


async def _check_count(session: AsyncSession, records: int) -> None:
    count = (await session.execute(select(func.count()).select_from(LogNodeRow))).scalar_one()
    complete = records - records.bit_count()  # subtrees above the leaves
    if count != complete:
        raise _damaged(f"{count} subtrees, where {records} records make {complete}")


def _check_checkpoint(row: CheckpointRow, tree: Grown) -> None:
    name = f"the checkpoint of {row.size} records"
    try:
        body = verify_checkpoint(Envelope.from_bytes(row.envelope))
    except AccordError as error:
        raise VerificationError("damaged-log", f"{name}: {error.message}") from error
    if body.size != row.size:
        raise VerificationError("damaged-log", f"{name} is one of {body.size}")
    tree.check(body, name)


def _damaged(what: str) -> VerificationError:
    return VerificationError(
        "damaged-log",
        f"{what} is not what the records make",
        hint="`accord registry rebuild` makes the hashes anew; the records are untouched.",
    )
