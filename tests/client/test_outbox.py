"""The outbox: nothing leaves without a line, and a line cannot be changed unseen."""

import json
import multiprocessing
from pathlib import Path

import pytest

from accord_client import outbox
from accord_client.outbox import Outbox, Place
from accord_common.errors import FormatError, VerificationError
from accord_common.fields import new_id
from accord_common.identity import SigningKey

DIGEST = "ab" * 32


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def box(tmp_path: Path, key: SigningKey) -> Outbox:
    return Outbox(tmp_path / outbox.FILE_NAME, key)


def test_lines_chain_across_reopening(box: Outbox, key: SigningKey) -> None:
    run = new_id()
    box.append("consent", "registry", DIGEST, 10, Place(run))
    again = Outbox(box.path, key)
    line = again.append("upload", "aggregator", DIGEST, 20, Place(run, 3, 1))
    assert (line.sequence, line.round, line.attempt) == (1, 3, 1)
    assert [item.kind for item in outbox.lines(box.path)] == ["consent", "upload"]
    assert outbox.verify(box.path, frozenset({key.public})) == 2
    assert box.path.stat().st_mode & 0o777 == 0o600


def test_a_missing_outbox_is_empty(box: Outbox) -> None:
    assert list(outbox.lines(box.path)) == []
    assert outbox.verify(box.path, frozenset()) == 0


def test_a_torn_tail_is_dropped_and_the_chain_goes_on(box: Outbox, key: SigningKey) -> None:
    box.append("consent", "registry", DIGEST, 10)
    whole = box.path.read_bytes()
    box.path.write_bytes(whole + whole[:50])
    assert outbox.verify(box.path, frozenset({key.public})) == 1
    box.append("refusal", "aggregator", DIGEST, 11)
    assert outbox.verify(box.path, frozenset({key.public})) == 2


def test_a_last_line_with_a_hole_is_torn_too(box: Outbox, key: SigningKey) -> None:
    """Power was cut when its second sector was on the disk and its first was not."""
    for size in range(2):
        box.append("upload", "aggregator", DIGEST, size)
    data = box.path.read_bytes()
    first = data.index(b"\n") + 1
    box.path.write_bytes(data[:first] + bytes(100) + data[first + 100 :])
    assert outbox.verify(box.path, frozenset({key.public})) == 1
    assert box.append("upload", "aggregator", DIGEST, 2).sequence == 1
    assert outbox.verify(box.path, frozenset({key.public})) == 2
    holed = bytearray(box.path.read_bytes())
    holed[10:20] = bytes(10)  # in the middle it is no crash
    box.path.write_bytes(holed)
    with pytest.raises(FormatError, match="line 1"):
        outbox.verify(box.path, frozenset({key.public}))


def test_more_than_a_crash_tears_off_is_damage_and_stays(box: Outbox) -> None:
    box.append("consent", "registry", DIGEST, 10)
    damaged = box.path.read_bytes() + b"\0" * (outbox.MAX_LINE_BYTES + 1)
    box.path.write_bytes(damaged)
    with pytest.raises(VerificationError, match="outbox-broken"):
        box.append("refusal", "aggregator", DIGEST, 11)
    assert box.path.read_bytes() == damaged


def _break(kind: str, rows: list[bytes]) -> list[bytes]:
    if kind == "removed":
        return [rows[0], rows[2]]
    if kind == "swapped":
        return [rows[0], rows[2], rows[1]]
    changed = json.loads(rows[1]) | {"bytes": 9999}
    return [rows[0], json.dumps(changed, separators=(",", ":"), sort_keys=True).encode(), rows[2]]


@pytest.mark.parametrize("kind", ["removed", "swapped", "changed"])
def test_a_touched_line_is_found(box: Outbox, key: SigningKey, kind: str) -> None:
    for size in range(3):
        box.append("upload", "aggregator", DIGEST, size)
    rows = _break(kind, box.path.read_bytes().splitlines())
    box.path.write_bytes(b"\n".join(rows) + b"\n")
    with pytest.raises(VerificationError) as caught:
        outbox.verify(box.path, frozenset({key.public}))
    assert caught.value.code in {"outbox-broken", "bad-signature"}


def test_a_strangers_line_and_a_strange_line_are_refused(box: Outbox, key: SigningKey) -> None:
    Outbox(box.path, SigningKey.generate()).append("upload", "aggregator", DIGEST, 1)
    with pytest.raises(VerificationError, match="unknown key"):
        outbox.verify(box.path, frozenset({key.public}))
    box.path.write_bytes(b"{}\n")
    with pytest.raises(FormatError, match="line 1"):
        outbox.verify(box.path, frozenset({key.public}))


def _append_many(path: Path, pem: bytes, count: int) -> None:
    box = Outbox(path, SigningKey.from_pem(pem))
    for size in range(count):
        box.append("upload", "aggregator", DIGEST, size)


def test_processes_share_one_chain(box: Outbox, key: SigningKey) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_append_many, args=(box.path, key.to_pem(), 15)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert outbox.verify(box.path, frozenset({key.public})) == 30
