"""A whole run, from invitations to budgets."""

import pytest

from accord_common.api import schemas
from accord_common.receipts import NodeReceipt
from tests.server.registry.stack import Stack, complete, run_id
from tests.world import model_of


def test_a_run_from_manifest_to_evaluation(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    world = stack.world
    coordinator = stack.client(world.coordinator)
    keys = stack.offer()
    assert [offer.hash for offer in coordinator.offers()] == [keys.offer.hash]
    manifest = stack.start(keys)
    assert coordinator.offers() == []
    run = coordinator.run(run_id(stack, manifest))
    assert (run.state, run.round, run.rounds) == ("awaiting-consent", 0, 2)

    result = complete(stack, keys, manifest)
    coordinator.post(world.evaluation(manifest, result, model_of(2)))

    run = coordinator.run(run.id)
    assert (run.state, run.round, run.model) == ("completed", 2, model_of(2))
    assert run.metrics == {"accuracy": "0.95", "auc": "0.98"}
    assert {site.decision for site in run.consents} == {"accept"}
    for site in run.consents:
        newest = NodeReceipt.from_bytes(coordinator.record(site.head or "").payload)
        assert (newest.party, newest.round, newest.attempt) == (site.party, 1, 0)
    assert len(run.epsilon) == 3
    rounds = coordinator.rounds(run.id)
    assert [(item.round, item.attempt, item.outcome) for item in rounds] == [
        (0, 0, "aborted"),
        (0, 1, "completed"),
        (1, 0, "completed"),
    ]
    assert all(item.seconds >= 0 for item in rounds)
    budgets = coordinator.budgets()
    assert {row.dataset for row in budgets} == {actor.dataset for actor in world.hospitals}
    assert {(row.attempts, row.cap, row.delta) for row in budgets} == {(3, "3", "0.00001")}
    assert all(row.epsilon is not None and 0 < float(row.epsilon) < 3 for row in budgets)
    monkeypatch.setattr(schemas, "MAX_PAGE", 2)
    assert coordinator.budgets() == budgets  # in two pages
    monkeypatch.undo()
    lines = [event.message for event in coordinator.events(run.id)]
    assert "round 1 completed by 3 nodes" in lines
    assert lines[-2] == "run completed"
