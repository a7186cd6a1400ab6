"""Which rows training sees: splits by patient, opt-outs, and what a registration keeps of them."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from accord_client.data.files import FileSource
from accord_client.data.opt_outs import OptOuts
from accord_client.data.reading import Reading
from accord_client.data.rows import open_rows
from accord_client.data.split import Split
from accord_client.datasets import Datasets, LocalDataset
from accord_common.errors import AccordError, DataError, FormatError, UsageError
from accord_common.fields import Unit
from accord_common.schema_file import from_document
from accord_common.tables import Encoded

SCHEMA = from_document(
    {
        "name": "visits",
        "target": {"column": "ill", "type": "binary"},
        "identifier": "patient",
        "columns": [{"name": "age", "type": "integer", "minimum": 0, "maximum": 10_000}],
    }
)
NAMELESS = SCHEMA.model_copy(update={"identifier": None, "ignored": ["patient"]})
NOBODY: frozenset[str] = frozenset()


def write(path: Path, patients: list[str]) -> Path:
    """Row i has age i, so that a row can be told by its feature."""
    lines = [f"{name},{row},{row % 2}" for row, name in enumerate(patients)]
    path.write_text("patient,age,ill\n" + "\n".join(lines) + "\n")
    return path


def register(
    folder: Path, patients: list[str], *, validation: str = "0.3", unit: Unit = "record"
) -> LocalDataset:
    datasets = Datasets(folder / "datasets")
    dataset = datasets.prepare(
        FileSource.at(write(folder / "t.csv", patients)),
        SCHEMA,
        name="t",
        size=1000,
        unit=unit,
        policy="ask",
        population=None,
        validation=validation,
    )
    datasets.store(dataset)
    return dataset


def ages(table: Encoded | None) -> list[int]:
    """The row numbers behind a table."""
    assert table is not None
    return [round(float(x) * 5000 + 5000) for x in table.features[:, 0]]


def test_a_registration_that_a_disk_cut_short_is_named(tmp_path: Path) -> None:
    dataset = register(tmp_path, [f"p{row}" for row in range(40)], validation="0")
    file = tmp_path / "datasets" / f"{dataset.id}.json"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FormatError, match=f"{file}.*--population"):
        Datasets(tmp_path / "datasets").all()


def test_all_rows_of_a_patient_fall_together_wherever_they_stand(tmp_path: Path) -> None:
    patients = [f"p{row % 40}" for row in range(160)]
    dataset = register(tmp_path, patients)
    rows = open_rows(dataset, NOBODY)
    train, validation = (
        {patients[row] for row in ages(table)} for table in (rows.train, rows.validation)
    )
    assert not train & validation and len(train | validation) == 40
    assert 0 < len(validation) < 30  # 12 on average; 30 comes once in 10^8
    assert rows.train.rows + len(ages(rows.validation)) == 160
    assert dataset.mark.training == rows.train.rows


def test_nobody_moves_when_others_come_go_or_are_sorted_anew(tmp_path: Path) -> None:
    """What differential privacy rests on: one patient's side is no function of other rows."""
    dataset = register(tmp_path, [f"p{row}" for row in range(60)])
    before = set(ages(open_rows(dataset, NOBODY).train))
    path = tmp_path / "t.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, "new,900,1", *reversed(lines[:-1])]) + "\n")
    grown = Datasets(tmp_path / "datasets").update(dataset, policy="ask")
    assert set(ages(open_rows(grown, NOBODY).train)) - {900} == before - {59}


def test_without_identifiers_a_row_falls_by_its_own_values(tmp_path: Path) -> None:
    split = Split.make("0.5")

    def validates(rows: list[int]) -> dict[int, bool]:
        path = write(tmp_path / "t.csv", [f"p{row}" for row in range(100)])
        header, *lines = path.read_text().splitlines()
        path.write_text("\n".join([header, *(lines[row] for row in rows)]) + "\n")
        reading = FileSource.at(path).read(NAMELESS)
        return dict(zip(rows, split.validates(reading).tolist(), strict=True))

    everybody = validates(list(range(100)))
    assert 0 < sum(everybody.values()) < 100
    some = [row for row in reversed(range(100)) if row % 3]
    assert validates(some) == {row: everybody[row] for row in some}


