"""Pictures and texts as a node's datasets: registered, split, opted out of, and found changed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from accord_client.data import sources
from accord_client.data.files import FileSource
from accord_client.data.images import ImagesSource
from accord_client.data.profiling import measure
from accord_client.data.rows import open_rows
from accord_client.datasets import Datasets, LocalDataset
from accord_common.errors import AccordError, UsageError
from accord_common.fields import Unit
from accord_common.schema import Schema
from tests.client.data.test_rows import SCHEMA
from tests.common.test_pictures import schema as of_images
from tests.common.test_words import schema as of_texts

PATIENTS = [f"p{row % 25}" for row in range(100)]
CONTRACT = of_images(identifier="patient")
NOBODY: frozenset[str] = frozenset()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hundred pictures of 25 patients; row i has shade i."""
    root = tmp_path / "chest"
    root.mkdir()
    lines = ["file,label,patient"]
    for row, patient in enumerate(PATIENTS):
        Image.fromarray(np.full((6, 8), row, np.uint8)).save(root / f"{row:03}.png")
        lines.append(f"{row:03}.png,{row % 2},{patient}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    return Datasets(tmp_path / "datasets")


def register(
    datasets: Datasets,
    path: Path,
    contract: Schema = CONTRACT,
    *,
    unit: Unit = "record",
    validation: str = "0",
) -> LocalDataset:
    dataset = datasets.prepare(
        sources.at(path, contract),
        contract,
        name=path.name,
        size=200,
        unit=unit,
        policy="ask",
        population=None,
        validation=validation,
    )
    datasets.store(dataset)
    return datasets.find(dataset.id)


def test_a_folder_is_registered_and_read(datasets: Datasets, folder: Path) -> None:
    dataset = register(datasets, folder)
    assert isinstance(dataset.source, ImagesSource) and dataset.mark.rows == 100
    dataset.check_unchanged()
    rows = open_rows(dataset, NOBODY)
    assert rows.train.features[:, 0, 0, 0].tolist() == list(range(100))
    assert rows.train.features.dtype == np.uint8 and rows.validation is None
    with pytest.raises(UsageError, match="file-registered"):
        register(datasets, folder.rename(folder.with_name("moved")))


def test_patients_fall_together_and_may_opt_out(datasets: Datasets, folder: Path) -> None:
    dataset = register(datasets, folder, validation="0.4")
    rows = open_rows(dataset, NOBODY)
    assert rows.validation is not None
    train, validation = (
        {PATIENTS[shade] for shade in part.features[:, 0, 0, 0]}
        for part in (rows.train, rows.validation)
    )
    assert not train & validation and len(train | validation) == 25
    gone = sorted(train)[0]
    left = open_rows(dataset, frozenset({gone}))
    assert left.opted_out == 4 and left.train.rows == rows.train.rows - 4
    assert gone not in {PATIENTS[shade] for shade in left.train.features[:, 0, 0, 0]}


def test_unit_patient_allows_each_patient_one_picture(datasets: Datasets, folder: Path) -> None:
    with pytest.raises(AccordError, match=r"repeated-identifier.*'p0'"):
        register(datasets, folder, unit="patient")


def test_a_changed_folder_is_not_trained_on(datasets: Datasets, folder: Path) -> None:
    dataset = register(datasets, folder)
    image = folder / "007.png"
    before = image.read_bytes()
    image.write_bytes(before[:-1] + b"x")
    for broken in (before[:40], before[:-1] + b"x", None):
        if broken is None:
            image.unlink()
        else:
            image.write_bytes(broken)
        with pytest.raises(AccordError, match="dataset-changed"):
            dataset.check_unchanged()
        with pytest.raises(AccordError, match=r"dataset-(changed|missing)"):
            open_rows(dataset, NOBODY)
    image.write_bytes(before)
    open_rows(dataset, NOBODY)  # the same bytes at another time
    datasets.update(dataset, policy="ask").check_unchanged()


def test_a_folder_that_changes_while_it_is_read_is_refused(
    datasets: Datasets, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter(["before", "after"])
    monkeypatch.setattr("accord_common.picture_files.glance", lambda path: next(seen))
    with pytest.raises(AccordError, match=r"dataset-changed.*while it was read"):
        register(datasets, folder)


def test_kinds_are_not_taken_for_one_another(datasets: Datasets, folder: Path) -> None:
    with pytest.raises(AccordError, match="unknown-format"):
        register(datasets, folder, SCHEMA)
    with pytest.raises(AccordError, match="wrong-kind"):
        ImagesSource.at(folder).read(SCHEMA)
    with pytest.raises(AccordError, match="wrong-kind"):
        FileSource.at(folder / "labels.csv").read(CONTRACT)
    with pytest.raises(AccordError, match=r"no-columns.*labels.csv"):
        sources.at(folder, None).columns()


def test_texts_are_registered_split_and_read(datasets: Datasets, tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    lines = [f"{name},word{row} said,{row % 2}" for row, name in enumerate(PATIENTS)]
    path.write_text("patient,text,label\n" + "\n".join(lines) + "\n")
    contract = of_texts(identifier="patient", buckets=1 << 20)
    dataset = register(datasets, path, contract, validation="0.4")
    rows = open_rows(dataset, frozenset({"p1"}))
    assert rows.opted_out == 4 and rows.validation is not None
    assert rows.train.rows + rows.validation.rows == 96
    assert rows.train.features.dtype == np.int64 and rows.train.features.shape[1] == 4
    told = path.with_suffix(".txt")
    told.write_text("".join(f"{row % 2} word{row} said\n" for row in range(100)))
    assert open_rows(register(datasets, told, of_texts()), NOBODY).train.rows == 100


def test_a_text_that_is_an_address_needs_a_reason(datasets: Datasets, tmp_path: Path) -> None:
    path = tmp_path / "mail.txt"
    path.write_text("".join(f"{row % 2} name{row}@example.org\n" for row in range(50)))
    with pytest.raises(AccordError, match=r"direct-identifier.*'text'"):
        register(datasets, path, of_texts())


def test_pictures_have_a_profile_of_their_labels(datasets: Datasets, folder: Path) -> None:
    found = measure(register(datasets, folder), frozenset({"p0"}))
    assert (found.rows, found.repeated_identifiers) == (96, 72)
    assert found.columns[CONTRACT.target.column].levels == {"0": 48, "1": 48}
