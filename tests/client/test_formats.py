"""Files of a newer release are refused before anything is written to them."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from accord_client import rounds, state
from accord_client.disk import FORMAT
from accord_client.ledger import Ledger
from accord_client.rounds import Rounds
from accord_client.state import State
from accord_common.errors import UsageError
from accord_common.identity import SigningKey

KEY = SigningKey.generate()


def make_ledger(path: Path) -> None:
    Ledger.create(path, KEY).close()


FILES: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    state.FILE_NAME: (lambda path: State(path).close(), State),
    rounds.FILE_NAME: (lambda path: Rounds(path, KEY).close(), lambda path: Rounds(path, KEY)),
    "ledger.db": (make_ledger, lambda path: Ledger.open(path, KEY)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_newer_format_is_refused_and_left_as_it_is(name: str, tmp_path: Path) -> None:
    make, open_ = FILES[name]
    path = tmp_path / name
    make(path)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(UsageError) as error:
        open_(path)
    assert error.value.code == "newer-format"
    assert str(FORMAT + 1) in error.value.message and str(path) in error.value.message
    assert path.read_bytes() == before
