"""A run as it happens: one update for each thing that changed.

Guarantees: every consent, attempt, log line and state change that the registry shows is told once,
in order; the last update is the end. It waits on the registry's long poll, never in a tight loop.
A registry that does not answer is told once, with what was known last, and asked again and again.

Metrics are computed here, on public rows; nothing is asked of a node. Updates are the registry's
word; `desk.verified_result` proves the end.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from accord_common.api import schemas
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import (
    FINAL_STATES,
    EventView,
    RoundView,
    RunState,
    RunView,
)
from accord_common.backoff import Backoff, Told
from accord_common.chain import VerifiedRun
from accord_common.errors import (
    AccordError,
    ConflictError,
    NotFoundError,
    PolicyError,
    TransportError,
)
from accord_common.fields import format_time, now
from accord_common.privacy import words
from accord_common.receipts import DatasetEpsilon
from accord_server.coordinator.updates import (
    ConsentUpdate,
    ContactUpdate,
    EndUpdate,
    LogUpdate,
    RefusalUpdate,
    RoundUpdate,
    StandingUpdate,
    StateUpdate,
    Update,
)

POLL_S = 25.0  # below the registry's 30 s
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.5, 15.0  # while it is away
Score = Callable[[bytes], dict[str, float]]


def watch(
    client: RegistryClient,
    run: VerifiedRun,
    score: Score | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Update]:
    """Tell what happens until the run is over.

    Args:
        client: the registry.
        run: the run; its agreement names the parties and what an attempt costs.
        score: evaluates a model's bytes; None for no metrics.
        sleep: waits between two tries to reach a registry that is away.
    """
    teller = _Teller(client, run, score)
    backoff = Backoff(_FIRST_PAUSE_S, _MOST_PAUSE_S)
    away: ContactUpdate | None = None
    while not teller.over:
        try:
            view = client.run(run.manifest.id)
            if away is not None:
                yield away.model_copy(update={"reachable": True, "code": "", "message": ""})
                away = None
                backoff.reset()
            yield from teller.step(view)
        except AccordError as error:
            if not _may_pass(error):
                raise
            if away is None:
                away = teller.lost(error)
                yield away
            sleep(backoff.pause_s())


def log_lines(
    client: RegistryClient,
    run_id: str,
    *,
    follow: bool,
    away: Callable[[AccordError], None] = lambda error: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[EventView]:
    """Tell the lines of a run's log that are there; with `follow`, until the run is over.

    Args:
        client: the registry.
        run_id: the run.
        follow: wait for more, and for a registry that is away.
        away: told once each time that it is.
        sleep: waits between two tries.
    """
    after, backoff, told = 0, Backoff(_FIRST_PAUSE_S, _MOST_PAUSE_S), Told()
    while True:
        try:
            over = not follow or client.run(run_id).state in FINAL_STATES
            lines = client.events(run_id, after=after, wait_s=0.0 if over else POLL_S)
        except AccordError as error:
            if not (follow and _may_pass(error)):
                raise
            if told.news(error.code):
                away(error)
            sleep(backoff.pause_s())
            continue
        told.news(None)
        backoff.reset()
        yield from lines
        after = lines[-1].sequence if lines else after
        if over and not lines:
            return


def _may_pass(error: AccordError) -> bool:
    """Whether to ask again: the registry is away, or has an internal error (a bare AccordError)."""
    return isinstance(error, TransportError) or type(error) is AccordError


def verdict(end: EndUpdate) -> AccordError | None:
    """The error that an end stands for: None, `run-failed` or `run-stopped`, or the refusal's."""
    if end.state == "completed":
        return None
    if end.state == "refused":
        sites = ", ".join(end.refused_by) or "a node"
        return PolicyError("run-refused", f"{sites} refused: [{end.code}] {end.cause}")
    tail = f" [{end.code}]" if end.code else ""
    return ConflictError(f"run-{end.state}", (end.cause or f"the run {end.state}") + tail)


def stopped(view: RunView) -> AccordError | None:
    """What a request to stop, that was waited for or not, has to say against: None if nothing."""
    if view.state == "stopped" or view.state not in FINAL_STATES:
        return None
    return ConflictError(
        f"run-{view.state}", f"the run was {view.state} before anybody heeded the stop"
    )


