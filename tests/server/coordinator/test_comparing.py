"""Runs side by side, from signed records: privacy's price, what differs, what does not compare."""

from collections.abc import Sequence
from typing import Any

import pytest

from accord_common import chain
from accord_common.api.schemas import RunState
from accord_common.envelope import Envelope, sign
from accord_common.errors import UsageError, VerificationError
from accord_common.identity import SigningKey
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    EVALUATION,
    AggregatorReceipt,
    DatasetEpsilon,
    Evaluation,
)
from accord_server.cli.compare import words
from accord_server.coordinator.comparing import Comparison, Evidence, check_count, compare
from tests.world import World, make_world, model_of

Metrics = dict[str, str]
HERE, THERE = "aa" * 32, "bb" * 32  # two hold-outs


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


class Run:
    """One run's records, as an honest registry holds them."""

    def __init__(self, world: World, title: str, *, private: bool = True, **changes: Any) -> None:
        self.world, self.keys = world, world.run_keys()
        if not private:
            roster = world.manifest_body(self.keys).roster
            sites = [site.model_copy(update={"noise_multiplier": "0"}) for site in roster]
            changes = {"privacy": "none", "roster": sites} | changes
        self.private = private
        self.manifest = world.manifest(self.keys, title=title, **changes)
        known = [world.agreement_envelope, self.keys.offer, self.manifest]
        self.records = {item.hash: item for item in [*known, *world.delegations.values()]}
        self.run = chain.fetch_run(self.records.__getitem__, self.manifest.hash)
        self.head = self.manifest.hash

    def add(self, envelope: Envelope) -> Envelope:
        self.records[envelope.hash] = envelope
        return envelope

    def attempt(self, round_: int, attempt: int = 0, *, lost: int = 0, done: bool = True) -> None:
        """End an attempt; `lost` of the sites had gone."""
        parties = [site.party for site in self.run.manifest.roster]
        gone = tuple(parties[:lost])
        signed = self.world.aggregator_receipt(
            self.keys, self.manifest, self.head, round_, attempt, lost=() if done else gone
        )
        body = AggregatorReceipt.from_bytes(signed.payload)
        if done:
            body = body.model_copy(
                update={
                    "cohort": parties[lost:],
                    "lost": list(gone),
                    "uploads": body.uploads[lost:],
                }
            )
        self.head = self.add(sign(AGGREGATOR_RECEIPT, body, self.keys.receipt)).hash

    def conclude(self, **changes: Any) -> chain.VerifiedResult:
        epsilon = [
            DatasetEpsilon(
                party=site.party,
                dataset=site.dataset,
                attempts=2,
                epsilon="0.5" if self.private else None,
                delta="0.00001",
            )
            for site in self.run.manifest.roster
        ]
        given = {"model": model_of(2), "epsilon": epsilon} | changes
        result = self.world.result(self.keys, self.manifest, self.head, **given)
        self.add(result)
        self.result_envelope = result
        return chain.fetch_result(self.records.__getitem__, result.hash, self.run)

    def score(
        self,
        result: chain.VerifiedResult,
        holdout: str,
        metrics: Metrics,
        model: str = model_of(2),
    ) -> Evaluation:
        signed = self.world.evaluation(self.manifest, self.result_envelope, model)
        body = Evaluation.from_bytes(signed.payload).model_copy(
            update={"holdout": holdout, "metrics": metrics}
        )
        envelope = sign(EVALUATION, body, self.world.coordinator.identity)
        return chain.verify_evaluation(envelope, self.run, result)


def completed(
    world: World,
    title: str,
    auc: str | None = "0.95",
    *,
    holdouts: Sequence[str] = (HERE,),
    private: bool = True,
    **changes: Any,
) -> Evidence:
    """A run of two rounds, scored on some hold-outs, oldest first."""
    run = Run(world, title, private=private, **changes)
    run.attempt(0)
    run.attempt(1)
    result = run.conclude()
    metrics = {} if auc is None else {"auc": auc, "accuracy": "0.9"}
    evaluations = [run.score(result, holdout, metrics) for holdout in holdouts if metrics]
    return Evidence("completed", run.run, result, evaluations, [0.25, 0.5])


def codes(answer: Comparison) -> list[str]:
    return [one.code for one in answer.warnings]


