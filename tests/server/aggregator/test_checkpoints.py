"""Checkpoints are whole, named by their bytes, and few."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from accord_common.canonical import sha256_hex
from accord_common.errors import FormatError, VerificationError
from accord_server.aggregator.checkpoints import Checkpoints

MODEL = np.arange(5, dtype=np.float32)


def test_model_and_state_come_back_to_the_bit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    third: NDArray[np.float32] = MODEL / np.float32(3)
    state = {"m": third, "v": np.full(5, 1e-40, np.float32)}
    found = Checkpoints(tmp_path / "checkpoints").load(checkpoints.save(MODEL, state))
    assert found.model.tobytes() == MODEL.tobytes()
    assert {name: part.tobytes() for name, part in found.state.items()} == {
        name: part.tobytes() for name, part in state.items()
    }


def test_the_newest_two_stay_also_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    names = []
    for value in range(4):
        checkpoints = Checkpoints(folder)
        names.append(checkpoints.save(MODEL + value, {}))
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
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    name = checkpoints.save(MODEL, {})
    path = tmp_path / "checkpoints" / f"{name}.safetensors"
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
