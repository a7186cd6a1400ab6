"""A registry as one finds it on a working day: partners, agreements, runs in every state, people.

All records are really signed, and pass the registry's own checks. One thing is wrong on purpose:
one result tells another epsilon than its receipts, so an auditor has something to find.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from accord_common.api.access_schemas import PersonRole
from accord_common.api.client import RegistryClient
from accord_common.api.score_schemas import ScoreRequest
from accord_common.canonical import sha256_hex
from accord_common.fields import now
from accord_common.home import Home
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry.settings import Settings
from accord_server.registry.setup import initialise
from tests.server.registry.persons import Browser, join, quick_hashes
from tests.server.registry.stack import (
    Stack,
    free_port,
    opened,
    run_id,
    serving,
    settings_in,
)
from tests.web.course import Course, Ledgers, set_out
from tests.web.node import ask_for, settle_in, stir
from tests.world import Actor, World, make_world, model_of

NAMES = {
    "hospital-1": "Northgate Hospital",
    "hospital-2": "Riverside Clinic",
    "hospital-3": "St Luke's Infirmary",
    "coordinator": "University Cancer Registry",
    "aggregator": "Computing Centre",
}
PEOPLE: Mapping[PersonRole, str] = {
    "steward": "stella-braun",
    "coordinator": "carla-young",
    "auditor": "audrey-lindt",
    "owner": "oscar-hale",
}
ROUNDS = 40  # of the run that is under way
PILOT_ATTEMPTS = 3  # of the run that is completed, at its two rounds


@dataclass
class Place:
    """The registry: where it is, who is signed in there, and what pages' addresses may name."""

    settings: Settings
    world: World
    tokens: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)
    course: Course | None = None  # of the run under way
    home: Home | None = None  # of the first hospital's node

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.settings.url

    @contextmanager
    def clients(self) -> Iterator[dict[str, RegistryClient]]:
        """The registry as each party's machine reaches it."""
        ca_pem = self.settings.ca.read_bytes()
        with ExitStack() as stack:
            yield {
                actor.id: stack.enter_context(
                    RegistryClient(self.origin, ca_pem, self.tokens[actor.id])
                )
                for actor in self.world.actors
            }

    @property
    def node(self) -> Home:
        """The first hospital's folder."""
        assert self.home is not None
        return self.home

    def stir(self) -> None:
        """Have every machine heard of, as those that run are all the time."""
        assert self.course is not None
        stir(self.node)
        with self.clients() as clients:
            for client in clients.values():
                client.info()
                client.inbox()
            clients[self.world.aggregator.id].lease(self.course.run, "aggregator-1", 3600)


@contextmanager
def working_day(folder: Path, database_url: str = "") -> Iterator[Place]:
    """The registry's real server, TLS and all, for the length of a block; on SQLite by default."""
    with quick_hashes():
        place = furnish(folder, database_url)
    with serving(place.settings):
        yield place


def furnish(folder: Path, database_url: str = "") -> Place:
    """Make the registry, and leave it as it was at the end of a day."""
    create_ca(folder, "Test CA", now())
    issue(folder, ["127.0.0.1"], folder / "server.pem", folder / "server.key", now())
    settings = settings_in(folder / "registry", folder, free_port(), database_url)
    invitation = asyncio.run(initialise(settings)).text
    world = make_world(log_key=settings.read_log_key(), names=NAMES)
    with opened(settings, invitation, world) as stack:
        return _seed(folder, stack)


def _seed(folder: Path, stack: Stack) -> Place:
    world, place = stack.world, Place(stack.settings, stack.world, stack.tokens)
    stack.join_all()
    stack.register_datasets()
    stack.sign_agreement()
    clients = {actor.id: stack.client(actor) for actor in world.actors}
    coordinator = clients[world.coordinator.id]
    first, second, third = world.hospitals
    draft = world.next_version(title="Tumour screening, second year")
    coordinator.propose(draft.partly_signed(world.coordinator, second))

    ledgers = Ledgers()
    done = set_out(stack, ledgers, "Screening model, pilot", 2)
    for attempt in range(PILOT_ATTEMPTS):
        done.play(clients, lost=() if attempt else (second.id,))
    done.end(clients)
    doubtful = set_out(stack, ledgers, "Screening model, repeated", 1)
    doubtful.play(clients)
    doubtful.end(clients, claimed={third.id: "0.01"})
    place.course = live = set_out(stack, ledgers, "Screening model, full", ROUNDS)
    for lost in ((), (), (first.id,), (), (), (), (second.id, third.id), (), ()):
        live.play(clients, lost)
    for nth, course in enumerate((live, doubtful, done)):
        for round_ in range(course.round):
            coordinator.tell_score(course.run, _score(round_, 20 * nth))
    coordinator.log(live.run, "warning", f"{first.name} was silent for 40 s")
    place.home = settle_in(folder, stack, first, [done.run, doubtful.run, live.run])
    waiting = ask_for(stack, first, place.home, "Screening model with age")
    clients[second.id].post(world.consent(second, waiting))
    refused = stack.start(stack.offer(), title="Screening model, wider clipping")
    clients[third.id].post(world.consent(third, refused, refusal="clipping-above-cap"))

    parties: Mapping[PersonRole, Actor] = {
        "steward": first,
        "coordinator": world.coordinator,
        "auditor": world.coordinator,
        "owner": second,
    }
    people = {role: join(stack, parties[role], role, login) for role, login in PEOPLE.items()}
    place.cookies = {role: person.cookies for role, person in people.items()}
    _say(people, live.run)
    place.names = {
        "run": done.run,
        "doubtful": doubtful.run,
        "live": live.run,
        "waiting": run_id(stack, waiting),
        "refused": run_id(stack, refused),
        "record_hash": done.manifest.hash,
        "agreement_hash": world.agreement_hash,
        "dataset": first.dataset,
        "party": first.id,
        "draft": draft.agreement_hash,
        "nowhere": "01976f6e-0000-7000-8000-000000000000",
    }
    return place


def _score(round_: int, behind: int) -> ScoreRequest:
    """Metrics that rise, and slow down as they do."""
    left = 10 * (60 // (round_ + 2)) + behind  # thousandths
    return ScoreRequest(
        round=round_,
        model=model_of(round_ + 1),
        holdout=sha256_hex(b"hold-out"),
        rows=143,
        metrics={"accuracy": f"0.{939 - left}", "auc": f"0.{979 - left}"},
    )


def _say(people: Mapping[PersonRole, Browser], run: str) -> None:
    """What people write to each other."""
    written: tuple[tuple[PersonRole, str, dict[str, str]], ...] = (
        (
            "coordinator",
            "/v1/announcements",
            {
                "title": "Registry moves on 1 December",
                "body": "No run starts from 18:00 to 20:00 UTC. Nodes wait, and go on.",
            },
        ),
        ("steward", f"/v1/runs/{run}/comments", {"body": "Our scanner was replaced in round 3."}),
        ("coordinator", f"/v1/runs/{run}/comments", {"body": "Thank you; the curve shows it."}),
    )
    for role, path, body in written:
        answer = people[role].call("POST", path, body)
        assert answer.status_code == 201, answer.text
