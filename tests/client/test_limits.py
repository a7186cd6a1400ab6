"""What an institution lets its node use: read strictly, refused before a charge, mended by time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from accord_client import capacity, hours, queueing
from accord_client.capacity import MOST_PART_BYTES, Capacity
from accord_client.limits import FILE_NAME, Limits
from accord_client.link import FleetLink
from accord_client.refusals import TOLD
from accord_client.serving import Serving
from accord_client.session import Session
from accord_client.state import Run
from accord_common import wire
from accord_common.errors import ConflictError, TransportError, UsageError
from accord_common.fields import new_id, now
from accord_common.manifest import RunManifest
from tests.client.institutions import Institutions, Refused, make_institutions
from tests.client.test_node_session import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    three: Institutions = make_institutions(tmp_path)
    with three.open(three.parties[0]) as stores:
        yield Bench(three, stores, three.manifest())


def at(day: str, time: str) -> datetime:
    """A moment of the week that began on Monday, 2 February 2026, local time."""
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    moment = datetime.fromisoformat(f"2026-02-{2 + days.index(day):02d}T{time}:00")
    return moment.astimezone()


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        (
            "Mon-Fri 18:00-06:00",
            ["Mon 18:00", "Tue 05:59", "Sat 05:59", "Fri 23:59"],
            ["Mon 05:59", "Tue 06:00", "Sat 06:00", "Sat 18:00", "Sun 23:00"],
        ),
        ("Sat-Sun 00:00-24:00", ["Sat 00:00", "Sun 23:59"], ["Fri 23:59", "Mon 00:00"]),
        ("Fri-Mon 09:00-10:00", ["Sun 09:30", "Mon 09:30", "Fri 09:00"], ["Tue 09:30"]),
        ("Wed 12:00-13:30", ["Wed 13:29"], ["Wed 13:30", "Thu 12:30"]),
    ],
)
def test_a_window_holds_its_hours_and_no_others(
    window: str, inside: list[str], outside: list[str]
) -> None:
    windows = [hours.parse(window)]
    for wanted, moments in ((True, inside), (False, outside)):
        for moment in moments:
            assert hours.within(windows, at(*moment.split())) is wanted, moment
    assert hours.within([], at("Sun", "03:00"))


@pytest.mark.parametrize(
    "text",
    ["", "18:00-06:00", "Mon 18:00", "Mon-Abc 01:00-02:00", "Mon 24:00-02:00", "Mon 1:00-2:00",
     "Mon 01:00-01:00", "Mon 00:00-24:01", "Mon 29:00-30:00", "Mon 01:00-02:00 x"],
)  # fmt: skip
def test_a_window_that_does_not_parse_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        hours.parse(text)
    assert caught.value.code == "bad-hours"


def test_options_come_before_the_file_and_the_file_before_the_defaults(tmp_path: Path) -> None:
    assert Limits.load(tmp_path) == Limits()
    (tmp_path / FILE_NAME).write_text('cores = 3\nhours = ["Sat 00:00-24:00"]\nmost_runs = 2\n')
    found = Limits.load(tmp_path, cores=2, hours=None, memory_mib=2048)
    assert (found.cores, found.most_runs, found.memory_mib) == (2, 2, 2048)
    assert found.hours == ("Sat 00:00-24:00",)


def test_what_the_daemon_was_started_with_is_noted_for_status(bench: Bench) -> None:
    assert Limits.noted(bench.stores.state) is None
    limits = Limits(cores=2, hours=("Sat 00:00-24:00",))
    limits.note(bench.stores.state)
    assert Limits.model_validate(Limits.noted(bench.stores.state)) == limits


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("core = 3", "bad-settings"),
        ("cores = 0", "bad-settings"),
        ("memory_mib = 100", "bad-settings"),
        ('cores = "many"', "bad-settings"),
        ("cores 3", "bad-settings"),
        ('hours = ["never"]', "bad-hours"),
    ],
)
def test_settings_that_are_wrong_are_refused_by_name(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(UsageError) as caught:
        Limits.load(tmp_path)
    assert caught.value.code == code and text.split()[0] in str(caught.value) + text.split()[0]


def test_cores_bind_the_process_and_what_it_starts() -> None:
    """In a process of its own: this one's other tests keep their cores."""
    script = "from accord_client.limits import Limits; import os; Limits(cores=1).bind(); "
    script += "print(len(os.sched_getaffinity(0)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def limited(bench: Bench, **limits: Any) -> Session:
    bench.session = Session(
        bench.stores, bench.run, clock=lambda: bench.now, limits=Limits.model_validate(limits)
    )
    return bench.session


