"""What people and waiting processes learn of a new record: event lines, and which topics to wake.

Event lines are operational: written when a record arrives, not when projections are rebuilt. They
count rounds and attempts from 1, as people do.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import (
    AGREEMENT,
    RESUMPTION,
    SUSPENSION,
    WITHDRAWAL,
    Agreement,
    Resumption,
    Suspension,
    Withdrawal,
)
from accord_common.api.schemas import Level
from accord_common.enrolment import DELEGATION, REVOCATION
from accord_common.envelope import Envelope
from accord_common.manifest import MANIFEST
from accord_common.receipts import (
    CONSENT,
    EVALUATION,
    RESULT,
    AggregatorReceipt,
    Consent,
    RunResult,
)
from accord_common.sentences import Said, Sentence, say
from accord_server.registry.changes import party_topic, run_topic
from accord_server.registry.records.bodies import body_of
from accord_server.registry.records.lookup import run_row
from accord_server.registry.records.posting import Posting
from accord_server.registry.runs.bars import aggregator_bars, bars
from accord_server.registry.tables import (
    OPEN,
    AgreementPartyRow,
    EventRow,
    PartnerRow,
    RunRow,
    SiteRow,
)

_HALTS: dict[str, type[Withdrawal | Suspension | Resumption]] = {
    WITHDRAWAL: Withdrawal,
    SUSPENSION: Suspension,
    RESUMPTION: Resumption,
}
_IN_INBOX = frozenset({MANIFEST, CONSENT, RESULT, EVALUATION})


async def announce(posting: Posting, run: str | None) -> set[str]:
    """Write event lines for a record just appended; return the topics to wake after the commit."""
    session, envelope = posting.session, posting.envelope
    if envelope.kind == AGREEMENT:
        parties = [party.id for party in Agreement.from_bytes(envelope.payload).parties]
        return {party_topic(party) for party in parties}
    if envelope.kind in _HALTS:
        return await _halt(posting, _HALTS[envelope.kind])
    if envelope.kind in (DELEGATION, REVOCATION):
        return await tell_of_barred(session, posting.party, Sentence.LEFT_OUT, posting.moment)
    if run is None:
        return set()
    row = await run_row(session, run)
    if (told := await _line(session, envelope, row)) is not None:
        level, message = told
        write_event(session, run, level, message, posting.moment)
    topics = {run_topic(run)}
    if envelope.kind in _IN_INBOX:
        topics |= await party_topics(session, row.agreement)
    return topics


def write_event(
    session: AsyncSession,
    run: str,
    level: Level,
    message: Said,
    moment: datetime,
    party: str | None = None,
) -> EventRow:
    """Add a line about a run."""
    row = EventRow(run=run, level=level, message=message[:4000], party=party, created=moment)
    session.add(row)
    return row


async def party_topics(session: AsyncSession, agreement: str) -> set[str]:
    """The inboxes of an agreement's parties."""
    query = select(AgreementPartyRow.party).where(AgreementPartyRow.agreement == agreement)
    return {party_topic(party) for party in (await session.execute(query)).scalars()}


async def tell_of_barred(
    session: AsyncSession, party: str, sentence: Sentence, moment: datetime
) -> set[str]:
    """Write a line into open runs of which this party is shut out; return the topics to wake."""
    of_sites = select(SiteRow.run).where(SiteRow.party == party)
    query = select(RunRow).where(
        RunRow.id.in_(of_sites) | (RunRow.aggregator == party), RunRow.state.in_(OPEN)
    )
    rows = {row.id: row for row in (await session.execute(query)).scalars()}
    barred = await bars(session, rows)
    for run in rows if party in (out := await aggregator_bars(session, [party])) else ():
        barred[run, party] = out[party][0]
    (name,) = await _names(session, [party])
    topics: set[str] = set()
    for row in rows.values():
        if (code := barred.get((row.id, party))) is not None:
            write_event(session, row.id, "warning", say(sentence, name=name, code=code), moment)
            topics |= {run_topic(row.id)} | await party_topics(session, row.agreement)
    return topics


async def _halt(posting: Posting, kind: type[Withdrawal | Suspension | Resumption]) -> set[str]:
    session = posting.session
    body = kind.from_bytes(posting.envelope.payload)
    topics = await party_topics(session, body.agreement)
    if kind is Resumption:
        return topics
    query = select(RunRow).where(RunRow.agreement == body.agreement, RunRow.state.in_(OPEN))
    for row in (await session.execute(query)).scalars():
        write_event(session, row.id, "warning", Said(row.withdrawn or ""), posting.moment)
        topics.add(run_topic(row.id))
    return topics


async def _line(
    session: AsyncSession, envelope: Envelope, row: RunRow
) -> tuple[Level, Said] | None:
    match envelope.kind:
        case "manifest":
            return "info", say(Sentence.PROPOSED, title=repr(row.title), rounds=row.rounds)
        case "consent":
            return await _consent(session, Consent.from_bytes(envelope.payload), row)
        case "aggregator-receipt":
            return await _receipt(session, body_of(AggregatorReceipt, envelope))
        case "result":
            body = RunResult.from_bytes(envelope.payload)
            level: Level = "info" if body.status == "completed" else "error"
            sentence = Sentence.ENDED_WHY if body.cause else Sentence.ENDED
            return level, say(sentence, state=body.status, cause=body.cause)
        case "evaluation":
            said = ", ".join(f"{name} {value}" for name, value in row.metrics.items())
            return "info", Said(said)
        case _:
            return None


async def _consent(session: AsyncSession, body: Consent, row: RunRow) -> tuple[Level, Said]:
    (name,) = await _names(session, [body.party])
    if body.decision == "refuse":
        return "error", say(Sentence.REFUSED, name=name, code=body.code, reason=body.reason)
    accepted = Sentence.ALL_ACCEPTED if row.state == "ready" else Sentence.ACCEPTED
    return "info", say(accepted, name=name)


async def _receipt(session: AsyncSession, body: AggregatorReceipt) -> tuple[Level, Said]:
    if body.outcome == "completed":
        return "info", say(Sentence.ROUND_DONE, round=body.round + 1, count=len(body.cohort))
    lost = ", ".join(await _names(session, body.lost))
    sentence = Sentence.ROUND_IN_VAIN if lost else Sentence.NOBODY_LOST
    return "warning", say(sentence, round=body.round + 1, attempt=body.attempt + 1, names=lost)


async def _names(session: AsyncSession, parties: Iterable[str]) -> list[str]:
    found = []
    for party in parties:
        row = await session.get(PartnerRow, party)
        found.append(row.name if row else party)
    return found
