"""One attempt of a real node process, killed anywhere: it was charged, or nothing of it left.

A life ends at a named point of charge, training, masking and sending, or before, or half way
through, any change that it makes to its files; or its disk fails there and it lives. Whatever
arrived at the far end of its socket must then be in ledger and outbox, and the same node must go on
from what it left.
"""

import errno
import functools
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from accord_client import outbox
from accord_client.ledger import Ledger
from accord_client.secagg_memory import Begun
from accord_client.stores import open_stores
from accord_common.canonical import sha256_hex
from accord_common.home import Home
from accord_common.wire import UpdateReply, decode_reply
from tests.client.crash_disk import Disk, read_log
from tests.client.crashing import KILL, TEAR, UPDATE, Left, Victims

# Where a life ends, and what it leaves: attempts charged, outbox lines, bytes of the update sent.
POINTS = [
    ("before the attempt is begun", 0, 2, "none"),
    ("after the attempt is begun", 0, 2, "none"),
    ("before BEGIN", 0, 2, "none"),
    ("before INSERT", 0, 2, "none"),
    ("after INSERT", 0, 2, "none"),
    ("before COMMIT", 0, 2, "none"),
    ("after the charge", 1, 2, "none"),
    ("before training", 1, 2, "none"),
    ("after training", 1, 2, "none"),
    ("before masking", 1, 2, "none"),
    ("after masking", 1, 2, "none"),
    ("before the round is kept", 1, 2, "none"),
    ("after the round is kept", 1, 2, "none"),
    ("before the receipt", 1, 2, "none"),
    ("after the receipt", 1, 2, "none"),
    ("before the outbox line", 1, 2, "none"),
    ("after the outbox line", 1, 3, "none"),
    ("before sending", 1, 3, "none"),
    ("half sent", 1, 3, "some"),
    ("after sending", 1, 3, "all"),
]
NAMED = {
    *("state-unwritable", "ledger-unwritable", "round-secrets-unwritable", "outbox-unwritable"),
}
WRITE_CLASS = (
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    *("ftruncate", "truncate", "fallocate", "fsync", "fdatasync", "sync_file_range"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
)


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    running = Victims(tmp_path_factory.mktemp("victims"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def calls(victims: Victims) -> int:
    """How many changes an undisturbed attempt makes to its files."""
    left = victims.live()
    assert (left.report["code"], len(left.headers), holds(left)) == ("", 6, 1)
    return int(left.report["calls"])


def holds(left: Left) -> int:
    """Check what a life left, and return how many attempts were charged."""
    with open_stores(Home.open(left.folder)) as stores:
        own = {stores.key.public}
        stores.ledger.verify(own)
        spends = [entry.spend for entry, _ in stores.ledger.entries()]
        places = [(spend.round, spend.attempt) for spend in spends]
        assert places == sorted({(0, 0), (0, 1)} & set(places))
        assert outbox.verify(stores.outbox.path, frozenset(own)) >= len(left.frames)
        lines = {line.sha256: line for line in outbox.lines(stores.outbox.path)}
        updates = 0
        for header in left.headers:
            assert sha256_hex(header) in lines
            updates += isinstance(decode_reply(header), UpdateReply)
        if left.heard(UPDATE) and not left.headers[UPDATE:]:
            updates += 1  # cut short
        assert updates <= len(spends)
        if updates:  # what R3 and R4 need, and the receipts
            (run,) = stores.state.runs()
            assert run.round == 0
            assert stores.rounds.kept(run.id) is not None
            assert stores.state.queued() > updates  # the consent, too
    return len(spends)


def goes_on(victims: Victims, left: Left) -> None:
    """The folder, started again: no attempt is released twice, the next is charged and served."""
    charged = holds(left)
    with open_stores(Home.open(left.folder)) as stores:
        (run,) = stores.state.runs()
    after = victims.live("again", folder=left.folder)
    expected = [[0, 0]] if charged or run.attempt < 0 else []
    assert after.report["code"] == ("" if run.attempt < 0 else "stale-attempt")
    if after.report["again"]["code"] == "round-closed":
        assert left.heard(UPDATE + 1)  # it could have been asked for its shares
    else:
        assert after.report["again"]["code"] == ""
        expected.append([0, 1])
    assert after.report["charged"] == expected


@pytest.mark.parametrize(("point", "charged", "lines", "sent"), POINTS)
def test_a_kill_at_a_named_point(
    victims: Victims, point: str, charged: int, lines: int, sent: str
) -> None:
    left = victims.live(point=point)
    assert left.killed
    assert holds(left) == charged
    assert len(list(outbox.lines(left.folder / outbox.FILE_NAME))) == lines
    whole = len(left.headers) > UPDATE
    assert sent == ("all" if whole else "some" if left.heard(UPDATE) else "none")
    goes_on(victims, left)


@pytest.mark.soak(sample=6, full=1000)
def test_a_kill_before_or_within_any_change_of_a_file(
    victims: Victims, calls: int, size: int, seed: int
) -> None:
    every = [(number, how) for number in range(calls) for how in (KILL, TEAR)]
    chosen = random.Random(seed).sample(every, min(size, len(every)))
    for number, how in chosen:
        left = victims.live(at=number, how=how)
        assert left.killed
        goes_on(victims, left)


@pytest.mark.soak(sample=6, full=1000)
def test_a_disk_that_fails_has_a_name_and_releases_nothing(
    victims: Victims, calls: int, size: int, seed: int
) -> None:
    every = [(number, how) for number in range(calls) for how in (errno.EIO, -errno.ENOSPC)]
    chosen = random.Random(seed).sample(every, min(size, len(every)))
    for number, how in chosen:
        left = victims.live(at=number, how=how)
        report = left.report
        assert not left.killed
        assert report["code"] in {"", *NAMED}
        if report["code"]:  # else what failed was not needed, such as emptying a log
            assert report["refused"] or report["code"] == "outbox-unwritable"
        assert report["later"]["code"] in ("", "round-closed")
        assert len(report["charged"]) == holds(left)


@pytest.mark.soak(sample=0, full=1)
def test_strace_kills_at_every_write_class_system_call(victims: Victims, calls: int) -> None:
    """The kernel's count, not the shim's: both must be the same."""
    killed = 0
    for name in WRITE_CLASS:
        when = 1
        while (left := victims.live(strace=f"{name}:signal=KILL:when={when}")).killed:
            goes_on(victims, left)
            when += 1
        killed += when - 1
    assert killed == calls


@pytest.mark.soak(sample=40, full=3000)
def test_power_lost_with_any_unsynced_write_dropped(
    victims: Victims, tmp_path: Path, size: int, seed: int
) -> None:
    log = tmp_path / "log"
    left = victims.live(log=str(log))
    changes, draw = read_log(log), random.Random(seed)
    files = [path for path in victims.template.iterdir() if path.is_file()]
    before = {str(left.folder / path.name): path.read_bytes() for path in files}
    for number in range(size):
        # In full every moment in turn; first nothing survives that was not synced, then some of it.
        moment = number % len(changes) if size > len(changes) else draw.randrange(len(changes))
        share = 0.0 if number % 2 == 0 or number < len(changes) < size else draw.random()
        past = changes[: moment + 1]
        disk = Disk(left.folder, before, past)
        folder = tmp_path / str(number)
        shutil.copytree(victims.template, folder)
        for path in files:
            (folder / path.name).unlink()
        kept = functools.partial(lambda share: draw.random() < share, share)
        for name, data in disk.after_power_loss(kept).items():
            (folder / Path(name).name).write_bytes(data)
        said = sum(change.kind == "M" for change in past)
        released = replace(left, frames=left.frames[:said], headers=left.headers[:said])
        holds(replace(released, folder=folder))
        check_decided(replace(released, folder=folder))
        shutil.rmtree(folder)


def check_decided(left: Left) -> None:
    """What R3 and R4 said is on the disk, so that no restart says another thing."""
    with open_stores(Home.open(left.folder)) as stores:
        (run,) = stores.state.runs()
        kept = stores.rounds.kept(run.id)
        begun = Begun.from_bytes(kept) if kept else None
        if len(left.frames) > UPDATE + 1:
            assert begun is not None and begun.confirmation is not None
        if len(left.frames) > UPDATE + 2:
            assert begun is not None and begun.unmasking is not None and begun.shares is None


@pytest.mark.soak(sample=6, full=1000)
def test_a_ledger_is_made_whole_or_not_at_all(victims: Victims, size: int, seed: int) -> None:
    made = victims.live("create")
    assert made.report["code"] == ""
    hows = (KILL, TEAR, errno.EIO, -errno.ENOSPC)
    every = [(number, how) for number in range(made.report["calls"]) for how in hows]
    for number, how in random.Random(seed).sample(every, min(size, len(every))):
        left = victims.live("create", at=number, how=how)
        assert left.killed == (how in (KILL, TEAR))
        path = left.folder / "new.db"
        if how < TEAR:  # else it may be the removal that failed
            assert not list(left.folder.glob(".new.db*"))
        if not left.killed:
            assert left.report["code"] in ("", "ledger-unwritable")
        if path.exists():
            with open_stores(Home.open(left.folder)) as stores:
                ledger = Ledger.open(path, stores.key)
            assert ledger.verify({stores.key.public}) == ledger.head
            ledger.close()
        else:
            assert left.killed or left.report["code"]


@pytest.mark.soak(sample=30, full=2000)
def test_a_ledger_that_was_made_outlives_a_power_cut(
    victims: Victims, tmp_path: Path, size: int, seed: int
) -> None:
    log, draw = tmp_path / "log", random.Random(seed)
    left = victims.live("create", log=str(log))
    changes = read_log(log)
    with open_stores(Home.open(victims.template)) as stores:
        key = stores.key
    for number in range(size):
        moment = draw.randrange(len(changes)) if number else len(changes) - 1
        disk = Disk(left.folder, {}, changes[: moment + 1])
        kept = functools.partial(lambda share: draw.random() < share, draw.choice((0.0, 0.5)))
        names = disk.after_power_loss(kept if number else lambda: False)
        made = {Path(name).name: data for name, data in names.items()}
        assert "new.db" in made or moment < len(changes) - 1
        if "new.db" in made:
            path = tmp_path / f"{number}.db"
            path.write_bytes(made["new.db"])
            ledger = Ledger.open(path, key)
            assert ledger.verify({key.public}) == ledger.head
            ledger.close()
