"""What checks and projections of a group of records will ask for, in a handful of queries.

Guarantees: changes nothing but how many statements there are: each row is in the session, as if
asked for by its key; whatever is not there, its reader asks for itself.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import and_, bindparam, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.receipts import NodeReceipt
from accord_server.registry.budgets.known import Attempt, Charge, read_ahead
from accord_server.registry.budgets.tables import OwedReceiptRow, RunBudgetRow, TermsRow
from accord_server.registry.log.repository import read_edge
from accord_server.registry.records.bodies import OF_RUNS, body_of
from accord_server.registry.records.lookup import note_lookup
from accord_server.registry.tables import AgreementRow, LeaseRow, RecordRow, RunRow, SiteRow

_HELD = "accord_held"
_RECORDS = select(RecordRow).where(
    or_(
        RecordRow.hash.in_(bindparam("hashes", expanding=True)),
        RecordRow.sequence == select(func.max(RecordRow.sequence)).scalar_subquery(),
    )
)
_OF_RUNS = (
    select(RunRow, AgreementRow, LeaseRow, SiteRow, RunBudgetRow, TermsRow)
    .add_columns(OwedReceiptRow.round, OwedReceiptRow.attempt)
    .join(AgreementRow, AgreementRow.hash == RunRow.agreement)
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
    """Read ahead for records that follow in this transaction."""
    hashes = {one.hash for one in group}
    rows = list((await session.execute(_RECORDS, {"hashes": list(hashes)})).scalars())
    note_lookup(session, hashes, [row for row in rows if row.hash in hashes])
    if rows:
        last = max(rows, key=lambda row: row.sequence)
        await read_edge(session, last.sequence, last.leaf)
    if any(one.manifest for one in group):
        await _of_runs(session, group)


async def _of_runs(session: AsyncSession, group: Sequence[Wanted]) -> None:
    receipts = [one.receipt for one in group if one.receipt is not None]
    asked = {
        "manifests": list({one.manifest for one in group if one.manifest is not None}),
        "parties": list({one.party for one in group}),
        "places": list({(receipt.round, receipt.attempt) for receipt in receipts}),
    }
    found = (await session.execute(_OF_RUNS, asked)).all()
    _hold(session, [row for rows in found for row in rows[:-2] if row is not None])
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
        await read_ahead(
            session,
            charges,
            {budget for *_, budget, _, _, _ in found if budget is not None},
            {terms for *_, terms, _, _ in found if terms is not None},
            {
                Attempt(run.id, site.party, round_, attempt)
                for run, _, _, site, _, _, round_, attempt in found
                if round_ is not None
            },
        )


def _hold(session: AsyncSession, rows: Iterable[object]) -> None:
    """Keep rows in a session to its end: it has those alone that somebody holds."""
    session.info.setdefault(_HELD, []).extend(rows)
