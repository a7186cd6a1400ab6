"""The ledger's file: what it is made of, what SQLite's failures are called, what is let go."""

import os
import resource
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from accord_client.ledger_store import Store
from accord_common.errors import AccordError
from accord_common.files import sync

HEADER = b"any bytes"
MARK = slice(68, 72)  # the application id (SQLite's file format, "The database header")


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    Store.create(path, HEADER)
    opened = Store.open(path)
    yield opened
    opened.close()


def refusal(call: Callable[[], object]) -> AccordError:
    with pytest.raises(AccordError) as caught:
        call()
    return caught.value


def descriptors(folder: Path) -> list[str]:
    """What this process holds open in a folder."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [held for held in map(os.readlink, links) if held.startswith(str(folder))]


def test_a_file_is_made_whole_marked_and_for_its_owner(path: Path) -> None:
    Store.create(path, HEADER)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no log beside it
    assert path.read_bytes()[MARK] == b"ACLG"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert descriptors(path.parent) == []
    with closing(Store.open(path)) as store, store.reading() as db:
        assert db.execute("SELECT envelope FROM header").fetchall() == [(HEADER,)]


def test_a_file_is_on_the_disk_before_it_has_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, bool]] = []

    def noted(what: Path) -> None:
        synced.append((what == path.parent, path.exists()))
        sync(what)

    monkeypatch.setattr("accord_client.ledger_store.sync", noted)
    Store.create(path, HEADER)
    assert synced == [(False, False), (True, True)]  # its bytes, then its name


def test_what_another_removes_first_is_no_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glob = Path.glob

    def listed(folder: Path, pattern: str) -> list[Path]:
        return [*glob(folder, pattern), folder / "removed"]

    monkeypatch.setattr(Path, "glob", listed)
    Store.create(path, HEADER)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_disk_too_full_for_a_ledger_keeps_nothing(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, hard))
    try:
        error = refusal(lambda: Store.create(path, HEADER))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.code == "ledger-unwritable"
    assert list(path.parent.iterdir()) == []
    assert descriptors(path.parent) == []  # also while the error is held


def other_file(path: Path, *, mark: int, mode: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute(f"PRAGMA application_id = {mark}")
        db.execute("CREATE TABLE header (one, envelope)")


@pytest.mark.parametrize(("mark", "mode"), [(1, "wal"), (0x41434C47, "delete")])
def test_another_programs_file_is_refused_and_let_go(path: Path, mark: int, mode: str) -> None:
    other_file(path, mark=mark, mode=mode)
    error = refusal(lambda: Store.open(path))
    assert error.code == "ledger-broken" and "no Accord ledger" in error.message
    assert descriptors(path.parent) == []


def test_a_missing_file_is_named_and_not_made(path: Path) -> None:
    assert refusal(lambda: Store.open(path)).code == "no-ledger"
    assert not path.exists()


def test_every_commit_is_flushed_past_the_drives_cache(store: Store) -> None:
    with store.reading() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert db.execute("PRAGMA fullfsync").fetchone() == (1,)


def test_any_thread_may_ask(store: Store) -> None:
    found: list[object] = []

    def ask() -> None:
        with store.writing() as db:
            found.extend(db.execute("SELECT envelope FROM header"))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [(HEADER,)]


def test_a_block_that_raises_leaves_nothing(store: Store) -> None:
    with pytest.raises(LookupError), store.writing() as db:
        db.execute("INSERT INTO rules VALUES (0, '{}', '', x'')")
        raise LookupError
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM rules").fetchone() == (0,)


def test_a_closed_store_is_the_callers_mistake(path: Path) -> None:
    Store.create(path, HEADER)
    store = Store.open(path)
    store.close()
    assert descriptors(path.parent) == []
    with pytest.raises(sqlite3.ProgrammingError), store.reading():
        pass


def test_a_file_that_lost_a_table_is_broken(store: Store, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE entries")
    with pytest.raises(AccordError) as caught, store.reading() as db:
        db.execute("SELECT * FROM entries")
    assert caught.value.code == "ledger-broken"


def test_what_a_trigger_refuses_is_broken(store: Store) -> None:
    with pytest.raises(AccordError) as caught, store.writing() as db:
        db.execute("DELETE FROM header")
    assert caught.value.code == "ledger-broken"
    assert "a ledger keeps its orders" in caught.value.message
