"""An aggregator dies in mid-run: that is seen, the run is stopped, and goes on as another run."""

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from accord_common.home import Home
from accord_common.receipts import NodeReceipt
from accord_server.coordinator import desk
from accord_server.demo.federation import Federation
from tests import federations

ROUNDS = 40
SILENT_S = 4  # renewed every second; long enough for a busy machine


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("resuming") / "federation"
    with federations.running(folder, settings={"silent_s": SILENT_S}) as found:
        yield found


def watch(federation: Federation, run: str) -> Any:
    home = federation.coordinator.home / "accord"
    return federation.services.follow(federation.coordinator, "run", "watch", run, "--home", home)


def secrets_of(home: Path, run: str) -> bytes:
    with closing(connect(f"file:{home / 'accord' / 'rounds.db'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT * FROM rounds WHERE run = ?", (run,)).fetchall()
    return b"".join(value for row in rows for value in row if isinstance(value, bytes))


@pytest.mark.soak(sample=0, full=1)
def test_a_dead_aggregators_run_is_stopped_signed_later_and_gone_on_with(
    federation: Federation,
) -> None:
    services, aggregator = federation.services, federation.aggregator
    run = federation.start_run(federations.plan(federation, rounds=ROUNDS))
    lines = watch(federation, run)
    update = next(line for line in lines if line["event"] == "round" and line["round"] >= 2)
    services.kill(aggregator)
    update = next(line for line in lines if line["event"] == "standing" and line["code"])
    assert update["code"] == "aggregator-silent"

    stopped = federation.office("run", "stop", run, "--reason", "the machine burnt down")
    assert (stopped["state"], stopped["unsigned"]) == ("stopped", True)
    end = list(lines)[-1]
    assert (end["event"], end["state"], end["unsigned"]) == ("end", "stopped", True)
    assert lines.status()[0] == 1

    federation.start_aggregator()
    with Home.open(federation.coordinator.home / "accord").registry() as client:
        cursor = 0
        while (view := client.run(run)).unsigned:
            cursor = client.inbox(cursor, 10.0).cursor
        assert (view.state, view.code, view.cause) == (
            *("stopped", "stop-requested"),
            "the machine burnt down",
        )
        proved = desk.verified_result(client, desk.verified_run(client, view))
        assert proved is not None and proved.result.rounds == view.round < ROUNDS
        assert {row.attempts for row in view.epsilon} == {len(proved.receipts)}
    for node in federation.nodes:
        assert secrets_of(node.home, run) == b""

    resumed = federation.office("run", "resume", run, "--yes")
    told = resumed["continues"]
    assert (told["completed"], told["asked_rounds"]) == (view.round, ROUNDS - view.round)
    assert told["model"] == view.model
    later = watch(federation, resumed["run"])
    next(line for line in later if line["event"] == "round")
    services.kill(federation.registry)
    away = next(line for line in later if line["event"] == "registry")
    assert not away["reachable"]
    registry = federation.registry
    services.start(registry, "registry", "start", "--home", registry.home / "registry")
    updates = list(later)
    assert {"event": "registry", "reachable": True}.items() <= updates[0].items()
    assert (updates[-1]["event"], updates[-1]["state"]) == ("end", "completed")
    assert later.status()[0] == 0
    shown = federation.office("run", "show", resumed["run"])
    assert shown["run"]["continues"] == {"run": run, "rounds": view.round}
    assert shown["run"]["round"] == told["asked_rounds"]
    check_charges(federation, run, resumed["run"])


def check_charges(federation: Federation, *runs: str) -> None:
    """Each attempt is charged once at each node, in one chain over both runs."""
    with Home.open(federation.coordinator.home / "accord").registry() as client:
        for node in federation.nodes:
            home = Home.open(node.home / "accord")
            entries = [
                NodeReceipt.from_bytes(envelope.payload).ledger
                for run in runs
                for envelope in desk.receipt_envelopes(client, run)
                if envelope.signers == {home.node_key().public}
            ]
            spends = [(e.spend.run, e.spend.round, e.spend.attempt) for e in entries]
            assert len(set(spends)) == len(spends)
            assert all(one.sequence < two.sequence for one, two in pairwise(entries))
