"""A node's memory: tables, the queue to the registry, the lock, and what survives a crash."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from accord_client import outbox
from accord_client.contact import RegistryContact
from accord_client.data.files import FileSource
from accord_client.datasets import Datasets
from accord_client.delivery import deliver
from accord_client.lock import only_daemon, running_pid
from accord_client.session import Session
from accord_client.state import State
from accord_client.stores import Stores
from accord_common.api.client import RegistryClient
from accord_common.errors import (
    AccordError,
    AuthError,
    ConflictError,
    DataError,
    FormatError,
    NotFoundError,
    TransportError,
    UsageError,
    VerificationError,
)
from accord_common.fields import format_time, now
from accord_server.ca import create_ca
from tests.client.institutions import Institutions, make_institutions, write_table
from tests.world import SCHEMA


@pytest.fixture
def three(tmp_path: Path) -> Institutions:
    return make_institutions(tmp_path)


@pytest.fixture
def stores(three: Institutions) -> Iterator[Stores]:
    with three.open(three.parties[0]) as stores:
        yield stores


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    return Datasets(tmp_path / "datasets")


def prepare(datasets: Datasets, path: Path, size: int = 100) -> None:
    dataset = datasets.prepare(
        FileSource.at(path),
        SCHEMA,
        name="t",
        size=size,
        unit="record",
        policy="ask",
        population=None,
    )
    datasets.store(dataset)


def test_a_table_is_registered_found_and_checked_again(datasets: Datasets, tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv")
    prepare(datasets, path)
    dataset = datasets.find("t")
    assert datasets.get(dataset.id) == dataset and dataset.mark.rows == 60
    dataset.check_unchanged()
    write_table(path, rows=61)
    with pytest.raises(DataError) as caught:
        dataset.check_unchanged()
    assert caught.value.code == "dataset-changed"
    updated = datasets.update(dataset, policy="auto-within-agreement")
    updated.check_unchanged()
    assert (updated.id, updated.mark.rows) == (dataset.id, 61)
    path.unlink()
    assert datasets.problems()["t"] is not None


def test_a_wrong_table_is_not_stored(datasets: Datasets, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("radius,texture,malignant\n" + "99,1,0\n" * 30)
    with pytest.raises(DataError) as caught:
        prepare(datasets, path)
    assert caught.value.code == "out-of-range"
    with pytest.raises(DataError) as caught:
        prepare(datasets, write_table(path), size=59)
    assert caught.value.code == "dataset-outgrew-size"
    assert datasets.all() == []


def test_a_name_is_used_once_and_bounded(datasets: Datasets, tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv")
    prepare(datasets, path)
    with pytest.raises(UsageError) as caught:
        prepare(datasets, path)
    assert caught.value.code == "dataset-exists"
    with pytest.raises(FormatError):
        datasets.prepare(
            FileSource.at(path),
            SCHEMA,
            name="x" * 101,
            size=99,
            unit="record",
            policy="ask",
            population="new",
        )
    with pytest.raises(NotFoundError):
        datasets.find("nothing")


def test_a_file_that_is_registered_gets_a_new_budget_only_where_somebody_says_so(
    datasets: Datasets, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "t.csv")
    prepare(datasets, path)
    first = datasets.find("t").population
    charged: list[str] = []

    def again(file: Path, population: str | None) -> str:
        return datasets.prepare(
            FileSource.at(file),
            SCHEMA,
            name="u",
            size=200,
            unit="record",
            policy="ask",
            population=population,
            charged=charged,
        ).population

    copy = tmp_path / "copy.csv"
    copy.write_bytes(path.read_bytes())
    (tmp_path / "link.csv").symlink_to(path)
    grown = write_table(path, rows=70)  # the case of a table that outgrew its size
    for file in (grown, tmp_path / "link.csv", copy):
        with pytest.raises(UsageError) as caught:
            again(file, None)
        assert caught.value.code == "file-registered" and first in caught.value.hint
        assert again(file, first) == first
        assert again(file, "new") not in (first, "new")
    other = write_table(tmp_path / "other.csv", seed=2)
    assert again(other, None) != first
    charged.append(first)
    assert again(other, None) != first
    # The ledger knows who was charged for, whatever became of the registration.
    datasets.forget(datasets.find("t"))
    with pytest.raises(UsageError, match=r"\[population-unclaimed\]") as caught:
        again(path, None)
    assert f"--population {first}" in caught.value.hint
    assert again(path, first) == first and again(path, "new") != first


def test_a_patient_is_protected_only_where_each_has_one_row(
    datasets: Datasets, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "t.csv")
    with pytest.raises(UsageError) as caught:
        datasets.prepare(
            FileSource.at(path),
            SCHEMA,
            name="t",
            size=99,
            unit="patient",
            policy="ask",
            population=None,
        )
    assert caught.value.code == "no-identifier"


def test_an_update_that_breaks_the_schema_changes_nothing(
    datasets: Datasets, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "t.csv")
    prepare(datasets, path)
    before = datasets.find("t")
    path.write_text("radius\n1\n")
    with pytest.raises(DataError):
        datasets.update(before, policy="ask")
    assert datasets.find("t") == before


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    made = create_ca(tmp_path_factory.mktemp("ca") / "ca", "Test CA", now())
    return made.certificate.read_bytes()


def registry(authority: bytes, answers: list[httpx.Response]) -> RegistryClient:
    """A registry that gives these answers, one after another."""
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    return RegistryClient("https://registry.test", authority, "token", transport=transport)


def problem(status: int, error: str, code: str) -> httpx.Response:
    body = {"type": "about:blank", "title": code, "status": status, "detail": "", "code": code}
    return httpx.Response(status, json={**body, "hint": "", "error": error})


def stored(sequence: int) -> httpx.Response:
    return httpx.Response(200, json={"sequence": sequence, "hash": "ab" * 32})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(500, "AccordError", "internal-error"), TransportError),
        (problem(401, "AuthError", "bad-token"), AuthError),
        # Dropped, its receipts would be missing for ever, and the run's later ones with them.
        (problem(403, "PolicyError", "party-suspended"), TransportError),
        (httpx.Response(404, text="a proxy's page"), TransportError),
    ],
)
def test_what_may_pass_leaves_the_record_in_the_queue(
    three: Institutions,
    stores: Stores,
    authority: bytes,
    answer: httpx.Response,
    error: type[AccordError],
) -> None:
    three.accept(stores, three.manifest())
    with registry(authority, [answer, stored(1)]) as client:
        with pytest.raises(error):
            deliver(stores, client)
        assert stores.state.queued() == 1
        assert deliver(stores, client) == 1
    assert stores.state.queued() == 0
    (line,) = outbox.lines(stores.outbox.path)  # one line, though it was sent twice
    assert (line.kind, line.to) == ("consent", "registry")


def test_a_record_that_is_refused_for_good_does_not_hold_up_the_next(
    three: Institutions, stores: Stores, authority: bytes
) -> None:
    three.accept(stores, three.manifest())
    three.accept(stores, three.manifest())
    answers = [problem(409, "ConflictError", "run-over"), stored(2)]
    with registry(authority, answers) as client:
        assert deliver(stores, client) == 1
    assert stores.state.queued() == 0 and answers == []


def test_the_state_remembers_over_reopening(tmp_path: Path) -> None:
    state = State(tmp_path / "node.db")
    state.put("key", "value")
    state.put("seen", format_time(now()))
    state.close()
    again = State(tmp_path / "node.db")
    assert again.get("key") == "value" and again.get("nothing") is None
    assert again.moment("seen") is not None
    assert (tmp_path / "node.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotFoundError):
        again.begin("nobody", 0, 0)
    with pytest.raises(NotFoundError):
        again.record("00" * 32)
    again.close()


def test_a_final_state_is_never_left(three: Institutions, stores: Stores) -> None:
    run = three.accept(stores, three.manifest())
    for state, expected in [("running", "running"), ("stopped", "stopped"), ("running", "stopped")]:
        stores.state.follow(run, state, now())
        known = stores.state.run(run)
        assert known is not None and known.state == expected


def test_a_run_that_was_not_accepted_has_no_session(three: Institutions, stores: Stores) -> None:
    with pytest.raises(ConflictError) as caught:
        Session(stores, "0192f0c1-0000-7000-8000-000000000000")
    assert caught.value.code == "run-not-accepted"


_HOLD = """
import sys
from pathlib import Path
from accord_client.lock import only_daemon
with only_daemon(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_daemon_a_folder_and_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert running_pid(tmp_path) == holder.pid
        with pytest.raises(ConflictError) as caught, only_daemon(tmp_path):
            pass
        assert caught.value.code == "already-running"
        holder.kill()
    assert running_pid(tmp_path) is None
    with only_daemon(tmp_path):
        pass


def test_the_grace_counts_over_restarts(stores: Stores) -> None:
    contact = RegistryContact(stores, grace_s=900.0)
    contact.check()
    stores.state.put("registry-seen", "2020-01-01T00:00:00Z")
    late = RegistryContact(stores, grace_s=900.0)
    with pytest.raises(TransportError) as caught:
        late.check()
    assert caught.value.code == "registry-outage"
    assert late.heard() is True  # runs were suspended: links connect again
    assert late.heard() is False
    late.check()
    RegistryContact(stores, grace_s=900.0).check()


def test_a_commit_that_fails_leaves_the_state_usable(tmp_path: Path) -> None:
    state = State(tmp_path / "node.db")
    (pages,) = state._db.execute("PRAGMA page_count").fetchone()
    state._db.execute(f"PRAGMA max_page_count = {pages}")  # what a full disk looks like
    with pytest.raises(ConflictError, match=r"state-unwritable.*full"):
        state.put("large", "x" * 100_000)
    state._db.execute("PRAGMA max_page_count = 1000000")
    state.put("small", "y")
    assert (state.get("large"), state.get("small")) == (None, "y")
    state.close()


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_bytes(b"no database" * 500)
    with pytest.raises(VerificationError, match="state-broken"):
        State(tmp_path / "node.db")
    with pytest.raises(ConflictError, match="state-unwritable"):
        (tmp_path / "folder").mkdir()
        State(tmp_path / "folder")
