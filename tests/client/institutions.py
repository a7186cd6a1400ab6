"""Nodes' folders for the hospitals of a signed world, with tables, and an aggregator in process."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray
from torch import nn

from accord_client.agreements import Agreements
from accord_client.data.files import FileSource
from accord_client.data.rows import examine
from accord_client.data.split import Split
from accord_client.datasets import Datasets, LocalDataset, Policy
from accord_client.deciding import answer, consider
from accord_client.ledger import Ledger
from accord_client.secagg import NodeSecAgg
from accord_client.session import Session
from accord_client.stores import LEDGER_FILE, Stores, open_stores
from accord_common import wire
from accord_common.enrolment import OFFER, Offer
from accord_common.envelope import Envelope, sign
from accord_common.errors import NotFoundError
from accord_common.fields import format_time, now
from accord_common.files import replace_file
from accord_common.home import Home, Profile
from accord_common.identity import SigningKey
from accord_common.manifest import RunManifest, model_hash
from accord_common.models.discovery import load_task, task_code
from accord_common.models.flat import initial_vector, layout_of
from accord_common.sealed_key import seal
from accord_common.secagg.messages import cohort_hash
from accord_server.aggregator.secagg import Attempt
from tests.world import SCHEMA, TASK, Actor, RunKeys, World, make_world

PASSPHRASE = "correct horse battery"
ROWS = 60


def write_table(path: Path, rows: int = ROWS, seed: int = 1) -> Path:
    """A table that meets SCHEMA and can be learnt from."""
    generator = np.random.default_rng(seed)
    features = generator.uniform([5, 5], [45, 75], (rows, 2)).round(3)
    labels = (features.sum(axis=1) > 65).astype(int)
    lines = [f"{a},{b},{y}" for (a, b), y in zip(features, labels, strict=True)]
    path.write_text("radius,texture,malignant\n" + "\n".join(lines) + "\n")
    return path


def make_home(folder: Path, world: World, actor: Actor) -> Home:
    """The folder that `accord-node init` would have made, with this hospital's keys."""
    folder.mkdir(mode=0o700)
    party = world.agreement.party(actor.id)
    profile = Profile(
        party=actor.id,
        name=actor.name,
        role=actor.role,
        jurisdiction=party.jurisdiction,
        contact=party.contact,
        identity_key=actor.identity.public,
        registry_url=None,
    )
    replace_file(folder / "identity.key", seal(actor.identity, PASSPHRASE))
    replace_file(folder / "node.pem", actor.node.to_pem())
    replace_file(folder / "flower.pem", actor.flower.to_pem())
    replace_file(folder / "delegation.json", world.delegations[actor.id].to_bytes())
    replace_file(folder / "profile.json", profile.to_bytes())
    Ledger.create(folder / LEDGER_FILE, actor.node).close()
    return Home(folder, profile)


@dataclass
class Institutions:
    """A world whose hospitals have folders, tables and signed agreements."""

    world: World
    folder: Path
    homes: dict[str, Home]
    envelope_private: X25519PrivateKey
    keys: RunKeys

    @property
    def parties(self) -> list[str]:
        """In roster order."""
        return sorted(self.homes)

    def actor(self, party: str) -> Actor:
        return self.world.keys[party]

    @property
    def node_keys(self) -> dict[str, str]:
        return {party: self.actor(party).node.public for party in self.parties}

    def manifest(self, **changes: Any) -> Envelope:
        """A manifest that all nodes accept.

        `site` changes go to every entry of the roster; `hidden` makes it an MLP of these widths.
        """
        hidden = changes.pop("hidden", None)
        architecture: dict[str, Any] = {
            "name": "mlp" if hidden else "logistic-regression",
            "args": {},
        }
        if hidden:
            architecture["args"] = {"hidden": hidden}
        module = _build(architecture)
        layout, code = layout_of(module), task_code(TASK)
        body: dict[str, Any] = {
            "architecture": architecture,
            "layout": layout.hash,
            "dimension": layout.dimension,
            "initial_model": model_hash(initial_vector(module, 0).tobytes()),
            "rounds": 3,
            "max_attempts_total": 5,
            "task": {
                "name": TASK,
                "distribution": code.distribution,
                "version": code.version,
                "code_hash": code.code_hash,
            },
        }
        if site := changes.pop("site", None):
            roster = self.world.manifest_body(self.keys).roster
            body["roster"] = [entry.model_dump() | site for entry in roster]
        return self.world.manifest(self.keys, **(body | changes))

    def lookup(self, *more: Envelope) -> Callable[[str], Envelope]:
        """What an honest registry answers."""
        envelopes = [*self.world.delegations.values(), self.keys.offer, *more]
        known = {envelope.hash: envelope for envelope in envelopes}

        def look(record_hash: str) -> Envelope:
            if record_hash not in known:
                raise NotFoundError("unknown-record", record_hash)
            return known[record_hash]

        return look

    @contextmanager
    def open(self, party: str) -> Iterator[Stores]:
        with open_stores(self.homes[party]) as stores:
            yield stores

    def accept(self, stores: Stores, manifest: Envelope) -> str:
        """Decide for real and accept; returns the run's id."""
        considered = consider(stores, self.lookup(manifest), manifest.hash, now())
        assert considered.verdict.decision == "accept", considered.verdict
        return answer(stores, considered, considered.verdict, "ready", now()).id