def refused_at_r0(bench: Bench) -> str:
    """The code at R0."""
    with pytest.raises(Refused) as caught:
        bench.aggregator.advertise(bench.session, 1, 0)
    assert caught.value.message == TOLD[caught.value.code]
    return caught.value.code


def test_outside_its_hours_a_node_begins_no_round_and_ends_the_one_it_is_in(bench: Bench) -> None:
    begins = bench.now.astimezone() - timedelta(minutes=1)
    window = f"{begins:%a %H:%M}-{begins + timedelta(minutes=30):%H:%M}"
    session = limited(bench, hours=[window])
    attempt = bench.shared(0, 0)
    bench.now += timedelta(hours=1)  # it strikes while the round trains
    reply = bench.train(attempt)
    assert isinstance(reply.next, wire.Refusal) and reply.next.code == "outside-hours"
    assert bench.charged() == [(0, 0)]  # and its update left
    assert refused_at_r0(bench) == "outside-hours" and not session.held_back.passed()
    run = bench.stores.state.run(bench.run)
    assert run is not None and window in run.refused_reason
    bench.now += timedelta(days=7, hours=-1)
    assert (
        session.held_back.passed() and not session.held_back.passed()
    )  # once: then it connects again
    bench.shared(1, 0)
    assert bench.charged() == [(0, 0)]


def test_memory_that_is_short_refuses_before_the_charge(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = bench.shared(0, 0)
    held = 600 << 20
    monkeypatch.setattr(capacity, "_resident", lambda: held)
    bench.session._capacity = bench.session._contribution.capacity = Capacity(
        bench.stores.home.path, Limits(memory_mib=610)
    )
    with pytest.raises(Refused) as caught:
        bench.train(attempt)
    assert caught.value.code == "memory-short" and bench.charged() == []
    assert refused_at_r0(bench) == "memory-short"
    held = 500 << 20
    assert bench.session.held_back.passed()
    bench.serve(1, 0)
    assert bench.charged() == [(1, 0)]


def test_the_gradients_of_a_part_take_what_the_ceiling_leaves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = RunManifest.from_bytes(bench.manifest.payload)
    folder = bench.stores.home.path
    monkeypatch.setattr(capacity, "_resident", lambda: 500 << 20)
    assert Capacity(folder, Limits()).check(manifest) == MOST_PART_BYTES
    left = Capacity(folder, Limits(memory_mib=600)).check(manifest)
    assert 99 << 20 < left <= 100 << 20
    assert Capacity(folder, Limits(memory_mib=600)).check(manifest, 50 << 20) == left - (50 << 20)
    with pytest.raises(ConflictError):
        Capacity(folder, Limits(memory_mib=600)).check(manifest, 90 << 20)


def test_memory_that_is_short_does_not_tell_how_many_rows_there_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R0 costs nothing, so a coordinator may ask with models of every size."""
    (dataset,) = bench.stores.datasets.all()
    mark = dataset.mark.model_copy(update={"rows": 1})
    one_row = dataset.model_copy(update={"mark": mark})
    assert capacity.rows_bytes(one_row) == capacity.rows_bytes(dataset) > 0

    held = 500 << 20
    monkeypatch.setattr(capacity, "_resident", lambda: held)
    session = limited(bench, memory_mib=600)
    before = session._contribution.fits()
    bench.serve(0, 0)
    trainer = session._contribution._trainer
    assert trainer is not None and trainer.held_bytes > 0
    held += trainer.held_bytes  # read by now, and no more of the ceiling than before
    assert session._contribution.fits() == before


def test_what_a_process_holds_is_what_the_system_says() -> None:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    assert abs(capacity._resident() - (int(line.split()[1]) << 10)) < 64 << 20


_FULL = """
import os, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from accord_client.session import Session
from tests.client.institutions import Refused, make_institutions
from tests.client.test_node_session import Bench
from accord_common.errors import ConflictError
from accord_client.bases import fetch_base

disk = Path(sys.argv[1])
three = make_institutions(disk)
with three.open(three.parties[0]) as stores:
    bench = Bench(three, stores, three.manifest())
    attempt = bench.shared(0, 0)
    filler = disk / "filler"
    with filler.open("wb") as file:
        space = os.statvfs(disk)
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - (32 << 20))
    try:
        bench.train(attempt)
    except Refused as refused:
        print(refused.code, bench.charged())
    try:
        bench.aggregator.advertise(bench.session, 1, 0)
    except Refused as refused:
        print(refused.code, bench.session.held_back.passed())
    filler.unlink()
    print(bench.session.held_back.passed())
    bench.serve(1, 0)
    print(bench.charged())
