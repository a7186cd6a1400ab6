"""From records to what was spent, and to what does not agree.

Guarantees: as `records.projections`: a function of the records alone. A finding is written when the
record arrives that shows it, and names every record that it follows from; nothing is refused here
that was not refused before.

Not covered: what shows only as time passes (`budgets.exceptions`), and populations that overlap, of
which only institutions know.
"""

from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import AGREEMENT, Agreement
from accord_common.costs import attempts_tally, same_epsilon
from accord_common.enrolment import DELEGATION, REVOCATION, Delegation, Revocation
from accord_common.envelope import Envelope
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.privacy.accounting import bounded_up
from accord_common.privacy.report import bounded_epsilon
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    NODE_RECEIPT,
    RESULT,
    AggregatorReceipt,
    DatasetEpsilon,
    RunResult,
)
from accord_common.terms import violations
from accord_server.registry.budgets import known
from accord_server.registry.budgets.charging import charge
from accord_server.registry.budgets.notes import Notes
from accord_server.registry.budgets.tables import (
    BUDGETS,
    OwedReceiptRow,
    RunBudgetRow,
    SpendRow,
    TermsRow,
)
from accord_server.registry.records.bodies import body_of
from accord_server.registry.records.lookup import load_agreement, load_one
from accord_server.registry.tables import RecordRow

_Project = Callable[[AsyncSession, RecordRow, Envelope, Notes], Awaitable[None]]