def _build(architecture: dict[str, Any]) -> nn.Module:
    return load_task(TASK).build(architecture["name"], architecture["args"], SCHEMA)


def make_institutions(
    folder: Path,
    n: int = 3,
    *,
    policy: Policy = "ask",
    rows: int = ROWS,
    delegation_days: int = 365,
    privacy: dict[str, Any] | None = None,
    log_key: SigningKey | None = None,
) -> Institutions:
    """Make a world with folders; `privacy` changes the terms of every dataset.

    `log_key` is the registry's, where there is one.
    """
    world = make_world(n, log_key=log_key)
    until = format_time(now() + timedelta(days=delegation_days))
    acting = [*world.hospitals, world.aggregator]
    world = replace(
        world, delegations={actor.id: actor.delegation(valid_until=until) for actor in acting}
    )
    tasks = [
        task.model_copy(update={"architectures": ["logistic-regression", "mlp"]})
        for task in world.agreement.tasks
    ]
    datasets = world.agreement.model_dump()["datasets"]
    for dataset in datasets:
        dataset["privacy"] |= privacy or {}
    world = world.amended(tasks=[task.model_dump() for task in tasks], datasets=datasets)
    private = X25519PrivateKey.generate()
    receipt = SigningKey.generate()
    public = private.public_key().public_bytes_raw().hex()
    offer = Offer.from_bytes(world.run_keys().offer.payload).model_copy(
        update={"envelope_key": public, "receipt_key": receipt.public}
    )
    keys = RunKeys(receipt, sign(OFFER, offer, world.aggregator.node))
    homes = {}
    for number, actor in enumerate(sorted(world.hospitals, key=lambda actor: actor.id)):
        home = make_home(folder / f"node-{number}", world, actor)
        homes[actor.id] = home
        path = write_table(folder / f"table-{number}.csv", rows, seed=number)
        register(home, world, actor, path, policy)
        own = Agreements.of(home)
        own.sign(world.agreement, actor.identity)
        assert own.complete(world.agreement_envelope)
    return Institutions(world, folder, homes, private, keys)


def register(home: Home, world: World, actor: Actor, path: Path, policy: Policy) -> LocalDataset:
    """What `accord-node dataset add` would have stored, under the agreed id."""
    agreed = world.agreement.dataset(actor.dataset)
    source, split = FileSource.at(path), Split.make("0")
    dataset = LocalDataset(
        id=agreed.id,
        name=agreed.name,
        source=source,
        population=agreed.population,
        table=SCHEMA,
        size=agreed.size,
        unit=agreed.unit,
        policy=policy,
        split=split,
        allowed={},
        mark=examine(source, SCHEMA, agreed.unit, split, {}),
        added=format_time(now()),
    )
    Datasets.of(home.path).store(dataset)
    return dataset


class Refused(Exception):
    """A node answered with a refusal."""

    def __init__(self, party: str, refusal: wire.Refusal) -> None:
        super().__init__(refusal.code, refusal.message)
        self.party = party
        self.code = refusal.code
        self.message = refusal.message


