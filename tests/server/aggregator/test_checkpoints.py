"""Checkpoints are whole, named by their bytes, and few."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from accord_common.canonical import sha256_hex
from accord_common.errors import FormatError, VerificationError
from accord_server.aggregator.checkpoints import Checkpoint, Checkpoints, Vector

MODEL = np.arange(5, dtype=np.float32)


def store(folder: Path, model: Vector, **state: Vector) -> Checkpoint:
    """Save vectors (5,) in blocks of 3 and 2."""
    vectors = {"model": model, **state}
    blocks = ({name: part[cut] for name, part in vectors.items()} for cut in CUTS)
    return Checkpoints(folder).save(list(vectors), 5, blocks)


CUTS = (slice(0, 3), slice(3, 5))


def test_model_and_state_come_back_to_the_bit(tmp_path: Path) -> None:
    third: NDArray[np.float32] = MODEL / np.float32(3)
    vectors = {"model": MODEL, "m": third, "v": np.full(5, 1e-40, np.float32)}
    saved = store(tmp_path, **vectors)
    found = Checkpoints(tmp_path).load(saved.name)
    assert found.model_hash == saved.model_hash == sha256_hex(MODEL.tobytes())
    for checkpoint in (saved, found):
        assert {name: part.load() for name, part in checkpoint.vectors.items()} == {
            name: part.tobytes() for name, part in vectors.items()
        }


def test_a_file_is_safetensors(tmp_path: Path) -> None:
    name = store(tmp_path, MODEL, m=MODEL + 1).name
    read = load_file(tmp_path / f"{name}.safetensors")
    assert read.keys() == {"model", "m"}
    assert np.array_equal(read["model"], MODEL) and np.array_equal(read["m"], MODEL + 1)


def test_a_checkpoint_in_use_stays_readable(tmp_path: Path) -> None:
    found = store(tmp_path, MODEL)
    (tmp_path / f"{found.name}.safetensors").unlink()
    assert found.vectors["model"].load() == MODEL.tobytes()


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def breaks() -> Iterator[dict[str, Vector]]:
        yield {"model": MODEL}
        raise ValueError("in the second block")

    with pytest.raises(ValueError):
        Checkpoints(tmp_path).save(["model"], 10, breaks())
    assert list(tmp_path.iterdir()) == []


def test_the_newest_two_stay_also_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    names = []
    for value in range(4):
        names.append(store(folder, MODEL + value).name)
        checkpoints = Checkpoints(folder)
        checkpoints.prune()
    assert {path.stem for path in folder.iterdir()} == set(names[-2:])
    with pytest.raises(VerificationError, match="checkpoint-missing"):
        checkpoints.load(names[0])


def test_a_half_written_file_is_swept_away(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    Checkpoints(folder)
    (folder / "next.part").write_bytes(b"half")
    Checkpoints(folder)
    assert list(folder.iterdir()) == []


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    name = store(tmp_path, MODEL).name
    path = tmp_path / f"{name}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationError, match="checkpoint-altered"):
        checkpoints.load(name)


@pytest.mark.parametrize(
    "data", [b"not safetensors", save({"other": MODEL}), save({"model": MODEL.astype(np.float64)})]
)
def test_what_holds_no_float32_model_is_refused(tmp_path: Path, data: bytes) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    name = sha256_hex(data)
    (tmp_path / "checkpoints" / f"{name}.safetensors").write_bytes(data)
    with pytest.raises(FormatError, match="bad-checkpoint"):
        checkpoints.load(name)
