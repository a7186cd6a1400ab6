"""The node's own page, really served, and a browser without scripts."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from accord_client.steward.door import Door
from accord_client.steward.node import Node
from accord_client.steward.server import Server, link_of, listen, origin_of
from accord_common.api.client import RegistryClient
from accord_common.fields import now
from accord_common.home import Home
from accord_common.manifest import RunManifest
from accord_common.models.discovery import load_task
from accord_common.models.flat import initial_vector
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry.setup import initialise
from tests.client.cli.conftest import accord_node as accord_node
from tests.client.institutions import Institutions, make_institutions
from tests.server.registry.stack import Stack, opened, settings_in
from tests.world import SCHEMA, TASK

HTML = {"Accept": "text/html"}


@dataclass
class Clock:
    """Seconds that a test moves on."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Site:
    """One node's page: its address, its shared state, and the door's clock."""

    home: Home
    node: Node
    origin: str
    link: Callable[[], str]
    clock: Clock
    opened: list[httpx.Client] = field(default_factory=list)

    def code(self) -> str:
        """The code of a fresh link."""
        return self.link().partition("#")[2]

    def stranger(self) -> "Visitor":
        # Nothing is verified over plain HTTP; reading the authorities would take 0.1 s.
        self.opened.append(httpx.Client(base_url=self.origin, headers=HTML, verify=False))
        return Visitor(self, self.opened[-1])

    def visitor(self) -> "Visitor":
        """Somebody who came in."""
        visitor = self.stranger()
        assert visitor.post("/session", code=self.code()).status_code == 200
        visitor.token = visitor.read("/").partition('data-csrf="')[2].partition('"')[0]
        return visitor


@dataclass
class Visitor:
    """A browser: cookies, and the token of the page that it read."""

    site: Site
    http: httpx.Client
    token: str = ""

    def read(self, path: str, language: str = "en") -> str:
        answer = self.http.get(path, headers={"Accept-Language": language})
        assert answer.status_code == 200, (path, answer.status_code, answer.text[-900:])
        return answer.text

    def post(self, path: str, **form: Any) -> httpx.Response:
        return self.change("POST", path, json=form)

    def change(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Change something as the page's script does."""
        headers = {
            "Origin": self.site.origin,
            "Sec-Fetch-Site": "same-origin",
            "X-CSRF-Token": self.token,
            "Content-Type": "application/json",
            "Accept": "*/*",
            **options.pop("headers", {}),
        }
        return self.http.request(method, path, headers=headers, **options)


@contextmanager
def served(home: Home) -> Iterator[Site]:
    """Serve a node's page; the errands beside it run where a test says so."""
    clock = Clock()
    node = Node.of(home, Door(clock), Path("~/.accord-node"))
    with listen("127.0.0.1", 0) as listening:
        server = Server(node)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        site = Site(home, node, origin_of(listening), lambda: link_of(listening, node), clock)
        thread.start()
        try:
            yield site
        finally:
            for client in site.opened:
                client.close()
            server.end()
            thread.join(20)
            assert not thread.is_alive(), "the page did not end"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Institutions:
    return make_institutions(tmp_path_factory.mktemp("institutions"))


@pytest.fixture(scope="module")
def site(three: Institutions) -> Iterator[Site]:
    with served(three.homes[three.parties[0]]) as site:
        site.node.proofs.once()
        yield site


@pytest.fixture
def visitor(site: Site) -> Visitor:
    return site.visitor()


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Institutions]]:
    """A registry in this process, and institutions that have joined it and signed."""
    folder = tmp_path_factory.mktemp("joined")
    create_ca(folder, "Test CA", now())
    issue(folder, ["127.0.0.1"], folder / "server.pem", folder / "server.key", now())
    settings = settings_in(folder / "registry", folder)
    invitation = asyncio.run(initialise(settings)).text
    three = make_institutions(folder, log_key=settings.read_log_key())
    with opened(settings, invitation, three.world) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        yield stack, three


@pytest.fixture(scope="module")
def sites(joined: tuple[Stack, Institutions]) -> Iterator[dict[str, Site]]:
    """The pages of two institutions: one does a thing there, the other on the console."""
    stack, three = joined

    def registry(home: Home) -> RegistryClient:
        return stack.client(three.actor(home.profile.party))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Home, "registry", registry)
        with served(three.homes[three.parties[0]]) as site:
            yield {three.parties[0]: site}


@pytest.fixture
def steward(sites: dict[str, Site], joined: tuple[Stack, Institutions]) -> Visitor:
    return sites[joined[1].parties[0]].visitor()


def start(joined: tuple[Stack, Institutions], **changes: Any) -> RunManifest:
    """A run that waits for consents."""
    stack, three = joined
    keys = three.world.run_keys()
    stack.client(three.world.aggregator).post(keys.offer)
    envelope = replace(three, keys=keys).manifest(**changes)
    manifest = RunManifest.from_bytes(envelope.payload)
    coordinator = stack.client(three.world.coordinator)
    coordinator.put_blob(initial(manifest))
    coordinator.post(envelope)
    return manifest


def initial(manifest: RunManifest) -> bytes:
    module = load_task(TASK).build(manifest.architecture.name, {}, SCHEMA)
    return initial_vector(module, 0).tobytes()
