"""What a node tells its own institution: the figures that its steward sees, and no others."""

import os
from pathlib import Path

from accord_client.balances import balances
from accord_client.metrics import render
from tests.client.institutions import make_institutions
from tests.e2e.monitoring import Seen


def test_budget_runs_and_dates_are_the_stewards(tmp_path: Path) -> None:
    institutions = make_institutions(tmp_path)
    party = institutions.parties[0]
    with institutions.open(party) as stores:
        run = institutions.accept(stores, institutions.manifest())
        seen = Seen()
        seen.take(render(stores, {run: True}).decode())
        (balance,) = balances(stores, stores.datasets.all())
        for name, value in (
            ("cap", float(balance.rule.cap.epsilon)),
            ("spent", balance.spent),
            ("reserved", balance.reserved),
            ("left", balance.left),
        ):
            ((labels, shown),) = seen.numbers[f"accord_node_budget_{name}_epsilon"]
            assert labels == {"dataset": balance.dataset.name, "agreement": balance.agreement}
            assert shown == value
        assert balance.reserved > 0
        assert seen.numbers["accord_node_aggregator_connected"] == [({"run": run}, 1.0)]
        assert seen.numbers["accord_node_run_round"] == [({"run": run}, 0.0)]
        assert seen.numbers["accord_node_ledger_frozen"] == [({}, 0.0)]
        assert "accord_node_delegation_expires_timestamp_seconds" in seen.samples
        free = os.statvfs(stores.home.path)
        ((_, shown),) = seen.numbers["accord_node_disk_free_bytes"]
        assert 0 < shown <= free.f_blocks * free.f_frsize
