"""Large answers wait on the disk, and a node that misuses it hurts nobody else."""

import gc
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from flwr.supercore.corestate import in_memory_corestate
from structlog.testing import capture_logs

from accord_common.parcel import Parcel, pack, pack_bulk
from accord_server.aggregator import bodies
from accord_server.aggregator.answers import Arriving, Shelf
from accord_server.aggregator.bodies import Refusal
from accord_server.aggregator.transport import Incoming, Lost, Outgoing
from tests.fleet import Site, answer, echo, site, until
from tests.raw_node import Replying

MIB = 1 << 20
CHUNK = bytes(range(256)) * (2 * MIB // 256)
ROOM = MIB  # and 2 MiB for headers


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, ("a", "b"), max_reply_chunks=2, max_reply_bytes=ROOM) as made:
        yield made


@contextmanager
def replying(here: Site, party: str = "a") -> Iterator[Replying]:
    node = Replying(here, here.keys[party])
    node.pull()
    try:
        yield node
    finally:
        node.frames.close()
        node.open.close()


def on_disk(folder: Path) -> int:
    """Bytes of this process's files in `folder` that have no name."""
    total = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            place = os.readlink(f"/proc/self/fd/{descriptor}")
            if place.startswith(str(folder)) and place.endswith(" (deleted)"):
                total += os.stat(f"/proc/self/fd/{descriptor}").st_blocks * 512
        except OSError:  # the descriptor of this very listing
            continue
    return total


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        os.sched_yield()
        gc.collect()
    raise AssertionError("it did not come to that")


def large(chunk: bytes = CHUNK) -> tuple[Parcel, str, bytes]:
    """An answer with one chunk; the chunk's object, by name."""
    parcel = pack(b"reply", pack_bulk([chunk])).within("Message", b"")
    (name,) = [name for name, item in parcel.contents.items() if item.body.size >= len(chunk)]
    return parcel, name, parcel.contents[name].head + chunk


def put_rest(node: Replying, parcel: Parcel) -> None:
    for name in node.wanted.objects_to_push:
        item = parcel.contents[name]
        status, _ = node.put(name, item.head + item.body.load())
        assert status in (HTTPStatus.OK, HTTPStatus.CONFLICT)  # one of them may be there already


def test_an_answer_waits_in_a_file_that_no_crash_leaves_behind(here: Site) -> None:
    folder = here.certificates.folder
    before = set(folder.iterdir())
    with replying(here) as node:
        parcel, name, content = large()
        assert node.announce(parcel)[0] == HTTPStatus.OK
        assert node.put(name, content) == (HTTPStatus.OK, "")
        assert on_disk(folder) >= len(CHUNK) and set(folder.iterdir()) == before
        put_rest(node, parcel)
        event = until(here.transport, lambda event: isinstance(event, Incoming))
        assert isinstance(event, Incoming) and list(event.bulk) == [CHUNK]
        assert on_disk(folder) >= len(CHUNK)
        del event
        eventually(lambda: on_disk(folder) == 0)


