"""Where the aggregator stands, for who watches it: written by the engine, read by `metrics`.

Guarantees: writing costs nothing and never fails; what is said of a run is gone when it ends; codes
of refusals are those that this release knows, any other is `other`, so that no node makes series.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram

STAGES = ("advertise", "share", "update", "confirm", "unmask", "step")
# What nodes may say (SPEC.md, "What leaves a node" and "Messages"), and what the aggregator does.
_CODES = frozenset(
    {
        "already-charged", "answered-elsewhere", "base-missing", "budget-exceeded",
        "dataset-changed", "dataset-missing", "key-revoked", "ledger-behind", "ledger-broken",
        "ledger-restored", "ledger-unwritable", "no-cuda", "no-mask-key", "node-error",
        "party-suspended", "registry-outage", "round-decided", "run-over", "run-stopped",
        "stale-attempt", "state-unwritable", "task-code-differs", "too-many-attempts",
        "unexpected-message",
    }
)  # fmt: skip
# Small models take a second a round, large ones over slow lines an hour.
_BUCKETS = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)


@dataclass(frozen=True, slots=True)
class Driven:
    """The run that is driven now; `connected` may be asked from any thread."""

    run: str
    rounds: int
    allowed_s: Mapping[str, float]  # stage -> what the manifest's deadlines allow it
    names: Mapping[str, str]  # party -> name, of the roster
    connected: Callable[[], Collection[str]]


@dataclass(slots=True)
class Progress:
    """See the module. One a process; `registry` holds what is counted over all runs.

    Attributes:
        driven: the run, None between runs.
        round: counts from 0; `attempt` likewise.
        stage: one of `STAGES`.
        since: Unix time at which the stage began.
        heard: Unix time at which the registry last answered; None before it has.
    """

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    driven: Driven | None = None
    round: int = 0
    attempt: int = 0
    stage: str = ""
    since: float = 0.0
    heard: float | None = None
    _seconds: Histogram = field(init=False)
    _attempts: Counter = field(init=False)
    _refusals: Counter = field(init=False)

    def __post_init__(self) -> None:
        self._seconds = Histogram(
            "accord_aggregator_round_seconds",
            "How long completed rounds took",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._attempts = Counter(
            "accord_aggregator_attempts",
            "Attempts by outcome",
            ("outcome",),
            registry=self.registry,
        )
        self._refusals = Counter(
            "accord_aggregator_refusals",
            "Refusals and wrong answers of nodes, by code",
            ("code",),
            registry=self.registry,
        )
        for outcome in ("completed", "aborted"):  # a series that is there can be alerted on
            self._attempts.labels(outcome)

    def begin(self, driven: Driven) -> None:
        """A run is driven from here on."""
        self.at(0, 0, "advertise")
        self.driven = driven

    def end(self) -> None:
        """It is not any more."""
        self.driven = None

    def at(self, round_: int, attempt: int, stage: str) -> None:
        """A stage begins."""
        self.round, self.attempt, self.stage, self.since = round_, attempt, stage, time.time()

    def completed(self, seconds: float) -> None:
        """A round is complete."""
        self._attempts.labels("completed").inc()
        self._seconds.observe(seconds)

    def aborted(self) -> None:
        """An attempt is aborted."""
        self._attempts.labels("aborted").inc()

    def refused(self, code: str) -> None:
        """A node refused, or answered wrongly."""
        self._refusals.labels(code if code in _CODES else "other").inc()
