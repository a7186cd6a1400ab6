"""A registry in this process, with the real application, database and migrations, and its world."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import format_datetime
from pathlib import Path

import httpx
from fastapi import FastAPI
from starlette.testclient import TestClient

from accord_common.api.client import RegistryClient
from accord_common.api.schemas import DatasetDraft
from accord_common.envelope import Envelope
from accord_common.fields import now
from accord_common.joining import parse_invitation
from accord_common.log.checkpoint import Head
from accord_common.tls import trusting
from accord_server.registry.app import create_app
from accord_server.registry.server import Server, listen
from accord_server.registry.settings import Settings
from tests.world import INITIAL_MODEL, SCHEMA, Actor, RunKeys, World, model_of

URL = "https://registry.test"


class InProcess(httpx.BaseTransport):
    """Carries a client's requests to the application without a network."""

    def __init__(self, http: TestClient) -> None:
        self._http = http

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        answer = self._http.send(request)
        headers = {"Date": format_datetime(now(), usegmt=True), **answer.headers}  # the server's
        return httpx.Response(answer.status_code, headers=headers, content=answer.content)


@dataclass
class Stack:
    """The registry under test: raw HTTP, and a client for each party that joined."""

    settings: Settings
    app: FastAPI
    http: TestClient
    first_invitation: str
    world: World
    tokens: dict[str, str] = field(default_factory=dict)

    def client(self, actor: Actor | None = None) -> RegistryClient:
        token = self.tokens[actor.id] if actor else None
        ca_pem = self.settings.ca.read_bytes()
        return RegistryClient(URL, ca_pem, token, transport=InProcess(self.http))

    def join(self, actor: Actor, code: str, *, approve: bool = True) -> None:
        delegation = self.world.delegations.get(actor.id)
        token = self.client().enrol(code, actor.enrolment(), delegation)
        self.tokens[actor.id] = token.token
        if approve and token.status == "pending":
            self.client(self.world.coordinator).approve(actor.id)

    def join_all(self) -> None:
        self.join(self.world.coordinator, parse_invitation(self.first_invitation).code)
        coordinator = self.client(self.world.coordinator)
        for actor in [*self.world.hospitals, self.world.aggregator]:
            self.join(actor, coordinator.invite(actor.role, actor.name).code)

    def register_datasets(self) -> None:
        for actor in self.world.hospitals:
            self.client(actor).register_dataset(draft(actor))

    def sign_agreement(self) -> None:
        self.client(self.world.coordinator).propose(self.world.agreement_envelope)

    def offer(self) -> RunKeys:
        keys = self.world.run_keys()
        self.client(self.world.aggregator).post(keys.offer)
        return keys

    def start(self, keys: RunKeys, **changes: object) -> Envelope:
        """Upload the initial model and post a manifest."""
        coordinator = self.client(self.world.coordinator)
        coordinator.put_blob(INITIAL_MODEL)
        manifest = self.world.manifest(keys, **changes)
        coordinator.post(manifest)
        return manifest

    def accept(self, manifest: Envelope, log: Head | None = None) -> dict[str, str]:
        """Post every hospital's consent; return the heads of their chains by party."""
        heads = {}
        for actor in self.world.hospitals:
            consent = self.world.consent(actor, manifest, log=log)
            heads[actor.id] = self.client(actor).post(consent).hash
        return heads


def draft(actor: Actor) -> DatasetDraft:
    return DatasetDraft(
        id=actor.dataset,
        name="tumours",
        population=actor.population,
        table=SCHEMA,
        size=200,
        unit="record",
    )


def run_id(stack: Stack, manifest: Envelope) -> str:
    runs = stack.client(stack.world.coordinator).runs()
    return next(run.id for run in runs if run.manifest_hash == manifest.hash)


def complete(
    stack: Stack,
    keys: RunKeys,
    manifest: Envelope,
    log: Head | None = None,
    entries: Iterator[int] | None = None,
    **told: object,
) -> Envelope:
    """Drive a run of two rounds to its result; round 0 loses a node at first.

    Consents carry `log`; `told` replaces what the result says, whose epsilon is not that of the
    attempts. Receipts name the ledger's `entries`; without, both attempts of round 0 the first.
    """
    world, aggregator = stack.world, stack.client(stack.world.aggregator)
    heads = stack.accept(manifest, log)
    aggregator.lease(run_id(stack, manifest), "aggregator-1", 60)
    head = manifest.hash
    lost = (world.hospitals[0].id,)
    for round_, attempt, missing in ((0, 0, lost), (0, 1, ()), (1, 0, ())):
        for actor in world.hospitals:
            entry = None if entries is None else next(entries)
            receipt = world.node_receipt(actor, manifest, heads[actor.id], round_, attempt, entry)
            heads[actor.id] = stack.client(actor).post(receipt).hash
        receipt = world.aggregator_receipt(keys, manifest, head, round_, attempt, missing)
        head = aggregator.post(receipt).hash
    result = world.result(keys, manifest, head, model_of(2), **told)
    aggregator.post(result)
    return result


def settings_in(
    home: Path, certificates: Path, port: int = 8443, database_url: str = ""
) -> Settings:
    return Settings(
        home=home,
        host="127.0.0.1",
        port=port,
        url=f"https://127.0.0.1:{port}",
        certificate=certificates / "server.pem",
        key=certificates / "server.key",
        ca=certificates / "ca.pem",
        database_url=database_url,
    )


@contextmanager
def opened(settings: Settings, invitation: str, world: World) -> Iterator[Stack]:
    """Run the application for the length of a block."""
    app = create_app(settings)
    with TestClient(app, base_url=URL, raise_server_exceptions=False) as http:
        yield Stack(settings, app, http, invitation, world)


@contextmanager
def serving(settings: Settings) -> Iterator[Server]:
    """Run the real server, TLS and all, for the length of a block."""
    ready = threading.Event()
    with listen(settings) as bound:
        server = Server(settings, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            assert ready.wait(20), "the registry did not start"
            # FastAPI finishes its routes as a request passes them, and two threads of one process
            # must not do so at once: a path that is nowhere passes all.
            httpx.get(f"{settings.url}/nowhere", verify=trusting(settings.ca.read_bytes()))
            yield server
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "the registry did not stop"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