def test_a_node_that_stalls_holds_nobody_up_and_frees_its_disk_when_it_is_void(here: Site) -> None:
    folder = here.certificates.folder
    with replying(here) as node, here.node("b") as b:
        parcel, name, content = large()
        assert node.announce(parcel)[0] == HTTPStatus.OK
        stalled = node.begin(name, len(content), content[: MIB + MIB // 2])
        eventually(lambda: on_disk(folder) >= MIB)
        here.transport.send([Outgoing("b", b"meanwhile", [CHUNK])])
        echo(b)
        assert answer(here.transport) == Incoming("b", b"meanwhile", (CHUNK,))
        here.transport.send([Outgoing("a", b"another question")])
        eventually(lambda: on_disk(folder) == 0)
        stalled.send(content[MIB + MIB // 2 :])
        assert stalled.getresponse().status == HTTPStatus.CONFLICT
        stalled.close()


def test_two_uploads_at_once_do_not_mix(here: Site) -> None:
    other = CHUNK[::-1]
    with replying(here, "a") as a, replying(here, "b") as b:
        answers = [(a, *large()), (b, *large(other))]
        half, begun = MIB + 7, []
        for node, parcel, name, content in answers:
            assert node.announce(parcel)[0] == HTTPStatus.OK
            begun.append((node.begin(name, len(content), content[:half]), content[half:]))
        for connection, rest in begun:
            connection.send(rest)
            assert connection.getresponse().status == HTTPStatus.OK
            connection.close()
        for node, parcel, _, _ in answers:
            put_rest(node, parcel)
        events = [answer(here.transport) for _ in answers]
        assert {event.party: event.bulk for event in events} == {"a": (CHUNK,), "b": (other,)}


def test_a_node_that_falls_silent_in_its_upload_is_cut_off(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_STALL_S", 0.2)
    with replying(here) as node:
        parcel, name, content = large()
        assert node.announce(parcel)[0] == HTTPStatus.OK
        stalled = node.begin(name, len(content), content[:MIB])
        response = stalled.getresponse()
        assert (response.status, response.read()) == (
            HTTPStatus.REQUEST_TIMEOUT,
            b'{"code": "body-stalled"}',
        )


def test_a_node_gets_the_disk_that_the_vector_needs_and_no_more(here: Site) -> None:
    folder = here.certificates.folder
    with replying(here) as node:
        parcel, name, content = large()
        assert node.announce(parcel)[0] == HTTPStatus.OK
        wrong = bytes(len(content))
        assert node.put(name, wrong) == (HTTPStatus.BAD_REQUEST, "object-refused")
        again = (HTTPStatus.CONFLICT, "object-not-wanted")
        assert node.put(name, content) == again  # what it wasted is not given back
        assert on_disk(folder) <= ROOM + 2 * MIB
    with replying(here) as node:
        huge, name, content = large(bytes(4 * MIB))
        assert node.announce(huge)[0] == HTTPStatus.OK
        begun = node.begin(name, len(content), content[:2000])
        assert begun.getresponse().status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        begun.close()


def test_a_full_disk_loses_the_node_that_it_cannot_hold(here: Site) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with replying(here) as node, here.node("b") as b:
        parcel, name, content = large()
        assert node.announce(parcel)[0] == HTTPStatus.OK
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))  # this process's files end there
        try:
            with capture_logs() as logs:
                code = node.put(name, content)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert code == (HTTPStatus.INSUFFICIENT_STORAGE, "aggregator-disk-full")
        (line,) = [line for line in logs if line["event"] == "no-room-for-answer"]
        assert line["party"] == "a" and line["hint"]
        lost = until(here.transport, lambda event: isinstance(event, Lost))
        assert isinstance(lost, Lost) and "cannot hold its answer" in lost.reason
        here.transport.send([Outgoing("b", b"still here", [CHUNK])])
        echo(b)
        assert answer(here.transport).bulk == (CHUNK,)


def test_an_object_of_a_dropped_answer_stays_for_whoever_named_it_too(here: Site) -> None:
    parcel, name, content = large()
    with replying(here, "a") as a, replying(here, "b") as b:
        assert a.announce(parcel)[0] == HTTPStatus.OK
        assert a.put(name, content)[0] == HTTPStatus.OK
        other = pack(b"other reply", pack_bulk([CHUNK])).within("Message", b"")
        assert b.announce(other)[0] == HTTPStatus.OK
        assert name not in b.wanted.objects_to_push
        here.transport.send([Outgoing("a", b"never mind")])
        put_rest(b, other)
        event = until(here.transport, lambda event: isinstance(event, Incoming))
        assert isinstance(event, Incoming)
        assert list(event.bulk) == [CHUNK]
        del event
        eventually(lambda: on_disk(here.certificates.folder) == 0)


def test_an_upload_may_take_longer_than_flower_would_wait(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_memory_corestate, "OBJECT_PUSH_SESSION_TTL_SECONDS", 0)
    with replying(here) as node:
        parcel, name, content = large()
        assert node.announce(parcel)[0] == HTTPStatus.OK
        assert node.put(name, content) == (HTTPStatus.OK, "")
        put_rest(node, parcel)
        assert answer(here.transport).bulk == (CHUNK,)


def test_an_upload_under_way_ends_with_the_run(here: Site) -> None:
    folder = here.certificates.folder
    with replying(here) as node:
        parcel, name, content = large()
        assert node.announce(parcel)[0] == HTTPStatus.OK
        begun = node.begin(name, len(content), content[: MIB + MIB // 2])
        eventually(lambda: on_disk(folder) >= MIB)
        here.transport.close()
        eventually(lambda: on_disk(folder) == 0)
        begun.send(content[MIB + MIB // 2 :])
        assert begun.getresponse().status == HTTPStatus.CONFLICT
        begun.close()


def test_what_is_longer_than_it_said_is_refused(tmp_path: Path) -> None:
    arriving = Arriving(Shelf(tmp_path, 100), "0" * 64, 10)
    with pytest.raises(Refusal, match="object-refused"):
        arriving.write([bytes(11)])
    with pytest.raises(Refusal, match="object-refused"):
        arriving.finish()