def test_privacy_costs_what_the_run_without_it_has_more(world: World) -> None:
    private = completed(world, "With", "0.951")
    plain = completed(world, "Without", "0.972", private=False)
    answer = compare([private, plain])
    costs = {cost.metric: (cost.cost, cost.also_differ) for cost in answer.privacy_cost}
    assert costs == {"auc": (0.021, []), "accuracy": (0, [])}
    assert answer.gains["auc"] == [0, 0.021]
    assert [run.privacy for run in answer.runs] == ["dp", "none"]
    assert [spend.epsilon for spend in answer.runs[0].epsilon] == ["0.5"] * 3
    assert [spend.epsilon for spend in answer.runs[1].epsilon] == [None] * 3
    assert codes(answer) == []
    text = words(answer)
    assert "A against B: privacy cost 0.0210 auc\n" in text
    assert "0.9720 (+0.0210)" in text
    assert "0.5 at 0.00001" in text and "no guarantee" in text
    assert "adding or removing one record" in text and "accord-node compare" in text


def test_what_else_differs_is_named_beside_the_cost(world: World) -> None:
    local = {"steps": 5, "learning_rate": "0.1", "clipping_norm": "1", "clipping": "flat"}
    answer = compare(
        [
            completed(world, "With", local=local),
            completed(world, "Without", "0.97", private=False),
        ]
    )
    assert {cost.metric: cost.also_differ for cost in answer.privacy_cost} == {
        "auc": ["local.learning_rate"],
        "accuracy": ["local.learning_rate"],
    }
    assert "privacy cost 0.0200 auc; they also differ in local.learning_rate" in words(answer)
    differing = {row.field: row.values for row in answer.configuration}
    assert differing["local.learning_rate"] == ["0.1", "0.5"]
    assert differing["noise_multiplier"] == ["2", "0"]
    assert differing["privacy"] == ["dp", "none"]


def test_alike_runs_differ_in_nothing(world: World) -> None:
    answer = compare([completed(world, "Once", "0.95"), completed(world, "Again", "0.94")])
    assert answer.configuration == [] and answer.privacy_cost == []
    assert answer.gains["auc"] == [0, -0.01]
    assert "they differ in" not in words(answer)


def test_a_field_that_sites_do_not_share_names_them(world: World) -> None:
    roster = world.manifest_body(world.run_keys()).roster
    sites = [site.model_copy(update={"weight": 100 * index + 100}) for index, site in
             enumerate(roster)]  # fmt: skip
    answer = compare([completed(world, "Equal"), completed(world, "Sizes", roster=sites)])
    (row,) = [row for row in answer.configuration if row.field == "weights"]
    names = [world.agreement.party(site.party).name for site in sites]
    assert row.values == ["200", f"{names[0]} 100, {names[1]} 200, {names[2]} 300"]


def test_sums_and_attempts_come_from_the_receipts(world: World) -> None:
    run = Run(world, "Bumpy")
    run.attempt(0, 0, lost=1, done=False)
    run.attempt(0, 1)
    run.attempt(1, 0, lost=1)
    bumpy = Evidence("completed", run.run, run.conclude(), (), [1, 2, 3.5])
    (column, _) = compare([bumpy, completed(world, "Smooth")]).runs
    assert (column.rounds, column.rounds_planned, column.aborted) == (2, 2, 1)
    assert (column.smallest_cohort, column.largest_cohort, column.sites) == (2, 3, 3)
    assert column.seconds == 6.5
    assert "2 to 3 of 3 sites" in words(compare([bumpy, completed(world, "Smooth")]))


def test_the_newest_holdout_that_all_were_scored_on_counts(world: World) -> None:
    first = completed(world, "First", holdouts=(THERE, HERE, "cc" * 32))
    second = completed(world, "Second", holdouts=(HERE, THERE))
    answer = compare([first, second])
    assert [run.holdout for run in answer.runs] == [HERE, HERE]
    assert "different-holdouts" not in codes(answer)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("different-tasks", {"task": {"name": "triage", "distribution": "x", "version": "1",
                                      "code_hash": "ab" * 32}}),
        ("different-schemas", {"schema_hash": "ef" * 32}),
        ("different-holdouts", {"holdouts": (THERE,)}),
        ("not-scored", {"auc": None}),
    ],
)  # fmt: skip
def test_what_does_not_compare_is_warned_of_and_priced_by_nobody(
    world: World, code: str, changes: dict[str, Any]
) -> None:
    other = completed(world, "Without", **{"auc": "0.97", "private": False, **changes})
    answer = compare([completed(world, "With"), other])
    assert codes(answer) == [code]
    assert answer.privacy_cost == []
    assert f"warning [{code}]" in words(answer)


