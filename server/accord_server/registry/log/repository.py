"""The log's tree in the database: leaves in `records`, complete subtrees in `log_nodes`.

Guarantees: an append reads as many hashes as its size has bits, a proof O(log n); what `grow`
writes is in the same transaction as the record, and writers take turns (`db`), so subtrees and
records agree through any number of processes.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import lru_cache

from sqlalchemy import Select, and_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.log.merkle import Frontier, Node, needed, peaks
from accord_server.registry.log.tables import CheckpointRow, LogNodeRow
from accord_server.registry.tables import RecordRow

_LAST = select(RecordRow.sequence, RecordRow.leaf).order_by(RecordRow.sequence.desc()).limit(1)
_EDGE = "accord_edge"  # in a session: what it has read or made of the tree's right edge
_AT_ONCE = 1000  # nodes in one query; SQLite binds at most 32,766 values


async def size_of(session: AsyncSession) -> int:
    """How many records there are."""
    return (await session.execute(select(func.max(RecordRow.sequence)))).scalar_one() or 0


async def edge_of(session: AsyncSession) -> Frontier:
    """The right edge of the tree of all records, read once in a transaction; `damaged-log`."""
    if (known := session.info.get(_EDGE)) is None:
        last = (await session.execute(_LAST)).one_or_none()
        known = Frontier() if last is None else await read_edge(session, *last)
    assert isinstance(known, Frontier)
    return known


async def read_edge(session: AsyncSession, size: int, leaf: str) -> Frontier:
    """The same, where the number of records and the last one's leaf are known; `damaged-log`."""
    wanted = peaks(size)
    known = {(0, size - 1): _bytes(leaf)}  # of an odd number of leaves, the last one is a peak
    found = known | await hashes(session, [node for node in wanted if node not in known])
    edge = session.info[_EDGE] = Frontier(size, [found[node] for node in wanted])
    return edge


async def hashes(session: AsyncSession, wanted: Collection[Node]) -> dict[Node, bytes]:
    """Return the hashes of complete subtrees; level 0 are leaves.

    Raises:
        VerificationError: `damaged-log` where one is missing.
    """
    each = sorted(wanted)
    found: dict[Node, bytes] = {}
    for start in range(0, len(each), _AT_ONCE):
        found |= await kept(session, each[start : start + _AT_ONCE])
    if lacking := set(wanted) - found.keys():
        level, number = min(lacking)
        raise VerificationError(
            "damaged-log",
            f"the hash of subtree {number} of level {level} is missing",
            hint="Its operator finds what is wrong with `accord audit verify REGISTRY-FOLDER`.",
        )
    return found


async def frontier(session: AsyncSession, size: int) -> Frontier:
    """The right edge of the tree of the first `size` records; `damaged-log`."""
    found = await hashes(session, needed([(0, size)]))
    return Frontier(size, [found[node] for node in peaks(size)])


def grow(session: AsyncSession, edge: Frontier, leaf: str) -> None:
    """Append a leaf to the tree whose right edge is given, and keep what it completes."""
    session.add_all(
        LogNodeRow(level=level, number=number, hash=made.hex())
        for (level, number), made in edge.add(bytes.fromhex(leaf))
    )


async def checkpoint_of(session: AsyncSession, size: int) -> Envelope | None:
    """The checkpoint that was signed for a size, or None."""
    row = await session.get(CheckpointRow, size)
    return None if row is None else Envelope.from_bytes(row.envelope)


async def checkpoints(session: AsyncSession, after: int, limit: int) -> list[Envelope]:
    """Kept checkpoints of more than `after` records, by size."""
    query = select(CheckpointRow.envelope).where(CheckpointRow.size > after)
    rows = (await session.execute(query.order_by(CheckpointRow.size).limit(limit))).scalars()
    return [Envelope.from_bytes(data) for data in rows]


async def leaves(
    session: AsyncSession, size: int, run: str | None, after: int, limit: int
) -> list[tuple[int, str]]:
    """Sequence and leaf of records behind `after` in the tree of `size`, in order."""
    query = select(RecordRow.sequence, RecordRow.leaf).where(
        RecordRow.sequence > after, RecordRow.sequence <= size
    )
    if run is not None:
        query = query.where(RecordRow.run == run)
    rows = await session.execute(query.order_by(RecordRow.sequence).limit(limit))
    return [(sequence, leaf) for sequence, leaf in rows.all()]


async def kept(session: AsyncSession, wanted: Sequence[Node]) -> dict[Node, bytes]:
    """The hashes among `wanted` that are there, in two queries."""
    found: dict[Node, bytes] = {}
    if places := [number + 1 for level, number in wanted if level == 0]:
        leaf = select(RecordRow.sequence, RecordRow.leaf)
        rows = await session.execute(leaf.where(RecordRow.sequence.in_(places)))
        found |= {(0, sequence - 1): _bytes(value) for sequence, value in rows.all()}
    above: dict[int, list[int]] = defaultdict(list)
    for level, number in wanted:
        if level:
            above[level].append(number)
    if above:  # level by level: SQLite seeks no index for pairs
        asked: dict[str, object] = {}
        for index, (level, numbers) in enumerate(above.items()):
            asked |= {f"level{index}": level, f"numbers{index}": numbers}
        subtrees = await session.execute(_nodes_of(len(above)), asked)
        found |= {(level, number): _bytes(value) for level, number, value in subtrees.all()}
    return found


@lru_cache
def _nodes_of(levels: int) -> Select[int, int, str]:
    """Nodes of so many levels; building the query takes longer than the database does with it."""
    each = [
        and_(
            LogNodeRow.level == bindparam(f"level{index}"),
            LogNodeRow.number.in_(bindparam(f"numbers{index}", expanding=True)),
        )
        for index in range(levels)
    ]
    return select(LogNodeRow.level, LogNodeRow.number, LogNodeRow.hash).where(or_(*each))


def _bytes(value: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise VerificationError("damaged-log", f"{value[:20]!r} is no hash") from None
