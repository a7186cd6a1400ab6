"""Writers at once, through several registries on one database: nothing is lost, and one wins.

In `make test` two registries serve from threads of this process, each with its own loop and
connections; in `make soak` they are processes, and one is killed again and again.
"""

import itertools
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from accord_common.api.client import RegistryClient
from accord_common.api.schemas import RecordView
from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_server.registry.settings import Settings
from tests.server.registry.stack import Stack, free_port, run_id, serving
from tests.server.registry.tables import T
from tests.server.registry.test_process import SCRIPT, environment
from tests.world import Actor, make_actor

DOORS = 2


@dataclass
class Doors:
    """Clients of several registries that share one database."""

    stack: Stack
    urls: list[str]
    closing: ExitStack
    turns: Iterator[int] = field(default_factory=itertools.count)

    def client(self, actor: Actor | None = None) -> RegistryClient:
        """A client of the next registry in turn."""
        token = self.stack.tokens[actor.id] if actor else None
        url = self.urls[next(self.turns) % len(self.urls)]
        ca_pem = self.stack.settings.ca.read_bytes()
        return self.closing.enter_context(RegistryClient(url, ca_pem, token))


@pytest.fixture
def doors(stack: Stack) -> Iterator[Doors]:
    found = [at_port(stack.settings, free_port()) for _ in range(DOORS)]
    assert stack.http.get("/nowhere").status_code == 404
    with ExitStack() as closing:
        for settings in found:
            closing.enter_context(serving(settings))
        yield Doors(stack, [settings.url for settings in found], closing)


def at_port(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"port": port, "url": f"https://127.0.0.1:{port}"})


def at_once(calls: Sequence[Callable[[], T]]) -> list[T | str]:
    """Make all calls at the same moment; what each returned, or the code of its error."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | str:
        start.wait(30)
        try:
            return call()
        except AccordError as error:
            return error.code

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def post(doors: Doors, actor: Actor, envelope: Envelope) -> Callable[[], str]:
    client = doors.client(actor)
    return lambda: client.post(envelope).hash


def test_every_signature_and_consent_counts(doors: Doors) -> None:
    world, stack = doors.stack.world.next_version(), doors.stack
    stack.client(world.coordinator).propose(world.partly_signed(world.coordinator))
    others = [*world.hospitals, world.aggregator]

    def signed(actor: Actor) -> Callable[[], str]:
        client = doors.client(actor)
        return lambda: client.sign_agreement(world.partly_signed(actor)).status

    told = at_once([signed(actor) for actor in others])
    assert sorted(told)[:1] == ["active"] and told.count("active") == 1
    view = stack.client(world.coordinator).agreement(world.agreement_hash)
    assert (view.status, view.missing) == ("active", [])

    stack.world = world
    manifest = stack.start(stack.offer())
    consents = {actor: world.consent(actor, manifest) for actor in world.hospitals}
    twice = [*consents.items(), *consents.items()]  # each answer, sent again by an impatient node
    stored = at_once([post(doors, actor, envelope) for actor, envelope in twice])
    assert stored == [envelope.hash for _, envelope in twice]
    assert stack.client(world.coordinator).run(run_id(stack, manifest)).state == "ready"


def test_of_those_that_exclude_each_other_one_wins(doors: Doors) -> None:
    world, stack = doors.stack.world, doors.stack
    manifest = stack.start(stack.offer())
    heads = stack.accept(manifest)
    run = run_id(stack, manifest)

    def leased(holder: int) -> Callable[[], str]:
        client = doors.client(world.aggregator)
        return lambda: client.lease(run, f"aggregator-{holder}", 60).holder

    holders = at_once([leased(index) for index in range(6)])
    assert holders.count("leased") == 5

    hospital = world.hospitals[0]
    forks = [
        world.node_receipt(hospital, manifest, heads[hospital.id], 0, attempt)
        for attempt in range(6)
    ]
    stored = at_once([post(doors, hospital, receipt) for receipt in forks])
    assert stored.count("forked-chain") == 5

    code = stack.client(world.coordinator).invite("auditor", "auditor").code
    newcomers = [make_actor("auditor", "auditor") for _ in range(6)]

    def joined(actor: Actor) -> Callable[[], str]:
        client = doors.client()
        return lambda: client.enrol(code, actor.enrolment()).status

    assert sorted(at_once([joined(actor) for actor in newcomers])) == [
        *["bad-invitation"] * 5,
        "pending",
    ]


@pytest.mark.soak(sample=12, full=200)
def test_readers_see_every_record_once_and_in_order(doors: Doors, size: int) -> None:
    world = doors.stack.world
    posts = [
        post(doors, world.aggregator, world.run_keys().offer) for _ in range(4) for _ in range(size)
    ]
    total = len(doors.client(world.coordinator).records()) + len(posts)
    done = threading.Event()

    def follow() -> list[int]:
        """Page as auditors do: what lies behind the last that was seen."""
        seen: list[RecordView] = []
        clients = [doors.client(world.coordinator) for _ in doors.urls]
        for client in itertools.cycle(clients):
            last = done.is_set()
            more = client.records(after=seen[-1].sequence if seen else 0)
            seen += more
            if last and not more:
                return [item.sequence for item in seen]
        raise AssertionError("unreachable")

    with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(4) as writers:
        following = [readers.submit(follow) for _ in range(2)]
        try:
            stored = list(writers.map(lambda call: call(), posts))
        finally:
            done.set()
        assert len(set(stored)) == len(posts)
        for found in following:
            assert found.result(60) == list(range(1, total + 1))


@pytest.mark.soak(sample=0, full=20)
def test_a_registry_that_is_killed_takes_nothing_with_it(stack: Stack, size: int) -> None:
    """Kill -9 at any moment: what was answered is stored, the other registry goes on at once."""
    world = stack.world
    steady, mortal = (at_port(stack.settings, free_port()) for _ in range(2))
    offers = (world.run_keys().offer for _ in itertools.count())
    answered: list[str] = []
    ended = threading.Event()

    def write() -> None:
        with ExitStack() as closing:
            doors = Doors(stack, [steady.url, mortal.url], closing)
            clients = [doors.client(world.aggregator) for _ in doors.urls]
            while not ended.is_set():
                offer = next(offers)
                for client in itertools.cycle(clients):  # until one of the two has answered
                    try:
                        answered.append(client.post(offer).hash)
                        break
                    except AccordError as error:
                        assert error.code in {"registry-unreachable", "database-busy"}

    with serving(steady), ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(size):
                kill_after(mortal, answered, len(answered) + 20)
        finally:
            ended.set()
        writing.result(60)
    stored: list[RecordView] = []
    while more := stack.client(world.coordinator).records(len(stored)):
        stored += more
    assert [item.sequence for item in stored] == list(range(1, len(stored) + 1))
    assert set(answered) <= {item.hash for item in stored}


def kill_after(settings: Settings, answered: list[str], count: int) -> None:
    """Run a registry as a process, and kill it once so many records were answered."""
    variables = {"ACCORD_REGISTRY_PORT": str(settings.port), "ACCORD_REGISTRY_URL": settings.url}
    with subprocess.Popen(
        [*SCRIPT, "registry", "start", "--home", str(settings.home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment() | variables,
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline(), "it did not start"
            with RegistryClient(settings.url, settings.ca.read_bytes()) as client:
                while len(answered) < count:
                    client.ready()
        finally:
            os.kill(process.pid, signal.SIGKILL)
