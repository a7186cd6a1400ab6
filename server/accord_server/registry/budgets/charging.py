"""A node's receipt: the attempt that it charged, held to everything that bounds it.

Guarantees: an entry of a node's ledger counts once, however often it is posted. A finding
names the receipt and what it breaks: attempts, result, dates, the population's caps, an entry of
the ledger that stood for something else.

Not covered: spending that no receipt shows; the node's own ledger knows it.
"""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.fields import CLOCK_TOLERANCE_S, parse_time
from accord_common.privacy.accounting import Tally, bounded_up
from accord_common.privacy.events import NO_NOISE
from accord_common.privacy.filter import RdpFilter
from accord_common.receipts import NodeReceipt
from accord_server.registry.budgets import known
from accord_server.registry.budgets.known import Attempt, Charge
from accord_server.registry.budgets.notes import Notes
from accord_server.registry.budgets.tables import RunBudgetRow, SpendRow
from accord_server.registry.budgets.tallies import cap_of
from accord_server.registry.records.bodies import body_of
from accord_server.registry.tables import AgreementRow, RecordRow, RunRow

_TOLERANCE = timedelta(seconds=CLOCK_TOLERANCE_S)


async def charge(session: AsyncSession, row: RecordRow, envelope: Envelope, notes: Notes) -> None:
    """Apply a node's receipt."""
    body = body_of(NodeReceipt, envelope)
    run, spend, place = row.run, body.ledger.spend, (body.round, body.attempt)
    assert run is not None
    budget = await session.get(RunBudgetRow, (run, spend.dataset))
    assert budget is not None
    about = {"party": body.party, "run": run, "dataset": spend.dataset}
    about["agreement"] = budget.agreement
    asked = Charge(Attempt(run, body.party, *place), body.ledger.sequence)
    seen = await known.seen(session, asked)
    same = [s for s in seen if (s.run, s.round, s.attempt) == (run, *place)]
    first = next((s for s in same if s.entry == body.ledger.sequence), None)
    if same:
        words = f"round {body.round} attempt {body.attempt} has a receipt already"
        notes.add("repeated-attempt", words, [row.hash, same[0].receipt], **about)
    spend_row = SpendRow(
        sequence=row.sequence,
        receipt=row.hash,
        run=run,
        party=body.party,
        dataset=spend.dataset,
        round=body.round,
        attempt=body.attempt,
        number=budget.attempts + 1 if first is None else first.number,
        entry=body.ledger.sequence,
    )
    known.add(session, spend_row, budget, new=first is None)
    other = next((s for s in seen if (s.run, s.round, s.attempt) != (run, *place)), None)
    if other is not None:
        words = f"ledger entry {body.ledger.sequence} stands for two attempts: a ledger was reset"
        notes.add("ledger-repeats", words, [row.hash, other.receipt], **about)
    await known.settle(session, asked)
    if first is None:
        await _within(session, row, body, budget, about, notes)


async def _within(
    session: AsyncSession,
    row: RecordRow,
    body: NodeReceipt,
    budget: RunBudgetRow,
    about: dict[str, str],
    notes: Notes,
) -> None:
    """Hold a charge to the manifest's attempts, the result, the agreement's dates and caps."""
    run = await session.get(RunRow, budget.run)
    assert run is not None
    if budget.attempts == budget.most + 1:
        words = f"attempt {budget.attempts} of the {budget.most} that the manifest allows"
        notes.add("too-many-attempts", words, [row.hash, run.manifest], **about)
    if run.result is not None and budget.told is not None and budget.attempts == budget.told + 1:
        words = f"receipts show {budget.attempts} attempts, the result {budget.told}"
        notes.add("result-differs", words, [row.hash, run.result], **about)
    ended = await _ended(session, row, budget.agreement)
    if parse_time(body.ledger.recorded) > ended[0] + _TOLERANCE:
        words = f"spent at {body.ledger.recorded}, after the agreement {ended[1]}"
        notes.add("after-end", words, [row.hash, ended[2]], **about)
    await _caps(session, row, budget, about, notes)


async def _ended(
    session: AsyncSession, row: RecordRow, agreement: str
) -> tuple[datetime, str, str]:
    """When an agreement ends or, by the records before `row`, ended; how; and by which record.

    The earliest of its last day, its replacement and the first withdrawal.
    """
    agreed = await session.get(AgreementRow, agreement)
    assert agreed is not None
    ends = [(agreed.valid_until, "ran out", agreement)]
    if agreed.superseded_by is not None and agreed.superseded_from is not None:
        if (received := await _received(session, agreed.superseded_by, row)) is not None:
            since = max(agreed.superseded_from, received)
            ends.append((since, "was replaced by another version", agreed.superseded_by))
    if agreed.withdrawal is not None:
        if (received := await _received(session, agreed.withdrawal, row)) is not None:
            ends.append((received, "was withdrawn from", agreed.withdrawal))
    return min(ends)


async def _received(session: AsyncSession, record: str, row: RecordRow) -> datetime | None:
    """When a record came, if it came before `row`."""
    query = select(RecordRow.received).where(
        RecordRow.hash == record, RecordRow.sequence < row.sequence
    )
    return (await session.execute(query)).scalar_one_or_none()


async def _caps(
    session: AsyncSession,
    row: RecordRow,
    budget: RunBudgetRow,
    about: dict[str, str],
    notes: Notes,
) -> None:
    """Name the receipt with which a population's spending exceeds a cap of the run's agreement."""
    after = await known.spent(session, budget.population)
    for one in await known.terms_of(session, budget.agreement, budget.population):
        rule = RdpFilter(cap_of(one))
        epsilon = rule.epsilon(after)
        if epsilon <= float(one.epsilon_cap):
            continue
        before = rule.epsilon(_without(after, budget))
        if before <= float(one.epsilon_cap) or budget.attempts == 1:
            words = (
                f"epsilon {bounded_up(epsilon) or 'infinity'} spent of {one.epsilon_cap} that "
                f"{one.name!r} may at delta {one.delta}"
            )
            notes.add("over-spend", words, [row.hash, budget.agreement], **about)


def _without(tally: Tally, budget: RunBudgetRow) -> Tally:
    """The tally before the newest attempt of a budget."""
    if budget.noise_multiplier == NO_NOISE:
        return Tally(tally.adjacency, tally.steps, tally.non_private - 1)
    mechanism = (budget.noise_multiplier, budget.sampling_rate)
    steps = {(noise, rate): count for noise, rate, count in tally.steps}
    steps[mechanism] -= budget.steps
    return Tally.build(
        {pair: count for pair, count in steps.items() if count},
        [tally.adjacency],
        tally.non_private,
    )
