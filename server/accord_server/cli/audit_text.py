"""A verdict, for people and for programs."""

from typing import Any

from accord_common.cli import table
from accord_common.log.audit import Verdict
from accord_common.log.runs import RunFacts
from accord_common.privacy import words


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The whole verdict."""
    head = verdict.head
    return {
        "verdict": _word(verdict),
        "scope": verdict.about.scope,
        "subject": verdict.about.subject,
        "log_key": verdict.about.log,
        "head": None if head is None else head.to_json(),
        "records": verdict.records,
        "checkpoints": verdict.checkpoints,
        "trusted": sorted(verdict.trusted),
        "untrusted": sorted(verdict.untrusted),
        "runs": [
            {
                "run": facts.run,
                "agreement": facts.agreement,
                "status": _status(facts),
                "rounds": facts.rounds,
                "receipts": _receipts(facts),
                "missing_receipts": {
                    party: [f"{round_}/{attempt}" for round_, attempt in places]
                    for party, places in facts.missing().items()
                },
                "epsilon": []
                if facts.result is None
                else [row.to_json() for row in facts.result.epsilon],
            }
            for facts in verdict.runs
        ],
        "failures": [
            {"code": item.code, "place": item.place, "message": item.message}
            for item in verdict.failures
        ],
    }


def as_text(verdict: Verdict) -> str:
    """The same in lines."""
    about, head = verdict.about, verdict.head
    of = "the whole log" if about.scope == "all" else f"{about.scope} {about.subject}"
    parts = [f"{of}: {verdict.records} records of the log with key {about.log}"]
    if head is not None:
        parts.append(
            f"newest checkpoint: {head.size} records at {head.created}, root {head.root[:16]}\n"
            f"{verdict.checkpoints} checkpoints and heads that nodes signed were compared with it"
        )
    for facts in verdict.runs:
        parts.append(_run(verdict, facts))
    for item in verdict.failures:
        parts.append(f"DOES NOT HOLD [{item.code}] {item.place}\n  {item.message}")
    parts.append(_word(verdict))
    if verdict.consistent and verdict.untrusted and verdict.trusted:
        parts.append("trusted by nobody you named: " + ", ".join(sorted(verdict.untrusted)))
    return "\n\n".join(parts)


def _word(verdict: Verdict) -> str:
    if not verdict.consistent:
        return "does not hold"
    return "authenticated" if verdict.authenticated else "consistent, not authenticated"


def _run(verdict: Verdict, facts: RunFacts) -> str:
    trusted = "trusted" if facts.agreement in verdict.trusted else "not trusted"
    lines = [
        f"run {facts.run}: {_status(facts)}, {facts.rounds} rounds, "
        f"{_receipts(facts)} node receipts; agreement {facts.agreement[:16]}, {trusted}"
    ]
    agreement = verdict.walk.agreements.get(facts.agreement)
    names = {} if agreement is None else {party.id: party.name for party in agreement.parties}
    if facts.result is not None and facts.result.epsilon:
        rows = [
            [names.get(row.party, row.party), row.attempts, words.cost(row.epsilon), row.delta]
            for row in facts.result.epsilon
        ]
        lines.append(table("institution", "attempts", "epsilon", "delta", rows=rows))
        if verdict.consistent:
            lines.append("epsilon computed again from the signed events: as signed")
    for party, places in facts.missing().items():
        rounds = ", ".join(str(round_ + 1) for round_, _ in places)
        lines.append(f"no receipt yet of {names.get(party, party)} for round {rounds}")
    return "\n".join(lines)


def _status(facts: RunFacts) -> str:
    return "no result yet" if facts.result is None else facts.result.status


def _receipts(facts: RunFacts) -> int:
    return sum(len(places) for places in facts.receipts.values())
