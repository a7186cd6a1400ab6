"""`accord demo` as a person runs it: the whole path, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accord_server.demo import separation
from tests import public_data
from tests.chaos.ordering import until

ACCORD = Path(sys.executable).parent / "accord"


def processes_under(folder: Path) -> list[str]:
    """Command lines of living processes that name `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in line and int(entry.name) != os.getpid():
                found.append(line)
    return found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other users may pass through; pytest closes its own, again and again."""
    with tempfile.TemporaryDirectory(prefix="accord-demo-") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "demo"


@pytest.fixture(scope="module")
def outcome(folder: Path) -> Iterator[dict[str, Any]]:
    result = subprocess.run(
        [ACCORD, "demo", "--home", folder, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    yield json.loads(result.stdout)


def test_three_hospitals_learn_within_their_budget(outcome: dict[str, Any]) -> None:
    assert outcome["status"] == "completed"
    assert (outcome["rounds"], outcome["nodes"]) == (8, 3)
    assert outcome["metrics"]["auc"] >= 0.95
    assert outcome["metrics"]["accuracy"] >= 0.85
    assert len(outcome["epsilon"]) == 3
    assert all(0 < value <= 3 for value in outcome["epsilon"].values())
    assert len(outcome["seconds"]["rounds"]) == 8


def test_the_run_over_the_budget_is_refused_by_the_nodes(outcome: dict[str, Any]) -> None:
    assert outcome["refusal"] == {"code": "budget-exceeded"}


def test_no_process_is_left(outcome: dict[str, Any], folder: Path) -> None:
    assert processes_under(folder) == []


def test_one_institution_cannot_read_anothers_folder(outcome: dict[str, Any], folder: Path) -> None:
    homes = sorted((folder / "parties").iterdir())
    owners = {home.name: home.stat().st_uid for home in homes}
    assert all(home.stat().st_mode & 0o077 == 0 for home in homes)
    apart = separation.find(3, folder)
    if not apart.uids:  # not root, or no mount namespaces: one user, and the demo said so
        assert len(set(owners.values())) == 1 and apart.reason
        return
    hospitals = [name for name, uid in owners.items() if uid in apart.uids]
    assert len(hospitals) == 3
    own, other = hospitals[0], hospitals[1]
    for name, allowed in ((own, True), (other, False)):
        table = folder / "parties" / name / "tumours.csv"
        command = apart.wrap(["cat", str(table)], owners[own])
        result = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert (result.returncode == 0) is allowed
        assert ("mean_radius" in result.stdout) is allowed
        assert ("Permission denied" in result.stderr) is not allowed


def test_a_second_demo_needs_reset_and_touches_nothing_foreign(
    outcome: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for home, code in ((folder, "demo-exists"), (tmp_path, "not-a-demo")):
        arguments = ["--reset"] if code == "not-a-demo" else []
        result = subprocess.run(
            [ACCORD, "demo", "--home", home, "--format", "json", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 2
        assert json.loads(result.stderr)["error"]["code"] == code
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.soak(sample=0, full=1)
def test_four_hospitals_learn_to_tell_heart_disease(tmp_path: Path, size: int) -> None:
    try:
        data = public_data.folder("heart_disease").parent
    except public_data.Absent as error:
        pytest.skip(str(error))
    places = ("--data-dir", data, "--home", tmp_path / "demo")
    result = subprocess.run(
        [ACCORD, "demo", "--data", "heart", *places, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["rounds"], told["nodes"]) == (15, 4)
    assert told["metrics"]["accuracy"] >= 0.74  # .80, give or take .02 by the noise
    assert told["metrics"]["auc"] >= 0.8
    assert set(told["by_site"]) == {"Cleveland", "Budapest", "Switzerland", "Long Beach"}
    better = [one for one in told["by_site"].values() if one["accuracy"] > one["majority"]]
    assert len(better) >= 2  # nearly all of the other two's test rows are ill
    assert all(0 < value <= 3 for value in told["epsilon"].values())
    assert told["refusal"] == {"code": "budget-exceeded"}


INTERRUPT = pytest.param(signal.SIGINT, marks=pytest.mark.soak(sample=0, full=1))
HANG_UP = pytest.param(signal.SIGHUP, marks=pytest.mark.soak(sample=0, full=1))


@pytest.mark.parametrize("number", [INTERRUPT, signal.SIGTERM, HANG_UP])
def test_an_interrupted_demo_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    home = tmp_path / "demo"
    with subprocess.Popen(
        [ACCORD, "demo", "--home", home],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "registry listens" in line:
                break
        assert processes_under(home)
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 130
    until(lambda: processes_under(home) == [], "what it killed to be gone")