async def project(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    """Apply one record, after `records.projections` has; its caller flushes."""
    if (work := _BY_KIND.get(row.kind)) is not None:
        notes = Notes(row)
        await work(session, row, envelope, notes)
        session.add_all(notes.findings)


SINCE = "0015"  # the schema's revision since which rows are what they are now


async def replay(session: AsyncSession) -> None:
    """Derive these projections anew; for a database of a release that lacked them, or said less."""
    for table in reversed(BUDGETS):
        await session.execute(delete(table))
    query = select(RecordRow).where(RecordRow.kind.in_(_BY_KIND)).order_by(RecordRow.sequence)
    for row in (await session.execute(query)).scalars():
        await project(session, row, Envelope.from_bytes(row.envelope))
        await session.flush()


async def _agreement(session: AsyncSession, row: RecordRow, envelope: Envelope, _: Notes) -> None:
    body = Agreement.from_bytes(envelope.payload)
    session.add_all(
        TermsRow(
            agreement=row.hash,
            dataset=dataset.id,
            title=body.title,
            name=dataset.name,
            owner=dataset.owner,
            population=dataset.population,
            epsilon_cap=dataset.privacy.epsilon_cap,
            delta=dataset.privacy.delta,
            adjacency=dataset.privacy.adjacency,
            non_private=dataset.privacy.non_private,
        )
        for dataset in body.datasets
    )


async def _delegation(
    session: AsyncSession, row: RecordRow, envelope: Envelope, notes: Notes
) -> None:
    body = Delegation.from_bytes(envelope.payload)
    if body.previous is None:
        return
    before = await load_one(session, body.previous)
    if before.kind == DELEGATION:
        key = Delegation.from_bytes(before.payload).node_key
        if key == body.node_key:
            return  # renewed
        words = f"node key {body.node_key[:16]} in place of {key[:16]}"
    else:
        words = f"node key {body.node_key[:16]} after a revocation"
    notes.add("key-changed", words, [row.hash, body.previous], party=body.party)


async def _revocation(
    session: AsyncSession, row: RecordRow, envelope: Envelope, notes: Notes
) -> None:
    body = Revocation.from_bytes(envelope.payload)
    words = f"took its node key back: {body.reason}"
    notes.add("key-revoked", words, [row.hash, body.previous], party=body.party)


async def _manifest(
    session: AsyncSession, row: RecordRow, envelope: Envelope, notes: Notes
) -> None:
    body = RunManifest.from_bytes(envelope.payload)
    agreement = await load_agreement(session, body.agreement)
    for site in body.roster:
        dataset = agreement.dataset(site.dataset)
        session.add(
            RunBudgetRow(
                run=body.id,
                dataset=site.dataset,
                party=site.party,
                population=dataset.population,
                agreement=body.agreement,
                adjacency=dataset.privacy.adjacency,
                noise_multiplier=site.noise_multiplier,
                sampling_rate=site.sampling_rate,
                steps=body.local.steps,
                most=body.max_attempts_total,
                attempts=0,
            )
        )
    for broken in violations(agreement, body):
        notes.add(
            "outside-terms",
            f"[{broken.code}] {broken.message}",
            [row.hash, body.agreement],
            run=body.id,
            agreement=body.agreement,
        )


async def _aggregator_receipt(
    session: AsyncSession, row: RecordRow, envelope: Envelope, _: Notes
) -> None:
    body = body_of(AggregatorReceipt, envelope)
    assert row.run is not None
    query = select(SpendRow.party).where(
        SpendRow.run == row.run, SpendRow.round == body.round, SpendRow.attempt == body.attempt
    )
    posted = set((await session.execute(query)).scalars())
    owed = (
        OwedReceiptRow(
            run=row.run,
            party=party,
            round=body.round,
            attempt=body.attempt,
            receipt=row.hash,
            since=row.received,
        )
        for party in sorted(set(body.cohort) - set(body.lost) - posted)
    )
    known.owe(session, owed)


async def _result(session: AsyncSession, row: RecordRow, envelope: Envelope, notes: Notes) -> None:
    body = RunResult.from_bytes(envelope.payload)
    manifest = RunManifest.from_bytes((await load_one(session, body.manifest)).payload)
    agreement = await load_agreement(session, manifest.agreement)
    recomputed = recompute(manifest, agreement, body.epsilon)
    told = {one.dataset: one for one in body.epsilon}
    sites = [(site.party, site.dataset) for site in manifest.roster]
    if body.epsilon and [(one.party, one.dataset) for one in body.epsilon] != sites:
        words = "the result does not name each site's dataset once"
        about = {"run": manifest.id, "agreement": manifest.agreement}
        notes.add("result-differs", words, [row.hash, body.manifest], **about)
    query = select(RunBudgetRow).where(RunBudgetRow.run == manifest.id)
    for budget in (await session.execute(query.order_by(RunBudgetRow.dataset))).scalars():
        one = told.get(budget.dataset)
        delta = agreement.dataset(budget.dataset).privacy.delta
        shown = budget.attempts + await _owed(session, budget)
        words = ""
        if one is None:
            words = "the result says nothing of this dataset" if shown else ""
        else:
            budget.told, budget.told_epsilon = one.attempts, one.epsilon
            budget.recomputed = recomputed[budget.dataset]
            words = _difference(budget, one, delta, shown)
        if words:
            notes.add(
                "result-differs",
                words,
                [row.hash, body.manifest],
                party=budget.party,
                run=manifest.id,
                dataset=budget.dataset,
                agreement=budget.agreement,
            )


async def _owed(session: AsyncSession, budget: RunBudgetRow) -> int:
    """Attempts that the aggregator alone has signed for as yet."""
    query = select(func.count()).where(
        OwedReceiptRow.run == budget.run, OwedReceiptRow.party == budget.party
    )
    return (await session.execute(query)).scalar_one()


def _difference(budget: RunBudgetRow, told: DatasetEpsilon, delta: str, shown: int) -> str:
    """What a result says otherwise than `shown` attempts do; nothing where it does not."""
    if told.attempts < shown:
        return f"receipts show {shown} attempts, the result {told.attempts}"
    if told.delta != delta:
        return f"the result speaks of delta {told.delta}, the agreement of {delta}"
    if not same_epsilon(told.epsilon, budget.recomputed):
        return (
            f"the result says epsilon {told.epsilon or 'infinity'}; "
            f"{told.attempts} attempts cost {budget.recomputed or 'infinity'}"
        )
    return ""


def recompute(
    manifest: RunManifest, agreement: Agreement, told: Sequence[DatasetEpsilon]
) -> dict[str, str | None]:
    """Epsilon of as many attempts as a result tells of, by dataset; half a second, then cached."""
    counts = {one.dataset: one.attempts for one in told}
    found = {}
    for site in manifest.roster:
        privacy = agreement.dataset(site.dataset).privacy
        tally = attempts_tally(manifest, site, privacy.adjacency, counts.get(site.dataset, 0))
        found[site.dataset] = bounded_up(bounded_epsilon(tally, privacy.delta))
    return found


_BY_KIND: dict[str, _Project] = {
    AGREEMENT: _agreement,
    DELEGATION: _delegation,
    REVOCATION: _revocation,
    MANIFEST: _manifest,
    NODE_RECEIPT: charge,
    AGGREGATOR_RECEIPT: _aggregator_receipt,
    RESULT: _result,
}
