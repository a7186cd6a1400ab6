"""Sentences about runs, budgets, people and the log that the software writes for people.

Guarantees: `say` writes English; so it is stored, logged and answered by the API. `hear` finds in
what was written the sentence and its values, so pages say it in their reader's language, and so
they do with lines that were stored by an earlier release in the same words.

Not covered: errors, whose codes have sentences of their own (`web.languages.Language.reason`).
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache, lru_cache
from string import Formatter
from typing import NewType

Said = NewType("Said", str)  # a sentence of ours, or several parts of one joined by `AND`


def N_(words: str) -> str:
    """Mark words that pages translate."""
    return words


AND = N_("; ")
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"
_NUMBER = r"[0-9]+"
_ROLE = "owner|coordinator|steward|auditor"
_VALUES = {  # names of values that not every text fits; others are free
    "code": r"[a-z0-9]+(?:-[a-z0-9]+)*",
    "time": _TIME,
    "span": r"[0-9]+ (?:days|hours|minutes|s)",
    "reason": ".*?",  # some may be left out
    "role": _ROLE,
    "instead": _ROLE,
    "scopes": "[a-z]+(?:, [a-z]+)*",
    "state": "failed|stopped|completed|refused",
    **dict.fromkeys(
        ("attempt", "count", "days", "entry", "most", "round", "rounds", "version"), _NUMBER
    ),
}
_KEPT = 4096  # sentences heard before; a page of a log has some 50


class Sentence(StrEnum):
    """Each with the names of its values."""

    # a run's log
    PROPOSED = N_("run {title} of {rounds} rounds waits for consents")
    ACCEPTED = N_("{name} accepted")
    ALL_ACCEPTED = N_("{name} accepted; all have")
    REFUSED = N_("{name} refused [{code}]: {reason}")
    STARTED = N_("the aggregator has started the run")
    TAKEN_OVER = N_("another aggregator process goes on")
    ROUND_DONE = N_("round {round} completed by {count} nodes")
    ROUND_IN_VAIN = N_("round {round}, attempt {attempt} aborted, lost: {names}")
    NOBODY_LOST = N_("round {round}, attempt {attempt} aborted, lost: none")
    ENDED = N_("run {state}")
    ENDED_WHY = N_("run {state}: {cause}")
    CLOSED = N_("the registry ends the run: {state}: {cause} [{code}]")
    STOP_ASKED = N_("{name} asks to stop: {reason}")
    LEFT_OUT = N_("{name} is left out from now on [{code}]")
    READMITTED = N_("{name} was readmitted, after [{code}]")
    GOES_ON = N_("the run goes on")
    NO_KEYS = N_("the aggregator has no keys for the offer of this run")
    AGGREGATOR_WAITS = N_("the aggregator waits: {cause} [{code}]")
    AGGREGATOR_STUCK = N_("the aggregator cannot go on: {cause} [{code}]")
    AGGREGATOR_DISK = N_("the aggregator's disk: {cause}")
    # why a run is to end
    WITHDREW = N_("{name} withdrew from the agreement: {reason}")
    SUSPENDED = N_("{name} suspended the agreement: {reason}")
    REPLACED = N_("version {version} of the agreement has replaced this one")
    AGREEMENT_OVER = N_("the agreement ended at {time}")
    KEY_REVOKED = N_("{name} has revoked its aggregator's key")
    AGGREGATOR_BARRED = N_("the coordinator has suspended {name}, which runs the aggregator")
    # what a run waits for
    STOPPING = N_("the run was asked to stop")
    NO_ANSWER = N_("no answer from {names}")
    BUSY = N_("the aggregator drives another run first")
    SILENT = N_("no word from the aggregator")
    IDLE = N_("the aggregator is there and has not begun: see its log")
    NO_AGGREGATOR = N_("no aggregator")
    ON_RESTART = N_("the run goes on once it is started again")
    WITHOUT_REGISTRY = N_("it and the nodes may go on without the registry until {time}")
    WAITS_FOR = N_("waits for {names}")
    OTHERWISE = N_("otherwise it ends at {time}")
    # how the registry ends a run
    UNANSWERED = N_("no answer from {names} within {span}")
    SILENT_SINCE = N_("no word from the aggregator since {time}")
    SO_FAR = N_("{count} of {rounds} rounds are complete")
    NOT_BEGUN = N_("no aggregator began the run within {span}")
    HEARD_LAST = N_("last heard: {time}")
    NEVER_HEARD = N_("last heard: never")
    # what ends at a machine
    DELEGATION = N_("the delegation of {name}")
    CERTIFICATE = N_("the certificate {path}")
    AUTHORITY = N_("the authority in {path}")
    # who got in, and how
    INVITED_AS = N_("as {role}")
    ROLE_CHANGED = N_("from {role} to {instead}")
    FACTOR_TOO = N_("the second factor too")
    BY_PROVIDER = N_("provider")
    TOKEN_OF = N_("{name}: {scopes}, {days} days")
    # notices that nobody took
    NO_MAIL = N_("no mail server is configured any more")
    NO_WEBHOOK = N_("the webhook is not configured any more")
    # what does not agree
    KEY_CHANGED = N_("node key {new} in place of {old}")
    KEY_RENEWED = N_("node key {new} after a revocation")
    KEY_TAKEN_BACK = N_("took its node key back: {reason}")
    OUTSIDE = N_("[{code}] {cause}")
    REPEATED = N_("round {round} attempt {attempt} has a receipt already")
    RESET = N_("ledger entry {entry} stands for two attempts: a ledger was reset")
    TOO_MANY = N_("attempt {attempt} of the {most} that the manifest allows")
    COUNTS_DIFFER = N_("receipts show {count} attempts, the result {most}")
    AFTER_LAST_DAY = N_("spent at {time}, after the agreement ran out")
    AFTER_REPLACEMENT = N_("spent at {time}, after the agreement was replaced by another version")
    AFTER_WITHDRAWAL = N_("spent at {time}, after the agreement was withdrawn from")
    OVERSPENT = N_("epsilon {epsilon} spent of {cap} that {name} may at delta {delta}")
    NOT_TOLD = N_("the result says nothing of this dataset")
    NOT_EACH_ONCE = N_("the result does not name each site's dataset once")
    DELTA_DIFFERS = N_("the result speaks of delta {delta}, the agreement of {agreed}")
    EPSILON_DIFFERS = N_("the result says epsilon {epsilon}")
    EPSILON_COSTS = N_("{count} attempts cost {epsilon}")
    RECEIPT_OWED = N_(
        "the aggregator signed for an upload of {name} in round {round} attempt {attempt}"
    )
    NOT_COME = N_("its receipt has not come")
    SILENT_NODE = N_("{name} takes part in an open run, and was heard last: {time}")
    MUTE_NODE = N_("{name} takes part in an open run, and was heard last: never")
    SILENT_DEBTOR = N_("{name} owes an answer, and was heard last: {time}")
    MUTE_DEBTOR = N_("{name} owes an answer, and was heard last: never")


def say(sentence: Sentence, **values: object) -> Said:
    """Write a sentence.

    Raises:
        KeyError: a value is missing.
    """
    return Said(sentence.format(**values))


def joined(*parts: Said | None) -> Said:
    """Sentences as one; None is left out."""
    return Said(AND.join(part for part in parts if part))


@lru_cache(maxsize=_KEPT)
def hear(text: str) -> tuple[tuple[Sentence, Mapping[str, str]], ...]:
    """What sentences a text is, in order; none where any part of it is in other words."""
    before, _, last = text.rpartition(AND)
    if before and (end := _one(last)) is not None and (rest := hear(before)):
        return (*rest, end)
    whole = _one(text)
    return () if whole is None else (whole,)


def _one(text: str) -> tuple[Sentence, Mapping[str, str]] | None:
    for sentence, pattern in _patterns():
        if (found := pattern.fullmatch(text)) is not None:
            return sentence, found.groupdict()
    return None


@cache
def _patterns() -> list[tuple[Sentence, re.Pattern[str]]]:
    """Those with the most words of their own first."""
    made = []
    for sentence in Sentence:
        parts = [(own, name) for own, name, _, _ in Formatter().parse(sentence)]
        pattern = "".join(
            re.escape(own) + (f"(?P<{name}>{_VALUES.get(name, '.+?')})" if name else "")
            for own, name in parts
        )
        length = sum(len(own) for own, _ in parts)
        made.append((length, sentence, re.compile(pattern, re.DOTALL)))
    made.sort(key=lambda one: -one[0])
    return [(sentence, pattern) for _, sentence, pattern in made]