def test_other_datasets_do_not_compare(world: World) -> None:
    run = Run(world, "Two")
    roster = run.run.manifest.roster[:2]
    secagg = run.run.manifest.secagg.model_copy(update={"threshold": 2, "min_cohort": 2})
    two = Run(world, "Two", roster=roster, secagg=secagg)
    two.attempt(0)
    two.attempt(1)
    answer = compare([completed(world, "Three"), Evidence("completed", two.run, None, (), ())])
    assert "different-datasets" in codes(answer)


def test_epsilons_for_different_neighbours_are_told_apart(world: World) -> None:
    datasets = [
        item.model_copy(
            update={"privacy": item.privacy.model_copy(update={"adjacency": "replace-one"})}
        )
        for item in world.agreement.datasets
    ]
    other = world.amended(datasets=datasets)
    answer = compare([completed(world, "One"), completed(other, "Other")])
    assert codes(answer) == ["different-adjacencies"]
    assert {row.field for row in answer.configuration} == {"agreement"}
    assert "replacing one record" in words(answer)


@pytest.mark.parametrize("state", ["awaiting-consent", "running", "refused"])
def test_a_run_without_a_result_has_no_figures(world: World, state: RunState) -> None:
    waiting = Evidence(state, Run(world, "Waits").run, None, (), ())
    answer = compare([completed(world, "Done"), waiting])
    column = answer.runs[1]
    assert (column.epsilon, column.metrics, column.model, column.smallest_cohort) == (
        [], {}, None, None,
    )  # fmt: skip
    assert codes(answer) == ["not-completed"]
    assert answer.gains["auc"] == [0, None]
    assert f"Waits is {state}" in words(answer)


def test_a_run_that_failed_keeps_its_cost_and_code(world: World) -> None:
    run = Run(world, "Broken")
    run.attempt(0)
    result = run.conclude(status="failed", code="too-few-nodes", rounds=1, model=model_of(1))
    scored = [run.score(result, HERE, {"auc": "0.8"}, model_of(1))]
    plain = completed(world, "Done", private=False)
    answer = compare([Evidence("failed", run.run, result, scored, [1]), plain])
    assert answer.runs[0].code == "too-few-nodes" and len(answer.runs[0].epsilon) == 3
    assert answer.privacy_cost == []
    assert "Broken is failed [too-few-nodes]" in words(answer)


@pytest.mark.parametrize("runs", [["a"], [str(number) for number in range(9)], ["a", "b", "a"]])
def test_two_to_eight_different_runs_are_compared(runs: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        check_count(runs)
    assert caught.value.code == "bad-comparison"
    check_count(["a", "b"])
    check_count([str(number) for number in range(8)])


def test_metrics_count_only_if_the_coordinator_signed_them_for_this_model(world: World) -> None:
    run = Run(world, "Scored")
    run.attempt(0)
    run.attempt(1)
    result = run.conclude()
    honest = Evaluation.from_bytes(
        world.evaluation(run.manifest, run.result_envelope, model_of(2)).payload
    )
    stranger = sign(EVALUATION, honest, SigningKey.generate())
    for changes in ({"model": model_of(1)}, {"result": "ab" * 32}, {"manifest": "ab" * 32}):
        body = honest.model_copy(update=changes)
        with pytest.raises(VerificationError) as caught:
            chain.verify_evaluation(
                sign(EVALUATION, body, world.coordinator.identity), run.run, result
            )
        assert caught.value.code == "wrong-evaluation"
    with pytest.raises(VerificationError):
        chain.verify_evaluation(stranger, run.run, result)
    with pytest.raises(VerificationError) as caught:
        chain.verify_evaluation(run.result_envelope, run.run, result)
    assert caught.value.code == "wrong-kind"
