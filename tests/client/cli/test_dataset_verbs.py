"""What a steward says about a dataset's people and columns: opt-outs, reports, validation, SQL."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from accord_client.capacity import Capacity
from accord_client.contribution import Contribution
from accord_client.data.files import FileSource
from accord_client.data.rows import examine
from accord_client.datasets import Datasets
from accord_client.limits import Limits
from accord_client.stores import Stores
from accord_client.training import train
from accord_common.errors import DataError
from accord_common.manifest import RunManifest
from accord_common.tables import Encoded
from tests.client.cli.conftest import Run
from tests.client.institutions import Institutions, make_institutions
from tests.world import SCHEMA

PATIENTS = [f"p{row % 30}" for row in range(60)]
WITH_PATIENTS = SCHEMA.model_copy(update={"identifier": "patient_id"})


@pytest.fixture
def three(tmp_path: Path) -> Institutions:
    return make_institutions(tmp_path)


@pytest.fixture
def node(accord_node: Run, three: Institutions) -> Run:
    """The first hospital's node, whose table names patients, two rows each."""
    home = three.homes[three.parties[0]].path
    path = three.folder / "table-0.csv"
    header, *lines = path.read_text().splitlines()
    pairs = zip(PATIENTS, lines, strict=True)
    path.write_text("\n".join([f"patient_id,{header}", *(f"{p},{line}" for p, line in pairs)]))
    datasets = Datasets.of(home)
    (dataset,) = datasets.all()
    mark = examine(FileSource.at(path), WITH_PATIENTS, "record", dataset.split, {})
    datasets.store(dataset.model_copy(update={"table": WITH_PATIENTS, "mark": mark}))

    def call(*arguments: object, text: bool = False) -> object:
        return accord_node(*arguments, "--home", home, text=text)

    return call  # type: ignore[return-value] # an Outcome, as Run returns


def contribution_of(stores: Stores, manifest: RunManifest) -> Contribution:
    return Contribution(
        stores, manifest, manifest.site(stores.party), Capacity(stores.home.path, Limits())
    )


def test_opt_outs_are_added_listed_counted_and_taken_back(node: Run, tmp_path: Path) -> None:
    file = tmp_path / "out.txt"
    file.write_text("\ufeffp1\r\np2 \r\n\r\np99\r\n")
    told = node("dataset", "opt-out", "tumours", file).json
    assert told == {"opted_out": 3, "found": 2, "rows": 4}
    told = node("dataset", "opt-out", "tumours", "--add", "p5", "--remove", "p99", text=True)
    assert told.out.strip() == "tumours: 3 identifiers opted out; 3 of them are in it, with 6 rows"
    assert node("dataset", "opt-out", "tumours", "--list").json == ["p1", "p2", "p5"]
    tried = node("try", "tabular-binary", "--dataset", "tumours", "--steps", "1").json
    assert tried["rows"] == 54
    assert node("dataset", "opt-out", "tumours").code == "bad-arguments"
    file.write_bytes(b"\xff\xfe")
    assert node("dataset", "opt-out", "tumours", file).code == "unreadable-file"


def test_a_broken_table_keeps_nobody_from_opting_out(
    node: Run, accord_node: Run, three: Institutions
) -> None:
    (three.folder / "table-0.csv").write_text("nothing\n")
    told = node("dataset", "opt-out", "tumours", "--add", "p1")
    assert told.json == {"opted_out": 1, "found": None, "rows": None}
    assert "The list is stored" in told.err
    assert node("dataset", "opt-out", "tumours", "--list").json == ["p1"]
    nameless = three.homes[three.parties[1]].path
    told = accord_node("dataset", "opt-out", "tumours", "--add", "p1", "--home", nameless)
    assert told.code == "no-identifier"