@dataclass
class Aggregator:
    """Drives sessions through attempts, with the real masked sum."""

    three: Institutions
    manifest: Envelope
    model: NDArray[np.float32]

    @classmethod
    def of(cls, three: Institutions, manifest: Envelope) -> "Aggregator":
        run = RunManifest.from_bytes(manifest.payload)
        return cls(three, manifest, initial_vector(_build(run.architecture.model_dump()), 0))

    def ask(
        self, session: Session, request: wire.Request, bulk: tuple[bytes, ...] = ()
    ) -> tuple[wire.Reply, tuple[bytes, ...]]:
        """One exchange; `Refused` where the node refuses."""
        header, chunks = session.answer(wire.encode(request), bulk)
        reply = wire.decode_reply(header)
        if isinstance(reply, wire.Refusal):
            raise Refused("", reply)
        return reply, chunks

    def advertise(self, session: Session, round_: int, attempt: int) -> Envelope:
        request = wire.Advertise(manifest=self.manifest.hash, round=round_, attempt=attempt)
        reply, _ = self.ask(session, request)
        assert isinstance(reply, wire.AdvertisementReply)
        return reply.envelope

    def share_request(self, round_: int, attempt: int, cohort: list[Envelope]) -> wire.Share:
        return wire.Share(manifest=self.manifest.hash, round=round_, attempt=attempt, cohort=cohort)

    def share(
        self, session: Session, round_: int, attempt: int, cohort: list[Envelope]
    ) -> Envelope:
        reply, _ = self.ask(session, self.share_request(round_, attempt, cohort))
        assert isinstance(reply, wire.SharesReply)
        return reply.envelope

    def train(
        self,
        session: Session,
        attempt: Attempt,
        party: str,
        *,
        model: bytes | None = None,
        name: str | None = None,
    ) -> tuple[wire.UpdateReply, tuple[bytes, ...]]:
        data = self.model.tobytes() if model is None else model
        request = wire.Train(
            manifest=self.manifest.hash,
            round=attempt.round,
            attempt=attempt.attempt,
            cohort=cohort_hash(attempt.advertised[member] for member in attempt.cohort),
            sharers=list(attempt.sharers),
            sealed=attempt.sealed_for(party),
            model=name or model_hash(data),
        )
        reply, bulk = self.ask(session, request, (data,))
        assert isinstance(reply, wire.UpdateReply)
        return reply, bulk

    def confirm(
        self, session: Session, attempt: Attempt, following: wire.Share | None = None
    ) -> wire.ConfirmationReply:
        request = wire.Confirm(
            manifest=self.manifest.hash,
            round=attempt.round,
            attempt=attempt.attempt,
            uploads=attempt.uploads,
            next=following,
        )
        reply, _ = self.ask(session, request)
        assert isinstance(reply, wire.ConfirmationReply)
        return reply

    def unmask(self, session: Session, attempt: Attempt, confirmations: list[Envelope]) -> Envelope:
        request = wire.Unmask(
            manifest=self.manifest.hash,
            round=attempt.round,
            attempt=attempt.attempt,
            confirmations=confirmations,
        )
        reply, _ = self.ask(session, request)
        assert isinstance(reply, wire.UnmaskingReply)
        return reply.envelope

    def attempt(self, round_: int, number: int) -> Attempt:
        return Attempt(
            RunManifest.from_bytes(self.manifest.payload),
            self.manifest.hash,
            self.three.node_keys,
            self.three.envelope_private,
            round_,
            number,
            model_hash(self.model.tobytes()),
        )

    def round(self, sessions: Mapping[str, Session], round_: int, number: int = 0) -> None:
        """One complete attempt; moves the model."""
        attempt = self.attempt(round_, number)
        for party, session in sessions.items():
            attempt.advertise(party, self.advertise(session, round_, number))
        cohort = attempt.close_cohort()
        for party, session in sessions.items():
            attempt.share(party, self.share(session, round_, number, cohort))
        attempt.close_sharers()
        for party, session in sessions.items():
            reply, bulk = self.train(session, attempt, party)
            attempt.fold(party, reply.upload, bulk)
        attempt.close_uploads()
        for party, session in sessions.items():
            attempt.confirm(party, self.confirm(session, attempt).envelope)
        confirmations = attempt.close_confirmations()
        for party, session in sessions.items():
            attempt.unmask(party, self.unmask(session, attempt, confirmations))
        total = attempt.total().view(np.int32).astype(np.float32)
        scale = attempt.manifest.secagg.scale
        self.model = self.model + total * np.float32(1 / scale / len(sessions))


def stranger(three: Institutions, manifest: Envelope, party: str) -> NodeSecAgg:
    """A peer's side of the masked sum, where only its advertisement is wanted."""
    body = RunManifest.from_bytes(manifest.payload)
    return NodeSecAgg(body, manifest.hash, party, three.actor(party).node, three.node_keys)
