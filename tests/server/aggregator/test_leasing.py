"""One process drives a run: leases that run out, are lost, are given back, and come too late."""

import threading
from pathlib import Path

import pytest

from accord_common import wire
from accord_common.api.schemas import RunView
from accord_common.chain import fetch_result, fetch_run
from accord_common.envelope import Envelope
from accord_common.home import Home
from accord_server.aggregator import leasing, members
from accord_server.aggregator.control import Control, Interrupted
from accord_server.aggregator.transport import InProcessTransport
from accord_server.registry.runs.standing import Patience
from tests.server.aggregator.test_service import Site, quick, result_envelope
from tests.server.aggregator.test_service import site as site
from tests.server.registry.test_standing import DAY, Time
from tests.simulator import Answer, SimNode, dies


class Hanging:
    """A node that does not answer, and when it was asked and hung up on."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.left = threading.Event(), threading.Event()
        close = InProcessTransport.close

        def closing(transport: InProcessTransport) -> None:
            close(transport)
            self.left.set()

        monkeypatch.setattr(InProcessTransport, "close", closing)
        site.faults[0, "train", 1, 0] = self._hang

    def _hang(self, node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        self.begun.set()
        return None


@pytest.fixture
def hanging(site: Site, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    return Hanging(site, monkeypatch)


def view_of(site: Site, manifest: Envelope) -> RunView:
    client = site.stack.client(site.stack.world.coordinator)
    (view,) = [run for run in client.runs() if run.manifest_hash == manifest.hash]
    return view


def attempts(site: Site, run: str) -> list[tuple[int, int, str]]:
    rounds = site.stack.client(site.stack.world.coordinator).rounds(run)
    return [(row.round, row.attempt, row.outcome) for row in rounds]


AGAIN = [(0, 0, "completed"), (1, 0, "aborted"), (1, 1, "completed")]


def test_without_the_registry_it_stops_before_its_lease_is_over_and_goes_on_after(
    site: Site, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "MARGIN_S", leasing.LEASE_S - 1)
    with site.serving():
        manifest = site.start(deadlines=quick() | {"update_s": 60})
        assert hanging.begun.wait(20)
        site.line.down.set()
        assert hanging.left.wait(20)  # long before the node is late
        site.faults.clear()
        monkeypatch.setattr(leasing, "MARGIN_S", 30)
        site.line.down.clear()
        view = site.finished(manifest)
    assert view.state == "completed"
    assert attempts(site, view.id) == AGAIN


def test_a_process_that_lost_its_lease_waits_until_the_other_is_gone(
    site: Site, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patience, "renew_s", 0.1)
    aggregator = site.stack.client(site.stack.world.aggregator)
    with site.serving() as service:
        manifest = site.start(deadlines=quick() | {"update_s": 60})
        assert hanging.begun.wait(20)
        run, holder = view_of(site, manifest).id, service._holder
        fence = aggregator.lease(run, holder, 900).fence  # a copy of its folder was started
        assert fence == 2 and hanging.left.wait(20)
        site.faults.clear()
        assert service._holder != holder  # so it cannot take it back
        aggregator.lease(run, holder, 0, fence)
        view = site.finished(manifest)
    assert (view.state, aggregator.rounds(run)[-1].attempt) == ("completed", 1)


def test_a_late_aggregator_ends_what_the_registry_found(
    site: Site, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.serving():
        manifest = site.start(deadlines=quick() | {"update_s": 60})
        assert hanging.begun.wait(20)
    site.faults.clear()
    run = view_of(site, manifest).id
    other = site.stack.client(site.stack.world.aggregator).lease(run, "aggregator-2", 1)
    assert other.fence == 2  # SIGTERM laid its lease down
    Time(site.stack, monkeypatch).sweep(2 * DAY)
    assert view_of(site, manifest).unsigned
    asked = site.stack.client(site.stack.world.coordinator)
    with site.serving():
        cursor = 0
        for _ in range(8):
            if not (view := view_of(site, manifest)).unsigned:
                break
            cursor = asked.inbox(cursor, 2.0).cursor
    assert (view.state, view.code, view.round) == ("failed", "aggregator-gone", 1)
    assert attempts(site, run) == AGAIN[:2]
    assert {row.attempts for row in view.epsilon} == {2}
    client = site.stack.client(site.stack.world.coordinator)
    proved = fetch_run(client.record, manifest.hash)
    found = fetch_result(client.record, result_envelope(site, manifest).hash, proved)
    assert found.result.cause == view.cause


def test_for_whom_it_waits_is_at_the_registry_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "TELL_S", 0.0)
    site.faults[1, "train", 0, 0] = dies
    with site.serving():
        manifest = site.start(deadlines=quick() | {"rejoin_s": 60})
        client = site.stack.client(site.stack.world.coordinator)
        wanted, told, cursor = "waits for hospital-2 (not connected)", "", 0
        for _ in range(300):
            standing = view_of(site, manifest).standing
            if standing is not None and (told := standing.message) == wanted:
                assert standing.code == "waiting-for-nodes"
                break
            cursor = client.inbox(cursor, 0.1).cursor
        assert told == wanted
        client.stop(view_of(site, manifest).id, "seen enough")
        assert site.finished(manifest).state == "stopped"


def test_the_engine_looks_at_its_own_clock() -> None:
    time = [0.0]
    control = Control(lease_until=870, clock=lambda: time[0])
    time[0] = 869.9
    control.check()
    time[0] = 870
    with pytest.raises(Interrupted):
        control.check()


def test_a_folder_has_one_name_wherever_it_is_mounted(site: Site) -> None:
    name = leasing.holder_of(site.home)
    moved = site.home.path.with_name("mounted-elsewhere")
    site.home.path.rename(moved)
    assert leasing.holder_of(Home.open(moved)) == name


def test_a_fence_is_remembered(tmp_path: Path) -> None:
    fence = leasing.Fence(tmp_path / "fence")
    assert fence.value is None
    fence.store(7)
    assert leasing.Fence(tmp_path / "fence").value == 7