class _Teller:
    """What has been told so far."""

    def __init__(self, client: RegistryClient, run: VerifiedRun, score: Score | None) -> None:
        self._client = client
        self._run = run
        self._score = score
        self._state: tuple[RunState, str | None] | None = None
        self._answered: set[str] = set()
        self._rounds = 0
        self._charged: Counter[str] = Counter()  # attempts by party
        self._line = 0
        self._metrics: dict[str, float] = {}
        self._standing: str | None = None
        self.over = False

    def step(self, view: RunView) -> Iterator[Update]:
        """What is new, now or within a poll; sets `over` with the end."""
        yield from self.news(view)
        if view.state not in FINAL_STATES:
            yield from self.lines(POLL_S)
            return
        yield from self.lines(0.0)
        self.over = True
        yield self.end(view)

    def lost(self, error: AccordError) -> ContactUpdate:
        """The registry is away."""
        state = self._state[0] if self._state else "unknown"
        return ContactUpdate(
            reachable=False,
            code=error.code,
            message=error.message,
            since=format_time(now()),
            last=f"{state}, {self._rounds} attempts at rounds",
        )

    def news(self, run: RunView) -> Iterator[Update]:
        """Everything since the last call."""
        for consent in run.consents:
            if consent.decision is not None and consent.party not in self._answered:
                self._answered.add(consent.party)
                yield ConsentUpdate(
                    site=self._name(consent.party),
                    decision=consent.decision,
                    code=consent.code,
                    reason=consent.reason,
                )
        if run.state not in FINAL_STATES:
            yield from self._state_of(run)
        attempts = self._client.rounds(self._run.manifest.id)
        for attempt in attempts[self._rounds :]:
            update = self._round(attempt, run)
            self._rounds += 1  # told, whatever comes next
            yield update

    def lines(self, wait_s: float) -> Iterator[Update]:
        """New lines of parties; the registry's own repeat what other updates say.

        Every record of a run has a line, so a watcher waits here, and looks at the run only after:
        a line that came in between would otherwise be read and its change missed.
        """
        run, page = self._run.manifest.id, schemas.MAX_PAGE
        while page == schemas.MAX_PAGE:
            lines = self._client.events(run, after=self._line, wait_s=wait_s)
            page, wait_s = len(lines), 0.0
            for line in lines:
                self._line = line.sequence
                if line.party is not None:
                    yield LogUpdate(level=line.level, message=line.message, created=line.created)

    def end(self, run: RunView) -> EndUpdate:
        """The last word."""
        refusals = [consent for consent in run.consents if consent.decision == "refuse"]
        first = refusals[0] if refusals else None
        return EndUpdate(
            run=run.id,
            state=run.state,
            code=run.code or (first.code if first else ""),
            cause=run.cause or (first.reason if first else ""),
            refused_by=[self._name(consent.party) for consent in refusals],
            refused={
                self._name(consent.party): RefusalUpdate(
                    round=consent.refusal.round + 1, code=consent.refusal.code
                )
                for consent in run.consents
                if consent.refusal is not None
            },
            rounds=run.round,
            model=run.model,
            metrics=self._metrics,
            epsilon=self._epsilon(run.epsilon),
            unsigned=run.unsigned,
        )

    def _state_of(self, run: RunView) -> Iterator[Update]:
        if self._state != (run.state, run.stop_requested):
            self._state = (run.state, run.stop_requested)
            yield StateUpdate(state=run.state, stop_requested=run.stop_requested)
        found = run.standing
        if (found.code if found else None) != self._standing:
            self._standing = found.code if found else None
            yield StandingUpdate(
                code=self._standing,
                message=found.message if found else "the run goes on",
                since=found.since if found else format_time(now()),
            )

    def _round(self, attempt: RoundView, run: RunView) -> RoundUpdate:
        metrics = self._scored(attempt.model_after)
        self._metrics = metrics or self._metrics
        self._charged.update({*attempt.cohort, *attempt.lost})  # at most: some were lost before
        return RoundUpdate(
            round=attempt.round + 1,
            rounds=run.rounds,
            attempt=attempt.attempt,
            outcome=attempt.outcome,
            seconds=attempt.seconds,
            sites=[self._name(party) for party in attempt.cohort],
            lost=[self._name(party) for party in attempt.lost],
            refused={self._name(party): code for party, code in attempt.refused.items()},
            model=attempt.model_after,
            metrics=metrics,
            epsilon=self._epsilon(self._spent()),
        )

    def _scored(self, model: str | None) -> dict[str, float]:
        if model is None or self._score is None:
            return {}
        try:
            return self._score(self._client.get_blob(model))
        except NotFoundError:
            return {}  # the aggregator has not uploaded this one

    def _spent(self) -> list[DatasetEpsilon]:
        from accord_common.costs import spent  # brings the accountants; other verbs do without

        return spent(self._run, self._charged)

    def _epsilon(self, rows: Sequence[DatasetEpsilon]) -> dict[str, str]:
        return {self._name(row.party): words.cost(row.epsilon) for row in rows}

    def _name(self, party: str) -> str:
        return self._run.agreement.party(party).name
