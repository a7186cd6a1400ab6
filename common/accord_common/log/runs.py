"""What runs' signed records say together: spends, models, epsilon.

Guarantees: a receipt that `check_spend` lets pass charges what manifest and agreement say; a run's
models form one chain from the manifest's. `check_epsilon`: a result's epsilon is that of its
attempts, which are no fewer than receipts show, a site's own and the aggregator's together.

Not covered: what a node was charged for and never posted; its own ledger has it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from accord_common.chain import VerifiedRun
from accord_common.costs import same_epsilon, spent
from accord_common.errors import VerificationError
from accord_common.receipts import AggregatorReceipt, DatasetEpsilon, NodeReceipt, RunResult


def check_spend(receipt: NodeReceipt, run: VerifiedRun) -> None:
    """Refuse a receipt whose ledger entry does not follow from manifest and agreement.

    Raises:
        VerificationError: `wrong-spend`.
        NotFoundError: `not-in-roster`.
    """
    place, spend = run.manifest.site(receipt.party), receipt.ledger.spend
    told = (spend.run, spend.agreement, spend.dataset, spend.round, spend.attempt)
    of = (receipt.manifest, run.agreement_hash, place.dataset, receipt.round, receipt.attempt)
    if told != of:
        raise VerificationError("wrong-spend", "the receipt's ledger entry is for something else")
    dataset, local = run.agreement.dataset(place.dataset), run.manifest.local
    for name, wanted in (
        ("population", dataset.population),
        ("mechanism", "poisson-gaussian" if run.manifest.privacy == "dp" else "none"),
        ("noise_multiplier", place.noise_multiplier),
        ("clipping_norm", local.clipping_norm),
        ("sampling_rate", place.sampling_rate),
        ("size", dataset.size),
        ("steps", local.steps),
        ("adjacency", dataset.privacy.adjacency),
    ):
        if (found := getattr(spend, name)) != wanted:
            raise VerificationError(
                "wrong-spend", f"{name} {found}; {wanted} follows from manifest and agreement"
            )


@dataclass(slots=True)
class RunFacts:
    """What a run's records say so far.

    Attributes:
        run: its id.
        agreement: hash of the agreement that it is under.
        receipts: party -> (round, attempt, ledger entry) of each receipt that it posted.
        repeated: receipts for an attempt that has one: the record's place, and whose it is.
        sent: party -> the attempts that the aggregator signed it was sent, so charged for.
        owed: party -> those of them that it was in the sum of.
        rounds: completed ones.
        result: how it ended, None while it has no result; `result_place` is where it says so.
    """

    run: str
    agreement: str
    receipts: dict[str, set[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(set))
    repeated: list[tuple[str, str]] = field(default_factory=list)
    sent: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))
    owed: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))
    result: RunResult | None = None
    result_place: str = ""
    _model: str | None = None
    rounds: int = 0

    def take_receipt(self, receipt: NodeReceipt, place: str) -> None:
        """A node's. One that repeats an attempt is evidence like any other: the log stays whole."""
        known = self.receipts[receipt.party]
        if any(one[:2] == (receipt.round, receipt.attempt) for one in known):
            said = f"{receipt.party} signed for round {receipt.round} attempt {receipt.attempt}"
            self.repeated.append((place, f"{said} before"))
        known.add((receipt.round, receipt.attempt, receipt.ledger.sequence))

    def take_attempt(self, receipt: AggregatorReceipt, run: VerifiedRun) -> None:
        """The aggregator's next; `broken-model-chain` unless it goes on from the one before."""
        model = self._model or run.manifest.initial_model
        if (receipt.round, receipt.model_before) != (self.rounds, model):
            raise VerificationError(
                "broken-model-chain",
                f"round {receipt.round} attempt {receipt.attempt} does not start where the round "
                "before it ended",
            )
        place = (receipt.round, receipt.attempt)
        for party in receipt.cohort:
            self.sent[party].add(place)
        if receipt.model_after is not None:
            self._model, self.rounds = receipt.model_after, self.rounds + 1
            for party in receipt.cohort:
                self.owed[party].add(place)

    def take_result(self, result: RunResult, place: str) -> None:
        """The run's end; `wrong-round-count`, `broken-model-chain`."""
        if result.rounds != self.rounds:
            raise VerificationError(
                "wrong-round-count",
                f"the result says {result.rounds} rounds, receipts show {self.rounds}",
            )
        if result.model is not None and result.model != self._model:
            raise VerificationError("broken-model-chain", "the result names another model")
        self.result, self.result_place = result, place

    def missing(self) -> dict[str, list[tuple[int, int]]]:
        """Party -> completed attempts that it was in, and posted no receipt of."""
        lacking = {
            party: sorted(owed - {one[:2] for one in self.receipts[party]})
            for party, owed in self.owed.items()
        }
        return {party: places for party, places in sorted(lacking.items()) if places}

    def check_epsilon(self, run: VerifiedRun) -> None:
        """Compute the result's epsilon again, where there is a result.

        Attempts count whichever of the two signed for them: a registry that keeps a site's
        receipts back has the aggregator's own beside it. One that a site's ledger holds twice was
        paid for twice.

        Raises:
            VerificationError: `wrong-epsilon`.
        """
        result = self.result
        if result is None:
            return
        attempts = {row.party: row.attempts for row in result.epsilon}
        for site in run.manifest.roster:
            posted = self.receipts[site.party]
            shown = len(posted) + len(self.sent[site.party] - {one[:2] for one in posted})
            if (counted := attempts.get(site.party, 0)) < shown:
                raise VerificationError(
                    "wrong-epsilon",
                    f"it counts {counted} attempts of {site.party}; receipts show {shown}",
                )
        if not result.epsilon:  # and nothing was charged
            return
        computed = spent(run, attempts)
        if len(computed) != len(result.epsilon):
            raise VerificationError("wrong-epsilon", "it does not name each dataset once")
        for said, found in zip(result.epsilon, computed, strict=True):
            if not _equal(said, found):
                raise VerificationError(
                    "wrong-epsilon",
                    f"it says epsilon {said.epsilon} at delta {said.delta} for dataset "
                    f"{said.dataset}; {found.attempts} attempts cost {found.epsilon} at "
                    f"{found.delta}",
                )


def repeated_entries(runs: Iterable[RunFacts]) -> Iterator[VerificationError]:
    """Entries of one ledger that stand for two attempts, of one run or two: it was reset."""
    seen: dict[tuple[str, int], str] = {}
    for facts in runs:
        for party, receipts in facts.receipts.items():
            for round_, attempt, entry in sorted(receipts):
                here = f"run {facts.run}, round {round_} attempt {attempt}"
                if (known := seen.setdefault((party, entry), here)) != here:
                    yield VerificationError(
                        "ledger-repeats",
                        f"entry {entry} of the ledger of {party} stands for {known} and for {here}",
                    )


def _equal(said: DatasetEpsilon, found: DatasetEpsilon) -> bool:
    if (said.party, said.dataset, said.delta) != (found.party, found.dataset, found.delta):
        return False
    return same_epsilon(said.epsilon, found.epsilon)
