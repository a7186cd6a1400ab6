"""Folders of pictures and IDX files, read whole or refused with the file's name."""

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from accord_common import picture_files
from accord_common.errors import AccordError
from accord_common.picture_files import Pictures, glance
from tests.common.test_pictures import schema


def draw(path: Path, shade: int, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8), shade, np.uint8)).save(path, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures in folders of their classes, with what makes no difference."""
    root = tmp_path / "chest"
    draw(root / "1" / "c.png", 30)
    draw(root / "0" / "b.JPEG", 20, format="JPEG", quality=100)
    draw(root / "0" / "a.png", 10)
    (root / ".DS_Store").write_bytes(b"x")
    (root / ".cache").mkdir()
    (root / ".cache" / "x.png").write_bytes(b"x")
    return root


def read(path: Path, **changes: object) -> Pictures:
    return picture_files.read(path, schema(**{"minimum_rows": 1} | changes))


def listed(root: Path, text: str) -> Pictures:
    (root / "labels.csv").write_text(text)
    return read(root, identifier="patient", ignored=["note"])


def test_a_folder_is_a_class(folder: Path) -> None:
    found = read(folder)
    assert found.table.features[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert found.table.labels.tolist() == [0, 0, 1] and found.people is None
    assert found.table.features.dtype == np.uint8
    assert found.table.batch(np.array([2, 0])).dtype == np.float32
    assert found.table.batch(np.array([2, 0]))[:, 0, 0, 0].tolist() == [30, 10]


def test_a_list_names_label_and_patient_and_what_counts(folder: Path) -> None:
    (folder / "report.pdf").write_bytes(b"x")
    found = listed(folder, "patient,file,label,note\nP1,1/c.png,0,x\nP1,0/a.png,1,\n")
    assert found.table.features[:, 0, 0, 0].tolist() == [30, 10]
    assert found.table.labels.tolist() == [0, 1] and found.people == ["P1", "P1"]


def test_the_hash_covers_names_labels_people_and_bytes(folder: Path) -> None:
    text = "file,label,patient\n1/c.png,0,P1\n0/a.png,1,P2\n"
    seen = [listed(folder, text).sha256]
    for changed in (text.replace("P2", "P3"), text.replace("0,P1", "1,P1")):
        seen.append(listed(folder, changed).sha256)
    (folder / "1" / "c.png").rename(folder / "1" / "d.png")
    seen.append(listed(folder, text.replace("c.png", "d.png")).sha256)
    draw(folder / "1" / "d.png", 30, compress_level=0)
    seen.append(listed(folder, text.replace("c.png", "d.png")).sha256)
    assert len(set(seen)) == len(seen)
    assert listed(folder, text.replace("c.png", "d.png")).sha256 == seen[-1]


def test_a_glance_tells_any_change_of_the_listing(folder: Path) -> None:
    seen = [glance(folder)]
    assert glance(folder) == seen[0]
    os.utime(folder / "0" / "a.png", ns=(1, 1))
    seen.append(glance(folder))
    (folder / "0" / "a.png").rename(folder / "1" / "a.png")
    seen.append(glance(folder))
    (folder / "1" / "c.png").unlink()
    seen.append(glance(folder))
    assert len(set(seen)) == len(seen)
    with pytest.raises(AccordError, match="dataset-missing"):
        glance(folder / "absent")


def test_each_wrong_file_is_refused_by_its_name(folder: Path) -> None:
    for name, code in (
        ("0/notes.txt", r"not-a-picture\] 0/notes.txt"),
        ("a.png", r"not-a-picture\] a.png"),
        ("0/deep/a.png", r"not-a-picture\] 0/deep/a.png"),
        ("2/a.png", r"unknown-class\] folder '2'.*0, 1"),
        ("0/broken.png", r"broken-picture\] 0/broken.png"),
    ):
        wrong = folder / name
        wrong.parent.mkdir(exist_ok=True)
        wrong.write_bytes(b"no picture")
        with pytest.raises(AccordError, match=code):
            read(folder)
        wrong.unlink()
    draw(folder / "0" / "z.png", 1)
    assert len(read(folder).table.labels) == 4
    with pytest.raises(AccordError, match=r"too-few-rows\] 4 rows"):
        read(folder, minimum_rows=5)
    with pytest.raises(AccordError, match=r"missing-column.*'patient'.*labels.csv"):
        read(folder, identifier="patient")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("file,label\n1/c.png,0\n", "missing-column.*'patient'"),
        ("file,label,patient,age\n1/c.png,0,P1,7\n", "extra-column.*'age'"),
        ("file,label,patient\n1/c.png,2,P1\n", "unknown-category.*'label', row 1: '2'"),
        ("file,label,patient\n1/c.png,0,\n", "missing-value.*'patient', row 1"),
        ("file,label,patient\n1/c.png,0,P1\n1/c.png,0,P2\n", "repeated-picture.*1/c.png"),
        ("file,label,patient\n1/x.png,0,P1\n", "dataset-missing.*1/x.png"),
        ("file,label,patient\n1,0,P1\n", "dataset-missing.*no plain file"),
        ("file,label,patient\n../0.png,0,P1\n", "linked-file"),
        ("file,label,patient\n/etc/passwd,0,P1\n", "linked-file"),
        ("file,label,patient\n1//c.png,0,P1\n", "linked-file"),
        ("file,label,patient\n./1/c.png,0,P1\n", "linked-file"),
        ("file,label,patient\n1/c\0.png,0,P1\n", "linked-file"),
        ('file,label,patient\n"1/c.png\n', "unreadable-table"),
    ],
)
def test_each_mistake_in_a_list_is_named(folder: Path, text: str, code: str) -> None:
    with pytest.raises(AccordError, match=code):
        listed(folder, text)


def test_nothing_outside_the_folder_is_read(folder: Path, tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere" / "x.png", 99)
    link = folder / "0" / "link.png"
    link.symlink_to(tmp_path / "elsewhere" / "x.png")
    with pytest.raises(AccordError, match=r"linked-file\] '0/link.png' is a link"):
        read(folder)
    link.unlink()
    (folder / "away").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AccordError, match=r"linked-file\] 'away/x.png' is reached by a link"):
        listed(folder, "file,label,patient\naway/x.png,0,P1\n")
    (folder / "labels.csv").unlink()
    with pytest.raises(AccordError, match=r"linked-file\] 'away' is a link"):
        read(folder)


def test_a_name_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "0" / "a.png").rename(os.fsdecode(bytes(folder / "0") + b"/\xff.png"))
    for look in (read, glance):
        with pytest.raises(AccordError, match=r"bad-file-name.*xff.png"):
            look(folder)


def test_a_pipe_does_not_hold_a_node_up(folder: Path) -> None:
    os.mkfifo(folder / "0" / "pipe.png")
    with pytest.raises(AccordError, match=r"dataset-missing\] 0/pipe.png: no plain file"):
        read(folder)


def test_memory_is_bounded_before_it_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_files, "MAX_DECODED_BYTES", 3 * 48 - 1)
    with pytest.raises(AccordError, match=r"too-many-pictures\] 3 pictures take 144 bytes"):
        read(folder)
    monkeypatch.setattr("accord_common.pictures.MAX_FILE_BYTES", 20)
    monkeypatch.setattr(picture_files, "MAX_DECODED_BYTES", 3 * 48)
    with pytest.raises(AccordError, match=r"picture-too-large\] 0/a.png is larger than 20 bytes"):
        read(folder)


def idx(values: NDArray[np.uint8]) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.tobytes()


def write_idx(root: Path, images: bytes, numbers: bytes) -> Path:
    (root / "t-labels-idx1-ubyte.gz").write_bytes(gzip.compress(numbers))
    path = root / "t-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(images))
    return path


def test_idx_files_hold_the_same(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, 6, 8), np.uint8)
    numbers = np.array([0, 1, 1, 0, 1], np.uint8)
    path = write_idx(tmp_path, idx(images), idx(numbers))
    found = read(path)
    assert np.array_equal(found.table.features[:, 0], images)
    assert found.table.labels.tolist() == numbers.tolist()
    plain = tmp_path / "images-idx3-ubyte"
    plain.write_bytes(idx(images))
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx(numbers))
    assert np.array_equal(read(plain).table.features, found.table.features)
    before = glance(path)
    os.utime(tmp_path / "t-labels-idx1-ubyte.gz", ns=(1, 1))
    assert glance(path) != before


@pytest.mark.parametrize(
    ("images", "numbers", "code"),
    [
        (b"", idx(np.zeros(2, np.uint8)), "bad-idx.*no IDX file"),
        (idx(np.zeros((2, 48), np.uint8)), idx(np.zeros(2, np.uint8)), "bad-idx.*3 dimensions"),
        (idx(np.zeros((2, 6, 8), np.uint8))[:-1], idx(np.zeros(2, np.uint8)), "bad-idx.*96 bytes"),
        (idx(np.zeros((2, 6, 8), np.uint8)) + b"x", idx(np.zeros(2, np.uint8)), "bad-idx.*96"),
        (idx(np.zeros((2, 6, 8), np.uint8)), idx(np.zeros(3, np.uint8)), "bad-idx.*2 images, 3"),
        (idx(np.zeros((2, 6, 8), np.uint8)), idx(np.full(2, 2, np.uint8)), "unknown-class.*2"),
        (idx(np.zeros((2, 8, 6), np.uint8)), idx(np.zeros(2, np.uint8)), "wrong-size.*6 x 8"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, *[1 << 31] * 3), b"", "bad-idx.*at most"),
    ],
)
def test_a_wrong_idx_file_is_refused(
    tmp_path: Path, images: bytes, numbers: bytes, code: str
) -> None:
    with pytest.raises(AccordError, match=code):
        read(write_idx(tmp_path, images, numbers))


def test_other_idx_places_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t-images-idx3-ubyte.gz"
    with pytest.raises(AccordError, match="dataset-missing"):
        read(path)
    path.write_bytes(b"no gzip")
    with pytest.raises(AccordError, match="bad-idx"):
        read(path)
    path.write_bytes(gzip.compress(idx(np.zeros((2, 6, 8), np.uint8))))
    with pytest.raises(AccordError, match=r"dataset-missing.*labels-idx1"):
        read(path)
    with pytest.raises(AccordError, match=r"missing-column.*'patient'"):
        read(path, identifier="patient")
    with pytest.raises(AccordError, match=r"unknown-format\] x.csv"):
        (tmp_path / "x.csv").write_text("a\n")
        read(tmp_path / "x.csv")
    with pytest.raises(AccordError, match="dataset-missing"):
        read(tmp_path / "absent")
