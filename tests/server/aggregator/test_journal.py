"""The journal survives crashes and refuses damage; the history reads only what fits together."""

import threading
from pathlib import Path

import pytest

from accord_common.errors import FormatError
from accord_common.fields import new_id
from accord_server.aggregator.history import History
from accord_server.aggregator.journal import Journal, Note, Opened

HASH = "ab" * 32
COHORT = [new_id(), new_id(), new_id()]


def messages(journal: Journal, start: int = 0) -> list[str]:
    return [entry.message for entry, _ in journal.read(start) if isinstance(entry, Note)]


def test_lines_come_back_in_order_from_any_position(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        for text in ("one", "two", "three"):
            journal.append(Note(level="info", message=text))
        positions = [position for _, position in journal.read()]
        assert positions[-1] == journal.size
        assert messages(journal) == ["one", "two", "three"]
        assert messages(journal, positions[0]) == ["two", "three"]
    with Journal(tmp_path / "journal") as again:
        again.append(Note(level="info", message="four"))
        assert messages(again) == ["one", "two", "three", "four"]


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.append(Note(level="info", message="whole"))
        journal.append(Note(level="info", message="cut"))
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path) as journal:
        assert messages(journal) == ["whole"]
        journal.append(Note(level="info", message="next"))
        assert messages(journal) == ["whole", "next"]


def test_any_other_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.append(Note(level="info", message="one"))
        journal.append(Note(level="info", message="two"))
    path.write_bytes(path.read_bytes().replace(b"note", b"nope", 1))
    with Journal(path) as journal, pytest.raises(FormatError, match="journal-damaged"):
        list(journal.read())


def test_the_cursor_is_remembered_and_never_beyond_the_end(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.append(Note(level="info", message="one"))
        journal.delivered(journal.size)
    with Journal(path) as journal:
        assert journal.cursor == journal.size
    path.write_bytes(b"")
    with Journal(path) as journal:
        assert journal.cursor == 0


def test_waiting_ends_with_a_line_or_with_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    seen: list[bool] = []

    def waits() -> None:
        seen.append(journal.wait(0))
        seen.append(journal.wait(journal.size))

    thread = threading.Thread(target=waits)
    thread.start()
    journal.append(Note(level="info", message="one"))
    journal.close()
    thread.join(5)
    assert seen == [True, False]


def history() -> History:
    return History(HASH, HASH)


def test_an_attempt_number_is_used_up_when_it_is_opened() -> None:
    found = history()
    found.take(Opened(round=0, attempt=0, cohort=COHORT))
    assert (found.round, found.attempt, found.opened) == (0, 1, 1)
    assert found.unfinished is not None
    assert found.charged == dict.fromkeys(COHORT, 1)


@pytest.mark.parametrize(("round_", "attempt"), [(1, 0), (0, 1)])
def test_lines_out_of_turn_are_refused(round_: int, attempt: int) -> None:
    with pytest.raises(FormatError, match="journal-damaged"):
        history().take(Opened(round=round_, attempt=attempt, cohort=COHORT))


def test_two_open_attempts_are_refused() -> None:
    found = history()
    found.take(Opened(round=0, attempt=0, cohort=COHORT))
    with pytest.raises(FormatError, match="journal-damaged"):
        found.take(Opened(round=0, attempt=1, cohort=COHORT))
