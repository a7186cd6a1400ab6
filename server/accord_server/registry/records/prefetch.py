"""What checks and projections of a group of records will ask for, in four queries.

Guarantees: changes nothing but how many statements there are: each row is in the session, as if
asked for by its key; whatever is not there, its reader asks for itself.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import and_, bindparam, func, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.receipts import NodeReceipt
from accord_server.registry.budgets.known import Attempt, Charge, read_ahead
from accord_server.registry.budgets.tables import OwedReceiptRow, RunBudgetRow, TermsRow
from accord_server.registry.log.repository import read_edge
from accord_server.registry.records.bodies import OF_RUNS, body_of
from accord_server.registry.records.lookup import note_unknown
from accord_server.registry.tables import AgreementRow, LeaseRow, RecordRow, RunRow, SiteRow

_HELD = "accord_held"
_ENTITIES = 6  # of a row of `_OF_RUNS`, before its plain columns
_LAST = (
    select(RecordRow.sequence, RecordRow.leaf)
    .order_by(RecordRow.sequence.desc())
    .limit(1)
    .subquery("last")
)
_TAKEN = (
    select(func.count())
    .where(RecordRow.hash.in_(bindparam("hashes", expanding=True)))
    .scalar_subquery()
)
_OF_RUNS = (
    select(RunRow, AgreementRow, LeaseRow, SiteRow, RunBudgetRow, TermsRow)
    .add_columns(OwedReceiptRow.round, OwedReceiptRow.attempt)
    .add_columns(_LAST.c.sequence, _LAST.c.leaf, _TAKEN)
    .join(AgreementRow, AgreementRow.hash == RunRow.agreement)
    .join(_LAST, true())
    .outerjoin(LeaseRow, LeaseRow.run == RunRow.id)
    .outerjoin(
        SiteRow,
        and_(SiteRow.run == RunRow.id, SiteRow.party.in_(bindparam("parties", expanding=True))),
    )
    .outerjoin(
        RunBudgetRow,
        and_(RunBudgetRow.run == RunRow.id, RunBudgetRow.dataset == SiteRow.dataset),
    )
    .outerjoin(
        TermsRow,
        and_(
            TermsRow.agreement == RunRow.agreement,
            TermsRow.population == RunBudgetRow.population,
        ),
    )
    .outerjoin(
        OwedReceiptRow,
        and_(
            OwedReceiptRow.run == RunRow.id,
            OwedReceiptRow.party == SiteRow.party,
            tuple_(OwedReceiptRow.round, OwedReceiptRow.attempt).in_(
                bindparam("places", expanding=True)
            ),
        ),
    )
    .where(RunRow.manifest.in_(bindparam("manifests", expanding=True)))
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose rows a record on its way in will ask for; `receipt` where it is a node's."""

    hash: str
    party: str
    manifest: str | None = None
    receipt: NodeReceipt | None = None

    @classmethod
    def of(cls, envelope: Envelope, party: str) -> "Wanted":
        """What a record that a party brings will ask for, if it can be read at all."""
        if (kind := OF_RUNS.get(envelope.kind)) is not None:
            with suppress(AccordError):  # its append says so
                body = body_of(kind, envelope)
                receipt = body if isinstance(body, NodeReceipt) else None
                return cls(envelope.hash, party, body.manifest, receipt)
        return cls(envelope.hash, party)


async def prefetch(session: AsyncSession, group: Sequence[Wanted]) -> None:
    """Read ahead for records that follow in this transaction: of runs, they are many."""
    receipts = [one.receipt for one in group if one.receipt is not None]
    hashes = [one.hash for one in group]
    manifests = {one.manifest for one in group if one.manifest is not None}
    if not manifests:
        return
    asked = {
        "hashes": hashes,
        "manifests": list(manifests),
        "parties": list({one.party for one in group}),
        "places": list({(receipt.round, receipt.attempt) for receipt in receipts}),
    }
    found = (await session.execute(_OF_RUNS, asked)).all()
    if not found:
        return
    *_, size, leaf, taken = found[0]
    await read_edge(session, size, leaf)
    if not taken:
        note_unknown(session, hashes)
    _hold(session, [row for rows in found for row in rows[:_ENTITIES] if row is not None])
    runs = {run.manifest: run.id for run, *_ in found}
    charges = {
        Charge(
            Attempt(runs[receipt.manifest], receipt.party, receipt.round, receipt.attempt),
            receipt.ledger.sequence,
        )
        for receipt in receipts
        if receipt.manifest in runs
    }
    if charges:
        each = [rows[:_ENTITIES] for rows in found]
        await read_ahead(
            session,
            charges,
            {budget for *_, budget, _ in each if budget is not None},
            {terms for *_, terms in each if terms is not None},
            {
                Attempt(rows[0].id, rows[3].party, *rows[_ENTITIES : _ENTITIES + 2])
                for rows in found
                if rows[_ENTITIES] is not None
            },
        )


def _hold(session: AsyncSession, rows: Iterable[object]) -> None:
    """Keep rows in a session to its end: it has those alone that somebody holds."""
    session.info.setdefault(_HELD, []).extend(rows)
