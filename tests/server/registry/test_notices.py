"""Notices, to a real HTTPS server and a real mail server: signed, encrypted, and never lost."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import ValidationError

from accord_common.fields import new_id
from accord_server.registry.notices import outbox
from accord_server.registry.notices.settings import Mail, Webhook
from accord_server.registry.notices.tables import NoticedRow, NoticeRow
from accord_server.registry.settings import Settings
from accord_server.registry.setup import initialise
from tests.server.registry.stack import Stack, free_port, opened, run_id, settings_in
from tests.server.registry.tables import execute, rows
from tests.server.registry.test_pages import until
from tests.world import World, make_world

SECRET = b"a secret that the receiver has too"


@dataclass
class Receiver:
    """A server that takes webhooks, and answers as told."""

    port: int
    answer: int = 204
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


def served(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    return context


@pytest.fixture
def receiver(certificates: Path) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.taken.append(({key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(found.answer)
            self.send_header("Location", f"https://127.0.0.1:{found.port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = served(certificates).wrap_socket(server.socket, server_side=True)
        found = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield found
        server.shutdown()
        thread.join(10)


@contextmanager
def mailing(certificates: Path, *, encrypted: bool = True) -> Iterator[tuple[int, list[Envelope]]]:
    """A mail server that asks for TLS and a password; without `encrypted`, for neither."""
    mails: list[Envelope] = []

    class Handler:
        async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
            mails.append(envelope)
            return "250 OK"

    def let_in(_: object, session: Session, __: object, mechanism: str, data: object) -> AuthResult:
        known = isinstance(data, LoginPassword) and data == LoginPassword(b"accord", b"pass word")
        return AuthResult(success=known and session.ssl is not None)

    port = free_port()
    secure: dict[str, Any] = {
        "tls_context": served(certificates),
        "require_starttls": True,
        "authenticator": let_in,
        "auth_required": True,
    }
    controller = Controller(
        Handler(), hostname="127.0.0.1", port=port, **(secure if encrypted else {})
    )
    controller.start()
    try:
        yield port, mails
    finally:
        controller.stop()


def content(mail: Envelope) -> bytes:
    assert isinstance(mail.content, bytes)
    return mail.content


def mail_settings(folder: Path, certificates: Path, port: int) -> Mail:
    (folder / "password").write_text("pass word\n")
    return Mail(
        host="127.0.0.1",
        port=port,
        sender="accord@alliance.example",
        recipients=("office@alliance.example", "audit@alliance.example"),
        username="accord",
        password=folder / "password",
        ca=certificates / "ca.pem",
    )


def hook(folder: Path, certificates: Path, receiver: Receiver, **changes: Any) -> Webhook:
    (folder / "secret").write_bytes(b"whsec_" + base64.b64encode(SECRET) + b"\n")
    value = {
        "name": "office",
        "url": f"https://127.0.0.1:{receiver.port}/accord",
        "secret": folder / "secret",
        "ca": certificates / "ca.pem",
    }
    return Webhook.model_validate(value | changes)


@dataclass
class Place:
    """A registry that nobody has opened yet, and the world it serves."""

    settings: Settings
    invitation: str
    world: World

    @contextmanager
    def open(self, **changes: Any) -> Iterator[Stack]:
        settings = self.settings.model_copy(update=changes)
        with opened(settings, self.invitation, self.world) as stack:
            yield stack

    def waiting(self) -> list[tuple[Any, ...]]:
        return rows(self.settings.database, [NoticeRow])["notices"]

    def begun(self) -> list[tuple[Any, ...]]:
        """How far records have been read; empty before the first look."""
        return rows(self.settings.database, [NoticedRow])["noticed"]


@pytest.fixture
def place(tmp_path: Path, certificates: Path) -> Place:
    settings = settings_in(tmp_path / "registry", certificates)
    invitation = asyncio.run(initialise(settings)).text
    return Place(settings, invitation, make_world(log_key=settings.read_log_key()))


def begin(stack: Stack) -> None:
    """Everything up to a run that waits for consents."""
    stack.join_all()
    stack.register_datasets()
    stack.sign_agreement()
    stack.start(stack.offer(), title="A title that is nobody's business")


def kinds(receiver: Receiver) -> list[str]:
    return [json.loads(body)["type"] for _, body in receiver.taken]


def test_a_webhook_is_told_what_happened_and_nothing_private(
    place: Place, receiver: Receiver, tmp_path: Path, certificates: Path
) -> None:
    with place.open(webhooks=(hook(tmp_path, certificates, receiver),)) as stack:
        until(lambda: bool(place.begun()))  # from here on, records are news
        begin(stack)
        until(lambda: {"agreement-in-force", "run-proposed"} <= set(kinds(receiver)))
        until(lambda: not place.waiting())
        run = stack.client(stack.world.coordinator).runs()[0].id
    assert len(kinds(receiver)) == 2
    for headers, body in receiver.taken:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{digest}"
        assert set(json.loads(body)) == {"type", "timestamp", "data"}
        assert set(json.loads(body)["data"]) == {"id", "subject", "url"}
        words = [actor.name for actor in place.world.actors] + ["A title", "Tumour"]
        assert not [word for word in words if word in body.decode()]
    told = next(json.loads(body) for _, body in receiver.taken if b"run-proposed" in body)
    assert told["data"]["url"] == f"{place.settings.url}/runs/{run}"


def test_what_is_not_taken_is_sent_again_and_survives_a_restart(
    place: Place, receiver: Receiver, tmp_path: Path, certificates: Path
) -> None:
    webhooks = (hook(tmp_path, certificates, receiver, kinds=("run-proposed",)),)
    receiver.answer = 500
    with place.open(webhooks=webhooks) as stack:
        until(lambda: bool(place.begun()))
        begin(stack)
        until(lambda: [row[4] for row in place.waiting()] == [1])  # attempts
    assert place.waiting()[0][5] == "HTTP 500" and len(receiver.taken) == 1
    execute(place.settings.database, "UPDATE notices SET due = 0")
    receiver.answer = 204
    with place.open(webhooks=webhooks):
        until(lambda: not place.waiting())
    first, second = (headers["webhook-id"] for headers, _ in receiver.taken)
    assert first == second  # so that its receiver knows it


def test_what_the_registry_alone_knows_is_told_once(
    place: Place, receiver: Receiver, tmp_path: Path, certificates: Path
) -> None:
    """A proposal is no record yet; an end that the registry finds is signed later, or never."""
    webhooks = (hook(tmp_path, certificates, receiver),)
    with place.open(webhooks=webhooks, silent_s=1) as stack:
        until(lambda: bool(place.begun()))
        world = stack.world
        stack.join_all()
        stack.register_datasets()
        coordinator = stack.client(world.coordinator)
        for signer in (world.coordinator, world.hospitals[0]):
            stack.client(signer).propose(world.partly_signed(signer))
        until(lambda: kinds(receiver) == ["agreement-proposed"])
        stack.sign_agreement()
        refused = stack.start(stack.offer())
        site = world.hospitals[0]
        stack.client(site).post(world.consent(site, refused, refusal="clipping-above-cap"))
        until(lambda: "run-refused" in kinds(receiver))
        keys = stack.offer()
        manifest = stack.start(keys)
        run = run_id(stack, manifest)
        coordinator.stop(run, "the study is over")
        until(lambda: "run-ended" in kinds(receiver))
        assert coordinator.run(run).unsigned
        result = world.result(
            keys, manifest, manifest.hash, None, rounds=0, status="stopped", code="stop-requested"
        )
        stack.client(world.aggregator).post(result)
        last = coordinator.records()[-1].sequence
        until(lambda: [row[1] for row in place.begun()] == [last] and not place.waiting())
    told = kinds(receiver)
    counts = [told.count(kind) for kind in ("run-ended", "run-refused", "run-proposed")]
    assert counts == [1, 1, 2]


def test_a_place_that_takes_nothing_keeps_no_news_from_the_others(
    place: Place,
    receiver: Receiver,
    tmp_path: Path,
    certificates: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One has as many waiting as may; another has given up some; the third is told."""
    monkeypatch.setattr(outbox, "_MOST_WAITING", 1)
    wanted = {"kinds": ("run-proposed",)}
    full = hook(tmp_path, certificates, receiver, name="full", **wanted)
    with place.open(webhooks=(full, hook(tmp_path, certificates, receiver, **wanted))) as stack:
        until(lambda: bool(place.begun()))
        columns = "id, place, kind, subject, attempts, error, created, due"
        for name, due in (("full", 10**16), ("office", "NULL")):
            values = f"'{new_id()}', '{name}', 'run-ended', '-', 15, 'HTTP 500', {10**16}, {due}"
            execute(place.settings.database, f"INSERT INTO notices ({columns}) VALUES ({values})")
        begin(stack)
        until(lambda: kinds(receiver) == ["run-proposed"])
        until(lambda: sorted(row[1] for row in place.waiting()) == ["full", "office"])


