"""What happened to a run, in order, with the reasons that were given: its page's timeline.

Guarantees: what a record says names that record; what is the registry's own word, or an unsigned
request, names none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.manifest import MANIFEST
from accord_common.receipts import CONSENT, EVALUATION, RESULT, Consent, Evaluation, RunResult
from accord_server.registry.runs.facts import closures
from accord_server.registry.tables import ClosureRow, RecordRow, RoundRow, RunRow, StopRow

_KINDS = (MANIFEST, CONSENT, RESULT, EVALUATION)
_MOST = 400  # records of these kinds: a roster has at most 100 sites, answers may be repeated


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened.

    Attributes:
        kind: manifest, accept, refuse, running, stop, evaluation, or a final state.
        time: when the registry had it.
        party: whose word it is; None for the registry's.
        words: the reason or cause that was given; empty for none.
        code: of a refusal or a failure; empty for none.
        record: hash of the record that says it.
        metrics: of an evaluation.
    """

    kind: str
    time: datetime
    party: str | None = None
    words: str = ""
    code: str = ""
    record: str | None = None
    metrics: Mapping[str, str] | None = None


async def steps(session: AsyncSession, row: RunRow) -> list[Step]:
    """Return what happened to a run, oldest first."""
    query = select(RecordRow).where(RecordRow.run == row.id, RecordRow.kind.in_(_KINDS))
    found = await session.execute(query.order_by(RecordRow.sequence).limit(_MOST))
    records = list(found.scalars())
    began = (
        await session.execute(
            select(RoundRow.started).where(RoundRow.run == row.id, RoundRow.number == 1)
        )
    ).scalar_one_or_none()
    stop = await session.get(StopRow, row.id)
    closure = (await closures(session, [row.id])).get(row.id)
    told = [*_from_records(row, records), *_unsigned(row, began, stop, closure)]
    return sorted(told, key=lambda step: step.time)  # stable: of one moment, as they were stored


def _from_records(row: RunRow, records: Sequence[RecordRow]) -> Iterator[Step]:
    for record in records:
        envelope = Envelope.from_bytes(record.envelope)
        at, name = record.received, record.hash
        match record.kind:
            case "manifest":
                yield Step("manifest", at, record=name)
            case "consent":
                consent = Consent.from_bytes(envelope.payload)
                said = (consent.party, consent.reason, consent.code)
                yield Step(consent.decision, at, *said, record=name)
            case "result":
                result = RunResult.from_bytes(envelope.payload)
                said = (row.aggregator, result.cause, result.code)
                yield Step(result.status, at, *said, record=name)
            case "evaluation":
                metrics = Evaluation.from_bytes(envelope.payload).metrics
                yield Step("evaluation", at, record=name, metrics=metrics)


def _unsigned(
    row: RunRow, began: datetime | None, stop: StopRow | None, closure: ClosureRow | None
) -> Iterator[Step]:
    if began is not None:
        yield Step("running", began)
    if stop is not None:
        yield Step("stop", stop.created, stop.party, stop.reason)
    if closure is not None and row.result is None:
        yield Step(closure.state, closure.created, None, closure.cause, closure.code)