"""


def test_a_disk_that_is_full_refuses_before_the_charge_and_takes_part_again(tmp_path: Path) -> None:
    """A real file system, full for real: a tmpfs in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = _FULL.format(paths=[path for path in sys.path if path])
    (tmp_path / "full.py").write_text(script)
    mount = f"mount -t tmpfs -o size=160m none {disk} && exec {sys.executable} full.py {disk}"
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stdout.splitlines() if not line.startswith("20")]
    assert told == ["disk-full []", "disk-full False", "True", "[(1, 0)]"], done.stderr


def remember(bench: Bench, run_id: str, dataset: str, decision: Any, state: str) -> None:
    """A run as the node's own memory has it."""
    store = bench.stores.state
    own = store.run(bench.run)
    assert own is not None
    if decision == "ask":
        store.ask(run_id, own.manifest, "Other", dataset, now())
    else:
        run = Run(run_id, own.manifest, "Other", dataset, decision, "", "", None, -1, -1, state)
        store.decide(run, bench.manifest, [], now())
    store.follow(run_id, state, now())


def test_a_dataset_is_in_one_run_and_the_others_wait_in_their_order(bench: Bench) -> None:
    own = bench.stores.state.run(bench.run)
    assert own is not None and own.state == "ready"
    second, third = new_id(), new_id()

    def turn(run_id: str, most: int | None = None, dataset: str = own.dataset) -> str:
        try:
            queueing.require_turn(bench.stores, run_id, dataset, most)
        except ConflictError as error:
            return error.code
        return "turn"

    for run_id in (third, second):
        assert turn(run_id) == "dataset-busy"
        remember(bench, run_id, own.dataset, "ask", "awaiting-consent")
    assert queueing.waiting(bench.stores) == {second: 1, third: 2}
    assert turn(new_id(), dataset="another") == "turn"
    assert turn(new_id(), 1, "another") == "too-many-runs"
    bench.stores.state.follow(bench.run, "completed", now())
    assert turn(third) == turn(second) == "turn" and queueing.waiting(bench.stores) == {}


def test_of_two_runs_that_wait_for_consents_the_earlier_goes_first_everywhere(bench: Bench) -> None:
    own = bench.stores.state.run(bench.run)
    assert own is not None
    bench.stores.state.follow(bench.run, "completed", now())
    early, late = new_id(), new_id()
    remember(bench, late, own.dataset, "accept", "awaiting-consent")
    queueing.require_turn(bench.stores, early, own.dataset, None)  # the later one waits elsewhere
    bench.stores.state.follow(late, "running", now())
    with pytest.raises(ConflictError):
        queueing.require_turn(bench.stores, early, own.dataset, None)


@dataclass
class Hearing:
    """A link on which nothing comes; it is closed after some waits."""

    waits: int
    connections: int = 0

    def receive(self, _: float) -> None:
        self.waits -= 1
        if self.waits < 0:
            raise TransportError("link-closed", "the link was closed")

    connected = here = True

    def come_back(self) -> None:
        self.connections += 1

    def close(self) -> None:
        return


def test_a_daemon_connects_again_once_its_hours_begin(bench: Bench) -> None:
    local = bench.now.astimezone()
    later = local + timedelta(hours=2)
    window = f"{later:%a %H:%M}-{later + timedelta(hours=1):%H:%M}"
    session = limited(bench, hours=[window])
    assert refused_at_r0(bench) == "outside-hours"
    link = Hearing(3)
    serving = Serving(bench.stores, session, cast(FleetLink, link), lambda: None, lambda: None)
    serving.talk()
    assert link.connections == 0
    bench.now += timedelta(hours=2, minutes=1)
    link.waits = 3
    serving.talk()
    assert link.connections == 1