def test_no_answer_leads_elsewhere(
    place: Place, receiver: Receiver, tmp_path: Path, certificates: Path
) -> None:
    receiver.answer = 307
    with place.open(webhooks=(hook(tmp_path, certificates, receiver),)) as stack:
        until(lambda: bool(place.begun()))
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        until(lambda: [row[5] for row in place.waiting()] == ["HTTP 307"])
    assert len(receiver.taken) == 1


@pytest.mark.parametrize("wrong", [{"url": "https://localhost:accord/"}, {"ca": "secret"}])
def test_a_place_that_cannot_be_asked_keeps_nothing_from_the_others(
    place: Place, receiver: Receiver, tmp_path: Path, certificates: Path, wrong: dict[str, str]
) -> None:
    """A port that is none, a file of authorities that holds none."""
    if "ca" in wrong:
        wrong = {"ca": str(tmp_path / wrong["ca"])}
    other = hook(tmp_path, certificates, receiver, name="other", **wrong)
    with place.open(webhooks=(other, hook(tmp_path, certificates, receiver))) as stack:
        until(lambda: bool(place.begun()))
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        until(lambda: [row[1:5:3] for row in place.waiting()] == [("other", 1)])  # attempts
    assert kinds(receiver) == ["agreement-in-force"]


def test_mail_goes_over_tls_to_whom_the_operator_named(
    place: Place, tmp_path: Path, certificates: Path
) -> None:
    with mailing(certificates) as (port, mails):
        with place.open(mail=mail_settings(tmp_path, certificates, port)) as stack:
            until(lambda: bool(place.begun()))
            begin(stack)
            until(lambda: len(mails) == 2 and not place.waiting())
    sent = [message_from_bytes(content(mail)) for mail in mails]
    assert mails[0].rcpt_tos == ["office@alliance.example", "audit@alliance.example"]
    assert all(mail["Auto-Submitted"] == "auto-generated" for mail in sent)
    text = b"".join(content(mail) for mail in mails).decode()
    assert "nobody's business" not in text and "hospital" not in text
    assert f"{place.settings.url}/runs/" in text