def test_a_larger_fraction_adds_to_validation_and_the_key_decides(tmp_path: Path) -> None:
    people = [f"p{row}" for row in range(4000)]
    table = Encoded(np.zeros((4000, 1), np.float32), np.zeros(4000, np.int64))
    reading = Reading(table=table, people=people, frame=None, glance="", sha256="0" * 64)
    small = Split(fraction="0.2", key="ab" * 32).validates(reading)
    large = Split(fraction="0.4", key="ab" * 32).validates(reading)
    other = Split(fraction="0.2", key="cd" * 32).validates(reading)
    assert (large | ~small).all()
    for chosen, fraction in ((small, 0.2), (large, 0.4), (other, 0.2)):
        assert abs(chosen.mean() - fraction) < 6 * np.sqrt(fraction * (1 - fraction) / 4000)
    assert abs((small & other).mean() - 0.04) < 6 * np.sqrt(0.04 * 0.96 / 4000)


def test_tables_of_one_population_share_the_key(tmp_path: Path) -> None:
    first = register(tmp_path, [f"p{row}" for row in range(60)], validation="0")
    datasets = Datasets(tmp_path / "datasets")

    def again(population: str) -> Split:
        return datasets.prepare(
            FileSource.at(tmp_path / "t.csv"),
            SCHEMA,
            name="u",
            size=100,
            unit="record",
            policy="ask",
            population=population,
            validation="0.50",
        ).split

    assert again(first.population) == Split(fraction="0.5", key=first.split.key)
    assert again("new").key != first.split.key


def test_the_public_size_bounds_the_training_rows(tmp_path: Path) -> None:
    dataset = register(tmp_path, [f"p{row}" for row in range(60)])
    datasets = Datasets(tmp_path / "datasets")
    tight = dataset.model_copy(update={"size": dataset.mark.training})
    assert datasets.update(tight, policy="ask").mark == dataset.mark
    with pytest.raises(DataError, match="dataset-outgrew-size"):
        datasets.update(tight, policy="ask", validation="0")
    whole = datasets.update(dataset, policy="ask", validation="0")
    assert whole.split.key == dataset.split.key
    assert open_rows(whole, NOBODY).validation is None and whole.mark.training == 60


@pytest.mark.parametrize("fraction", ["1", "-0.1", "x", "nan", "1e400"])
def test_a_fraction_leaves_rows_to_train_on(tmp_path: Path, fraction: str) -> None:
    with pytest.raises(UsageError, match="bad-validation-fraction"):
        register(tmp_path, ["p"] * 60, validation=fraction)


def test_sides_without_rows_are_refused_when_a_table_is_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too-few-rows"):
        register(tmp_path, [f"p{row}" for row in range(60)], validation="0.999999999999")
    with pytest.raises(DataError, match="no-validation-rows"):
        register(tmp_path, [f"p{row}" for row in range(60)], validation="0.000000000001")


def test_a_patient_has_one_row_where_the_patient_is_protected(tmp_path: Path) -> None:
    patients = [f"p{row}" for row in range(59)]
    with pytest.raises(DataError, match=r"repeated-identifier.*row 60: 'p7' stands in row 8"):
        register(tmp_path, [*patients, " p7 "], unit="patient")
    register(tmp_path, [*patients, "p70"], unit="patient")


def test_who_opted_out_is_in_no_row(tmp_path: Path) -> None:
    patients = [f"p{row % 40}" for row in range(160)]
    dataset = register(tmp_path, patients)
    rows = open_rows(dataset, frozenset({"p3", "p4", "stranger"}))
    assert rows.opted_out == 8
    seen = {patients[row] for table in (rows.train, rows.validation) for row in ages(table)}
    assert seen == set(patients) - {"p3", "p4"}
    nobody = open_rows(dataset, frozenset(patients))
    assert (nobody.train.rows, nobody.validation, nobody.opted_out) == (0, None, 160)


def test_opt_outs_are_kept_private_and_whole(tmp_path: Path) -> None:
    opt_outs = OptOuts(tmp_path / "t.opt-outs")
    assert opt_outs.read() == NOBODY
    assert opt_outs.change(add=[" p1\n", "p2", ""]) == {"p1", "p2"}
    assert opt_outs.change(add=["p3"], remove=["p1 ", "p9"]) == opt_outs.read() == {"p2", "p3"}
    assert opt_outs.path.stat().st_mode & 0o777 == 0o600
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: opt_outs.change(add=[f"n{n}"]), range(20)))
    assert len(opt_outs.read()) == 22


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b'["p1"', b"[" * 100_000])
def test_a_damaged_list_never_counts_as_empty(tmp_path: Path, damage: bytes) -> None:
    opt_outs = OptOuts(tmp_path / "t.opt-outs")
    opt_outs.path.write_bytes(damage)
    for use in (opt_outs.read, lambda: opt_outs.change(add=["p1"])):
        with pytest.raises(AccordError, match="opt-outs-unreadable"):
            use()
    assert opt_outs.path.read_bytes() == damage and len(os.listdir(tmp_path)) == 1