def test_a_running_run_leaves_them_out_from_its_next_round(
    node: Run, three: Institutions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a list that cannot be read stops the node before anything is charged."""
    rows = []

    def train_round(
        _: object,
        __: object,
        model: NDArray[np.float32],
        table: Encoded,
        *___: object,
        **____: object,
    ) -> NDArray[np.float32]:
        rows.append(table.rows)
        return np.zeros_like(model)

    monkeypatch.setattr(train, "train_round", train_round)
    manifest = RunManifest.from_bytes(three.manifest().payload)
    model = np.zeros(manifest.dimension, np.float32)
    with three.open(three.parties[0]) as stores:
        contribution = contribution_of(stores, manifest)
        (dataset,) = stores.datasets.all()
        opt_outs = stores.datasets.opt_outs(dataset)
        monkeypatch.setattr(Contribution, "_rounds_at_random", lambda _: False)
        for who in ([], ["p1"], ["p1", "p2"], PATIENTS):
            opt_outs.change(add=who)
            contribution.ready()
            contribution.words(model)
        opt_outs.path.write_text("[")
        assert str(stores.datasets.problems()["tumours"]).startswith("[opt-outs-unreadable]")
        with pytest.raises(DataError, match="opt-outs-unreadable"):
            contribution.ready()
    assert rows == [60, 58, 56, 0]


def test_a_report_shows_columns_and_no_cells(
    node: Run, three: Institutions, tmp_path: Path
) -> None:
    (found,) = node("dataset", "report", "tumours").json
    assert (found["column"], found["role"], found["refused"]) == ("patient_id", "identifier", False)
    text = node("dataset", "report", three.folder / "table-0.csv", text=True).out
    assert "undeclared" in text and "p1" not in text
    clean = node("dataset", "report", three.folder / "table-1.csv", text=True).out
    assert clean.strip() == "None of 3 columns looks like one."
    database = sqlite3.connect(tmp_path / "t.db")
    database.execute("CREATE TABLE t (email TEXT, radius REAL)")
    database.execute("INSERT INTO t VALUES ('jane@clinic.org', 1.5)")
    database.commit()
    query = tmp_path / "t.sql"
    query.write_text("SELECT * FROM t")
    asked = ("dataset", "report", "--sql", f"sqlite:///{tmp_path}/t.db", "--query", query)
    assert [row["kind"] for row in node(*asked).json] == ["e-mail address"] * 2


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["t.csv", "--sql", "sqlite:///t.db"],
        ["--sql", "sqlite:///t.db"],
        ["t.csv", "--password-env", "X"],
        ["--query", "t.sql"],
    ],
)
def test_a_source_is_named_once_and_whole(
    accord_node: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert accord_node("dataset", "report", *options).code == "bad-source"


def test_validation_rows_and_a_new_source_are_for_the_steward(
    node: Run, three: Institutions, tmp_path: Path
) -> None:
    told = node("dataset", "update", "tumours", "--validation", "0.5").json
    assert told["validation"] == "0.5" and 0 < told["training_rows"] < told["rows"] == 60
    assert "split" not in told and "mark" not in told and "key" not in str(told)
    tried = node("try", "tabular-binary", "--dataset", "tumours", "--steps", "1").json
    assert tried["rows"] == told["training_rows"]
    text = node("dataset", "update", "tumours", text=True)
    assert "60 rows of 30 patients" in text.out and "several rows" in text.err
    wrong = node("dataset", "update", "tumours", "--allow-column", "radius")
    assert wrong.code == "bad-arguments"
    database = sqlite3.connect(tmp_path / "t.db")
    database.execute("CREATE TABLE t (patient_id TEXT, radius REAL, texture REAL, malignant INT)")
    rows = [(f"q{row}", 10 + row / 10, 20.0, row % 2) for row in range(40)]
    database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
    database.commit()
    query = tmp_path / "t.sql"
    query.write_text("SELECT * FROM t;\n")
    moved = ("--sql", f"sqlite:///{tmp_path}/t.db", "--query", query, "--validation", "0")
    told = node("dataset", "update", "tumours", *moved).json
    assert (told["rows"], told["source"]["query"]) == (40, "SELECT * FROM t")
    database.execute("DELETE FROM t WHERE radius < 11")
    database.commit()
    tried = node("try", "tabular-binary", "--dataset", "tumours", "--steps", "1")
    assert tried.code == "dataset-changed"
    manifest = RunManifest.from_bytes(three.manifest().payload)
    with three.open(three.parties[0]) as stores:
        contribution = contribution_of(stores, manifest)
        with pytest.raises(DataError, match="dataset-changed"):
            contribution.ready()  # so before the charge, which comes next
