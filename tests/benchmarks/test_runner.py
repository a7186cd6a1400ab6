"""`make bench` prints rows and nothing else, and says which benchmarks there are."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.row import Row

ROOT = Path(__file__).parents[2]

NOISY = """
import os, subprocess
from tests.benchmarks.row import Row

def run():
    print("to stdout")
    subprocess.run(["echo", "from a process"], check=True)
    yield Row("first", 2.0, "s", "stock", 16.0, {"peak_mib": 3})
    raise RuntimeError("the second row failed")
"""

FINE = """
from tests.benchmarks.row import Row

def run():
    yield Row("fine", 1.0, "s")
"""


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The runner with two benchmarks of our own beside it."""
    beside = tmp_path / "tests/benchmarks"
    beside.mkdir(parents=True)
    for name in ("__main__.py", "row.py"):
        (beside / name).write_bytes((ROOT / "tests/benchmarks" / name).read_bytes())
    (beside / "bench_a_noisy.py").write_text(NOISY)
    (beside / "bench_fine.py").write_text(FINE)
    return tmp_path


def test_only_rows_reach_stdout_and_a_failure_stops_nobody_else(folder: Path) -> None:
    done = bench(folder)
    first, fine = map(json.loads, done.stdout.splitlines())
    assert first == {
        "name": "first",
        "value": 2.0,
        "unit": "s",
        "against": "stock",
        "against_value": 16.0,
        "ratio": 0.125,
        "peak_mib": 3,
    }
    assert (fine["name"], fine["against_value"], fine["ratio"]) == ("fine", None, None)
    assert done.returncode == 1
    for said in ("to stdout", "from a process", "the second row failed"):
        assert said in done.stderr


def test_one_benchmark_is_run_by_name(folder: Path) -> None:
    done = bench(folder, "fine")
    assert done.returncode == 0
    assert json.loads(done.stdout)["name"] == "fine"


def test_an_unknown_benchmark_is_refused_with_the_known_ones(folder: Path) -> None:
    done = bench(folder, "no-such-thing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'no-such-thing'; known: a-noisy, fine" in done.stderr


def test_a_row_is_one_line_of_valid_json() -> None:
    with pytest.raises(ValueError):
        Row("r", math.nan, "s").to_json()
    with pytest.raises(ValueError, match=r"\['ratio'\]"):
        Row("r", 1.0, "s", extra={"ratio": 2.0}).to_json()
    assert json.loads(Row("r", 1.0, "s", "nothing", 0.0).to_json())["ratio"] is None
