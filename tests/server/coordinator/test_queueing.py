"""Whose dataset is in another run, by what everybody can read."""

from typing import Any

from accord_common.api.schemas import ConsentView, RunView
from accord_common.fields import new_id
from accord_server.coordinator.queueing import waiting

PARTY, OTHER, DATASET = new_id(), new_id(), new_id()


def run(state: Any, decision: Any, dataset: str = DATASET) -> RunView:
    consent = ConsentView(
        party=PARTY,
        dataset=dataset,
        decision=decision,
        code="",
        reason="",
        head=None,
        refusal=None,
        barred=None,
    )
    answered = consent.model_copy(update={"party": OTHER, "decision": "accept"})
    return RunView(
        id=new_id(),
        manifest_hash="ab" * 32,
        agreement="cd" * 32,
        aggregator=new_id(),
        title="Run",
        state=state,
        cause="",
        code="",
        round=0,
        rounds=2,
        consents=[consent, answered],
        epsilon=[],
        model=None,
        metrics={},
        stop_requested=None,
        created="2026-01-31T12:00:00Z",
        updated="2026-01-31T12:00:00Z",
    )


def test_a_site_waits_for_the_run_that_has_its_dataset() -> None:
    earlier = run("awaiting-consent", "accept")
    mine = run("awaiting-consent", None)
    later_waits, later_runs = run("awaiting-consent", "accept"), run("running", "accept")
    assert waiting(mine, [earlier, mine, later_waits]) == {PARTY: earlier.id}
    assert waiting(mine, [mine, later_waits]) == {}  # it waits for this one
    assert waiting(mine, [mine, later_runs]) == {PARTY: later_runs.id}
    assert waiting(mine, [run("completed", "accept"), run("running", "accept", new_id())]) == {}
    assert waiting(run("running", None), [later_runs]) == {}