def test_a_mail_server_that_says_nothing_holds_up_nobody(
    place: Place, receiver: Receiver, tmp_path: Path, certificates: Path
) -> None:
    """More notices wait for it than the process has threads."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as dumb:
        changes = {
            "mail": mail_settings(tmp_path, certificates, dumb.getsockname()[1]),
            "webhooks": (hook(tmp_path, certificates, receiver),),
        }
        values = [
            f"('{new_id()}', 'mail', 'run-ended', '-', 0, '', 0, {10**15})" for _ in range(60)
        ]
        columns = "id, place, kind, subject, attempts, error, due, created"
        into = f"INSERT INTO notices ({columns}) VALUES {', '.join(values)}"
        execute(place.settings.database, into)
        with place.open(**changes) as stack, dumb.accept()[0]:
            assert stack.http.portal is not None
            assert stack.http.portal.call(asyncio.to_thread, lambda: "served") == "served"
            stack.join_all()
            stack.register_datasets()
            stack.sign_agreement()
            until(lambda: kinds(receiver) == ["agreement-in-force"])
            assert {row[4] for row in place.waiting()} == {0}  # still at the first


def test_no_mail_goes_in_clear(place: Place, tmp_path: Path, certificates: Path) -> None:
    with mailing(certificates, encrypted=False) as (port, mails):
        with place.open(mail=mail_settings(tmp_path, certificates, port)) as stack:
            until(lambda: bool(place.begun()))
            stack.join_all()
            stack.register_datasets()
            stack.sign_agreement()
            until(lambda: [row[4] for row in place.waiting()] == [1])
    assert not mails and place.waiting()[0][5] == "SMTPNotSupportedError"


def test_without_a_place_nothing_is_kept(place: Place) -> None:
    with place.open() as stack:
        begin(stack)
    assert not place.waiting() and not place.begun()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x", "https://user:pass@host/x", "file:///etc/passwd", "https://a b/"]
)
def test_an_address_is_https_and_plain(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValidationError):
        Webhook(name="office", url=url, secret=tmp_path / "secret")


def test_settings_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="a username comes with"):
        Mail(host="mail", sender="a@b", recipients=("c@d",), username="x")
    with pytest.raises(ValidationError):
        Mail(host="mail", sender="a@b\nBcc: x@y", recipients=("c@d",))
