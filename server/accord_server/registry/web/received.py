"""What one institution's own signatures brought here, by kind, and what its receipts say it sent.

Guarantees: of records that this registry stores, each with its hash; all receipts count, by the
projection of spends, and of other records those among the newest `LOOKED_AT`.

Not covered: what went to aggregators beyond what receipts name, and what never arrived: only the
node's own outbox knows all that left.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import AGREEMENT, RESUMPTION, SUSPENSION, WITHDRAWAL
from accord_common.api.schemas import RecordView
from accord_common.catalogue import DATASET_ENTRY, DATASET_PROFILE
from accord_common.enrolment import DELEGATION, ENROLMENT, REVOCATION
from accord_common.receipts import CONSENT, NODE_RECEIPT, NodeReceipt
from accord_server.registry.budgets.tables import SpendRow
from accord_server.registry.records import repository as records
from accord_server.registry.tables import RecordRow

LOOKED_AT = 300  # a first page reads and decodes them each time: some 20 ms
_KINDS = (
    AGREEMENT,
    CONSENT,
    DATASET_ENTRY,
    DATASET_PROFILE,
    SUSPENSION,
    RESUMPTION,
    WITHDRAWAL,
    ENROLMENT,
    DELEGATION,
    REVOCATION,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """Every record of one kind, and the newest of them; `bytes` are of all."""

    kind: str
    count: int
    bytes: int
    newest: RecordView

    @property
    def size(self) -> int:
        """Bytes of the newest."""
        return len(self.newest.envelope.to_bytes())


@dataclass(frozen=True, slots=True)
class Received:
    """See the module; `older` records of other kinds than receipts were not looked at.

    `update` is what the newest receipt names, None before the first.
    """

    kinds: list[Kind]
    update: NodeReceipt | None
    older: bool

    @property
    def updates(self) -> int:
        """How many masked updates receipts name."""
        return sum(one.count for one in self.kinds if one.kind == NODE_RECEIPT)


async def received(session: AsyncSession, party: str, identity_key: str) -> Received:
    """Read what a party sent."""
    receipts = await _receipts(session, party)
    found = await records.notable(session, party, None, _KINDS, LOOKED_AT + 1)
    own = [view for view in found[:LOOKED_AT] if _is_of(view, party, identity_key)]
    return Received(
        kinds=[*receipts, *_by_kind(own)],
        update=NodeReceipt.from_bytes(receipts[0].newest.envelope.payload) if receipts else None,
        older=len(found) > LOOKED_AT,
    )


async def _receipts(session: AsyncSession, party: str) -> list[Kind]:
    size = func.sum(func.length(RecordRow.envelope))
    query = (
        select(func.count(), size, func.max(SpendRow.sequence))
        .join(RecordRow, RecordRow.sequence == SpendRow.sequence)
        .where(SpendRow.party == party)
    )
    count, total, last = (await session.execute(query)).one()
    if not count:
        return []
    newest = await session.get_one(RecordRow, last)
    return [Kind(NODE_RECEIPT, count, int(total), records.view(newest))]


def _is_of(view: RecordView, party: str, identity_key: str) -> bool:
    """An agreement names no signer but by its keys; whatever else is signed names one party."""
    if view.kind == AGREEMENT:
        return identity_key in view.envelope.signers
    named: object = json.loads(view.envelope.payload).get("party")
    return named == party


def _by_kind(found: Iterable[RecordView]) -> list[Kind]:
    """In the order of `_KINDS`; `found` is newest first."""
    sorted_out: dict[str, list[RecordView]] = {}
    for view in found:
        sorted_out.setdefault(view.kind, []).append(view)
    return [
        Kind(kind, len(views), sum(len(one.envelope.to_bytes()) for one in views), views[0])
        for kind in _KINDS
        if (views := sorted_out.get(kind))
    ]
