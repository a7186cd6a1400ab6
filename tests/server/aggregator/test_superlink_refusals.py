"""What the public listener refuses, asked by raw requests: each with its status and stable code."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from flwr.app.error import Error
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import ObjectTree, PullObjectRequest, PushObjectRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.main import create_app
from starlette.routing import Route
from structlog.testing import capture_logs

from accord_common.identity import FlowerKey
from accord_common.parcel import (
    MAX_HEADER_BYTES,
    MAX_OBJECT_BYTES,
    Parcel,
    _object,
    pack,
)
from accord_server.aggregator import listener as paths
from accord_server.aggregator.fleet import SuperLinkTransport
from accord_server.aggregator.listener import BODY_LIMITS
from accord_server.aggregator.transport import Lost
from tests.fleet import HOST, Site, answer, site
from tests.raw_node import Raw, Replying


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("fleet"), ("a", "b")) as made:
        yield made


@pytest.fixture
def a(here: Site) -> Raw:
    return Raw(here, here.keys["a"])


def test_nothing_of_flower_but_the_allowed_paths_is_there(a: Raw) -> None:
    routes = [
        (method, route.path)
        for route in _walk(create_app().routes)
        for method in route.methods or ()
    ]
    assert len(routes) > 60, "Flower's application has another shape than the one this was made for"
    fleet = {path for _, path in routes if path.startswith("/v1/fleet/")}
    assert set(BODY_LIMITS) - {paths.LINE} < fleet
    for method, path in routes:
        if path not in BODY_LIMITS:
            status, _ = a.ask(path, verb=method)
            assert status == HTTPStatus.NOT_FOUND, f"{method} {path} answers {status}"
    for path in BODY_LIMITS:
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            assert a.ask(path, verb=method)[0] == HTTPStatus.NOT_FOUND


def _walk(routes: Any) -> Iterator[Route]:
    for route in routes:
        if hasattr(route, "path") and hasattr(route, "methods"):
            yield route
        inner = getattr(route, "routes", None) or getattr(
            getattr(route, "original_router", None), "routes", ()
        )
        yield from _walk(inner)


@pytest.mark.parametrize("path", BODY_LIMITS)
def test_every_path_asks_for_a_key_in_the_roster(here: Site, a: Raw, path: str) -> None:
    stranger = Raw(here, FlowerKey.generate())
    old = (datetime.now(UTC) - timedelta(seconds=400)).isoformat()
    early = (datetime.now(UTC) + timedelta(seconds=400)).isoformat()
    borrowed = stranger.headers()["flwr-signature"]
    for headers, code in (
        ({}, "node-credential-malformed"),
        (a.headers(**{"flwr-signature": "no base64!"}), "node-credential-malformed"),
        (a.headers(timestamp="yesterday"), "node-credential-malformed"),
        (a.headers(timestamp="2026-01-01T00:00:00"), "node-credential-malformed"),
        (stranger.headers(), "node-not-registered"),
        (a.headers(timestamp=old), "node-clock-skew"),
        (a.headers(timestamp=early), "node-clock-skew"),
        (a.headers(**{"flwr-signature": borrowed}), "node-signature-invalid"),
    ):
        assert a.code(path, headers=headers) == (HTTPStatus.UNAUTHORIZED, code)
    with capture_logs() as logs:
        stranger.ask(path)
    assert [line["event"] for line in logs] == ["node-not-registered"]


def test_a_clock_that_is_off_is_the_engines_to_know(here: Site, a: Raw) -> None:
    """Only where the node is not here, and its own key signed the time."""

    def at(minutes: int, **changes: str) -> dict[str, str]:
        moment = datetime.now(UTC) + timedelta(minutes=minutes)
        return a.headers(timestamp=moment.isoformat(), **changes)

    tolerated = a.code(paths.PULL_MESSAGES, headers=at(4))
    assert tolerated == (HTTPStatus.UNAUTHORIZED, "node-id-differs")  # the next check
    borrowed = Raw(here, FlowerKey.generate()).headers()["flwr-signature"]
    while here.transport.receive(0) is not None:
        pass  # what other tests have told
    a.ask(paths.ACTIVATE, headers=at(10, **{"flwr-signature": borrowed}))
    assert here.transport.receive(0) is None
    for minutes, side in ((10, "ahead of"), (-10, "behind")):
        a.ask(paths.ACTIVATE, headers=at(minutes))
        lost = here.transport.receive(0)
        assert isinstance(lost, Lost) and lost.party == "a"
        told = rf"its clock is (59|60)\d s {side} the aggregator's, the bound is 300"
        assert re.fullmatch(told, lost.reason), lost.reason
    with here.node("a"):
        a.ask(paths.ACTIVATE, headers=at(10))
        assert here.transport.receive(0) is None


def test_a_signature_that_held_makes_no_other_hold(here: Site, a: Raw) -> None:
    a.activate()
    held = a.headers()
    for _ in range(2):  # requests of the same moment share a signature
        assert a.code(paths.PULL_OBJECT, headers=held)[1] == "node-id-differs"
    later = (datetime.now(UTC) + timedelta(microseconds=1)).isoformat()
    b = Raw(here, here.keys["b"]).headers()
    for headers in (
        {**held, "flwr-timestamp": later},
        {**held, "flwr-signature": a.headers(timestamp=later)["flwr-signature"]},
        {**held, "flwr-public-key": b["flwr-public-key"]},
    ):
        refused = a.code(paths.PULL_OBJECT, headers=headers)
        assert refused == (HTTPStatus.UNAUTHORIZED, "node-signature-invalid")


def test_a_key_speaks_for_its_own_node_alone(here: Site, a: Raw) -> None:
    own = a.activate()
    other = Raw(here, here.keys["b"]).activate()
    assert own.node_id != other.node_id
    for path, body in (
        (paths.LINE, PullMessagesRequest(node=other)),
        (paths.PULL_MESSAGES, PullMessagesRequest(node=other)),
        (paths.PULL_OBJECT, PullObjectRequest(node=other)),
        (paths.PUSH_MESSAGES, PushMessagesRequest(node=other)),
        (paths.PUSH_OBJECT, PushObjectRequest(node=other)),
    ):
        assert a.code(path, body) == (HTTPStatus.UNAUTHORIZED, "node-id-differs")
    others_key = public_key_to_bytes(here.keys["b"].private.public_key())
    request = ActivateNodeRequest(public_key=others_key, heartbeat_interval=30)
    assert a.code(paths.ACTIVATE, request) == (HTTPStatus.UNAUTHORIZED, "node-key-differs")


@pytest.mark.parametrize("path", BODY_LIMITS)
def test_a_body_is_bounded_and_must_make_sense(a: Raw, path: str) -> None:
    too_long = {**a.headers(), "content-length": str(BODY_LIMITS[path] + 1)}
    assert a.code(path, headers=too_long) == (
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
    )
    chunked = {**a.headers(), "transfer-encoding": "chunked"}
    assert a.code(path, headers=chunked) == (HTTPStatus.LENGTH_REQUIRED, "length-required")
    assert a.code(path, b"\xff\xff\xff") == (HTTPStatus.BAD_REQUEST, "request-malformed")


def _reply(header: bytes = b"reply") -> Parcel:
    return pack(header, None).within("Message", b"")


@pytest.fixture
def node(here: Site) -> Iterator[Replying]:
    replying = Replying(here, here.keys["a"])
    replying.pull()
    yield replying
    replying.close()
    assert len(here.transport._superlink) == 0


def test_a_reply_counts_once_all_its_objects_are_here(node: Replying) -> None:
    parcel = _reply()
    assert node.announce(parcel) == (HTTPStatus.OK, "")
    assert set(node.wanted.objects_to_push) == set(parcel.contents)
    for object_id, content in parcel.contents.items():
        assert node.site.transport.receive(0) is None
        assert node.put(object_id, content.head + content.body.load()) == (HTTPStatus.OK, "")
    assert answer(node.site.transport).header == b"reply"


def test_a_second_reply_is_refused(node: Replying) -> None:
    assert node.announce(_reply())[0] == HTTPStatus.OK
    assert node.announce(_reply(b"other")) == (HTTPStatus.CONFLICT, "reply-twice")


@pytest.mark.parametrize(
    ("metadata", "status", "code"),
    [
        ({"run_id": 7}, HTTPStatus.CONFLICT, "reply-for-another-run"),
        ({"src_node_id": 7}, HTTPStatus.UNAUTHORIZED, "reply-sender-differs"),
        ({"reply_to_message_id": "0" * 64}, HTTPStatus.CONFLICT, "reply-not-wanted"),
        ({"message_id": "0" * 64}, HTTPStatus.BAD_REQUEST, "reply-malformed"),
        ({"message_type": "gossip"}, HTTPStatus.BAD_REQUEST, "request-malformed"),
        ({"dst_node_id": 7}, HTTPStatus.BAD_REQUEST, "reply-malformed"),
        ({"created_at": 0.0}, HTTPStatus.BAD_REQUEST, "reply-malformed"),
    ],
)
def test_a_reply_that_is_no_answer_to_the_question_is_refused(
    node: Replying, metadata: dict[str, Any], status: HTTPStatus, code: str
) -> None:
    with capture_logs() as logs:
        assert node.announce(_reply(), **metadata) == (status, code)
    assert [(line["event"], line["party"]) for line in logs] == [(code, "a")]


def test_a_tree_that_flower_would_choke_on_is_refused(node: Replying) -> None:
    parcel = _reply()
    root = parcel.tree.object_id
    chunks = [ObjectTree(object_id=f"{n:064x}") for n in range(80)]
    for children in (
        [],
        [ObjectTree(object_id="no hash")],
        [ObjectTree(object_id="1" * 64), ObjectTree(object_id="2" * 64)],
        [ObjectTree(object_id="1" * 64, children=chunks)],
    ):
        tree = ObjectTree(object_id=root, children=children)
        assert node.announce(parcel, tree) == (HTTPStatus.BAD_REQUEST, "reply-malformed")
    question = ObjectTree(object_id=node.question_tree.object_id, children=[chunks[0]])
    assert node.announce(parcel, question, message_id=question.object_id) == (
        HTTPStatus.BAD_REQUEST,
        "reply-malformed",
    )


def test_an_object_must_be_expected_and_have_the_hash_it_is_named_by(node: Replying) -> None:
    parcel = _reply()
    root = parcel.tree.object_id
    content = parcel.contents[root].head + parcel.contents[root].body.load()
    node.wanted = PushMessagesResponse(session_id="x")
    assert node.put(root, content) == (HTTPStatus.CONFLICT, "reply-not-wanted")
    assert node.announce(parcel)[0] == HTTPStatus.OK
    for session in ("", "x"):
        refused = node.put(root, content, session)
        assert refused == (HTTPStatus.CONFLICT, "reply-not-wanted")
    assert node.put("0" * 64, b"x") == (HTTPStatus.CONFLICT, "object-not-wanted")
    assert node.put(root, b"other bytes") == (HTTPStatus.BAD_REQUEST, "object-refused")


def test_a_node_pulls_its_own_message_alone(here: Site, node: Replying) -> None:
    other = Raw(here, here.keys["b"])
    for object_id in (node.question_tree.object_id, "0" * 64):
        request = PullObjectRequest(node=other.activate(), object_id=object_id)
        refused = other.code(paths.PULL_OBJECT, request)
        assert refused == (HTTPStatus.CONFLICT, "message-superseded")


def _malformed() -> list[tuple[Parcel, str]]:
    """Replies whose objects all hash to their names, and yet are no parcel; with the code."""
    huge = _object("ConfigRecord", bytes(MAX_HEADER_BYTES + 100))
    names = json.dumps({"header": huge.tree.object_id}).encode()
    return [
        (_reply().within("Message", b""), "parcel-malformed"),
        (huge.within("RecordDict", b"{}").within("Message", b""), "parcel-malformed"),
        (huge.within("RecordDict", names).within("Message", b""), "header-too-large"),
    ]


@pytest.mark.parametrize("index", range(len(_malformed())))
def test_a_malformed_reply_is_dropped_and_logged(node: Replying, index: int) -> None:
    parcel, code = _malformed()[index]
    assert node.announce(parcel)[0] == HTTPStatus.OK
    for object_id in node.wanted.objects_to_push:
        content = parcel.contents[object_id]
        assert node.put(object_id, content.head + content.body.load())[0] == HTTPStatus.OK
    with capture_logs() as logs:
        assert node.site.transport.receive(0.2) is None
    assert [(line["event"], line["party"]) for line in logs] == [(code, "a")]
    assert node.code(paths.PULL_MESSAGES, PullMessagesRequest(node=node.node))[0] == HTTPStatus.OK


def test_a_flower_error_reply_loses_the_party(node: Replying) -> None:
    request = node.announcement(_reply())
    request.messages_list[0].ClearField("content")
    request.messages_list[0].error.code = Error(code=3).code
    status, _ = node.ask(paths.PUSH_MESSAGES, request.SerializeToString())
    assert status == HTTPStatus.OK
    assert node.site.transport.receive(1) == Lost("a", "Flower error 3")


def test_between_runs_nodes_are_told_that_there_is_none(tmp_path: Path) -> None:
    with site(tmp_path, ("a",)) as made:
        made.transport.close()
        refused = Raw(made, made.keys["a"]).code(paths.ACTIVATE)
        assert refused == (HTTPStatus.SERVICE_UNAVAILABLE, "no-run")


def test_the_largest_object_is_a_chunk_with_its_request(here: Site) -> None:
    assert BODY_LIMITS[paths.PUSH_OBJECT] == MAX_OBJECT_BYTES


def test_strangers_who_say_nothing_are_sent_away(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_FIRST_REQUEST_S", 0.1)
    with stranger(here) as silent:
        assert silent.recv(1) == b""


def test_silent_strangers_crowd_out_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_CONNECTIONS", 10)
    with site(tmp_path, ("a",)) as here, ExitStack() as stack:
        node = Replying(here, here.keys["a"])
        node.pull()
        strangers = [stack.enter_context(stranger(here)) for _ in range(20)]
        assert strangers[0].recv(1) == b""
        request = PullMessagesRequest(node=node.node).SerializeToString()
        assert node.ask(paths.PULL_MESSAGES, request)[0] == HTTPStatus.OK
        node.close()


def stranger(here: Site) -> ssl.SSLSocket:
    tls = ssl.create_default_context(cafile=str(here.certificates.folder / "ca.pem"))
    plain = socket.create_connection((HOST, here.listener.port), timeout=10)
    return tls.wrap_socket(plain, server_hostname=HOST, suppress_ragged_eofs=True)


def test_a_fault_in_a_tick_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "TICK_S", 0)
    ticked = threading.Semaphore(0)

    def fails(transport: SuperLinkTransport) -> None:
        ticked.release()
        raise RuntimeError("a fault")

    monkeypatch.setattr(SuperLinkTransport, "tick", fails)
    with site(tmp_path, ("a",)) as here:
        assert ticked.acquire(timeout=10) and ticked.acquire(timeout=10)
        assert Raw(here, here.keys["a"]).activate().node_id
