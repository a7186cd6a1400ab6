"""What a run that is not over waits for, and when the registry ends it itself.

Guarantees: pure functions of rows and time, so every replica and every restart finds the same; each
state has a bound after which it ends, with who did not come. Time that the registry did not serve
counts against nobody: aggregators get their bound anew once it is back, sites an hour.

Not covered: a node that does not come back (its aggregator waits `rejoin_s`, says so, and ends the
run with a signed result).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from accord_common.fields import format_time
from accord_common.sentences import Said, Sentence, joined, say
from accord_server.registry.tables import LeaseRow, RunRow

_ANSWER_AFTER_OUTAGE = timedelta(hours=1)  # sites get it, however little of their time was left


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds.

    Attributes:
        silent_s: without a word from an aggregator, until the run says so; an aggregator that was
            asked to stop a run gets as long.
        consents_s: from the manifest until every site must have answered.
        abandoned_s: without an aggregator, until a run fails; longer than a night.
    """

    silent_s: int = 60
    consents_s: int = 7 * 86_400
    abandoned_s: int = 86_400

    @property
    def renew_s(self) -> float:
        """How often an aggregator is to renew its lease: four times before it counts as silent."""
        return self.silent_s / 4


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run that its records have not ended.

    Attributes:
        run: its projection.
        unanswered: names of sites that owe an answer.
        lease: who drives it, or did.
        asked: when somebody asked that it end.
        why: in whose words.
        seen: when its aggregator was last heard, whatever about.
        busy: the aggregator drives another run.
        free_since: when it was last heard about another run.
        up_since: since when the registry has served.
    """

    run: RunRow
    unanswered: tuple[str, ...]
    lease: LeaseRow | None
    asked: datetime | None
    why: str
    seen: datetime | None
    busy: bool
    free_since: datetime | None
    up_since: datetime


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a run waits for: a code for programs, words for people, and since when."""

    code: str
    message: Said
    since: datetime


@dataclass(frozen=True, slots=True)
class Ending:
    """How the registry ends a run, and when it does."""

    state: Literal["failed", "stopped"]
    code: str
    cause: str
    due: datetime


def trouble(facts: Facts, patience: Patience, moment: datetime) -> Trouble | None:
    """Say what a run waits for; None where it goes on."""
    found = obstacle(facts, patience, moment)
    if facts.asked is None:
        return found
    words = joined(say(Sentence.STOPPING), found.message if found else None)
    return Trouble("stopping", words, facts.asked)


def ending(facts: Facts, patience: Patience) -> Ending | None:
    """Say when the registry ends a run by itself, and how; None while an aggregator has it.

    The first of several counts: a stop, a site that does not answer, an aggregator that is gone.
    """
    return min(_endings(facts, patience), key=lambda end: end.due, default=None)


def obstacle(facts: Facts, patience: Patience, moment: datetime) -> Trouble | None:
    """The same, whether or not the run was asked to stop."""
    run, silent = facts.run, timedelta(seconds=patience.silent_s)
    if run.state == "awaiting-consent":
        names = _listed(facts.unanswered)
        words = joined(say(Sentence.NO_ANSWER, names=names), _until(facts, patience))
        return Trouble("awaiting-consent", words, run.created)
    if facts.lease is not None:
        return _of_lease(facts, facts.lease, patience, moment)
    since = run.timed_from
    if facts.busy:
        return Trouble("queued", say(Sentence.BUSY), since)
    if (heard := facts.seen or run.created) + silent < moment > facts.up_since + silent:
        words = joined(say(Sentence.SILENT), _until(facts, patience))
        return Trouble("aggregator-missing", words, heard)
    if _free(facts) + silent < moment:
        words = joined(say(Sentence.IDLE), _until(facts, patience))
        return Trouble("aggregator-idle", words, _free(facts))
    return None


def _of_lease(
    facts: Facts, lease: LeaseRow, patience: Patience, moment: datetime
) -> Trouble | None:
    silent = timedelta(seconds=patience.silent_s)
    settled = moment > facts.up_since + silent  # before that, nobody could be heard
    if settled and lease.expires <= moment:
        none, again = say(Sentence.NO_AGGREGATOR), say(Sentence.ON_RESTART)
        words = joined(none, again, _until(facts, patience))
        return Trouble("stalled", words, lease.renewed)
    if settled and lease.renewed + silent < moment:
        alone = say(Sentence.WITHOUT_REGISTRY, time=format_time(lease.expires))
        words = joined(say(Sentence.SILENT), alone)
        return Trouble("aggregator-silent", words, lease.renewed)
    if lease.waiting is not None:
        words = say(Sentence.WAITS_FOR, names=lease.waiting)
        return Trouble("waiting-for-nodes", words, lease.waiting_since or lease.renewed)
    return None


def _endings(facts: Facts, patience: Patience) -> Iterator[Ending]:
    run, lease, up = facts.run, facts.lease, facts.up_since
    silent = timedelta(seconds=patience.silent_s)
    abandoned = timedelta(seconds=patience.abandoned_s)
    if facts.asked is not None:
        heard = facts.asked if lease is None else max(facts.asked, lease.renewed)
        yield Ending("stopped", "stop-requested", facts.why, max(heard, up) + silent)
    if run.state == "awaiting-consent":
        asked_for = timedelta(seconds=patience.consents_s)
        yield Ending(
            "failed",
            "consent-timeout",
            say(
                Sentence.UNANSWERED,
                names=_listed(facts.unanswered),
                span=_span(patience.consents_s),
            ),
            max(run.created + asked_for, up + _ANSWER_AFTER_OUTAGE),
        )
    elif lease is not None:
        yield Ending(
            "failed",
            "aggregator-gone",
            joined(
                say(Sentence.SILENT_SINCE, time=format_time(lease.renewed)),
                say(Sentence.SO_FAR, count=run.round, rounds=run.rounds),
            ),
            max(max(lease.renewed, up) + abandoned, lease.expires),
        )
    elif not facts.busy:
        last = say(Sentence.NEVER_HEARD)
        if facts.seen is not None:
            last = say(Sentence.HEARD_LAST, time=format_time(facts.seen))
        yield Ending(
            "failed",
            "aggregator-missing",
            joined(say(Sentence.NOT_BEGUN, span=_span(patience.abandoned_s)), last),
            _free(facts) + abandoned,
        )


def _free(facts: Facts) -> datetime:
    """From when on the aggregator could have begun."""
    return max(facts.run.timed_from, facts.up_since, facts.free_since or facts.up_since)


def _until(facts: Facts, patience: Patience) -> Said | None:
    end = ending(facts, patience)
    return None if end is None else say(Sentence.OTHERWISE, time=format_time(end.due))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nobody"


def _span(seconds: int) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds % size == 0 and seconds > size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
