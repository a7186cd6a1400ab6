"""A coordinator at the console, a real registry over TLS, and partners that answer by its API."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import yaml

from accord_common.agreement import Agreement
from accord_common.api.client import RegistryClient
from accord_common.canonical import sha256_hex
from accord_common.envelope import Envelope, sign
from accord_common.home import Home
from accord_common.joining import parse_invitation
from accord_common.manifest import RunManifest
from accord_common.receipts import AGGREGATOR_RECEIPT, AggregatorReceipt
from accord_server.cli import main
from tests.server.registry.stack import draft
from tests.world import Actor, RunKeys, World, make_world

PASSPHRASE = "a long passphrase"
TERMS: dict[str, Any] = {
    "title": "Tumour screening",
    "purpose": ["DUO:0000007"],
    "datasets": [{"owner": f"hospital-{i}", "name": "tumours"} for i in (1, 2, 3)],
    "privacy": {
        "epsilon_cap": 3,
        "delta": 1e-5,
        "min_noise_multiplier": 0.5,
        "max_clipping_norm": 1,
        "max_sampling_rate": 0.5,
    },
    "tasks": [
        {
            "task": "tabular-binary",
            "objective": "tell malignant from benign",
            "architectures": ["logistic-regression"],
            "max_rounds": 50,
        }
    ],
}
PLAN: dict[str, Any] = {
    "agreement": "Tumour screening",
    "task": "tabular-binary",
    "architecture": "logistic-regression",
    "rounds": 2,
    "epsilon": 1,
    "sampling_rate": 0.25,
    "steps": 4,
    "learning_rate": 0.5,
    "clipping_norm": 1,
}


@dataclass(frozen=True)
class Answer:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, str]:
        """The error object on standard error."""
        found: dict[str, str] = json.loads(self.err.splitlines()[-1])["error"]
        return found


def spawn(*arguments: str | Path, log: Path) -> "subprocess.Popen[str]":
    """Start the console script as a process whose standard output is read line by line."""
    script = "from accord_server.cli import main; main()"
    with log.open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )


def accord(*arguments: str | Path) -> Answer:
    """Run the console script in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["accord", *(str(item) for item in arguments)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return Answer(code, out.getvalue(), err.getvalue())


@dataclass
class Office:
    """The coordinator's desk and the partners it works with."""

    folder: Path
    world: World
    url: str
    ca_pem: bytes
    pid: int  # the registry's
    tokens: dict[str, str] = field(default_factory=dict)
    clients: dict[str, RegistryClient] = field(default_factory=dict)
    epsilon: list[dict[str, Any]] = field(default_factory=list)  # what results say, if not anything

    @property
    def home(self) -> Path:
        return self.folder / "accord"

    def run(self, *arguments: str | Path) -> Answer:
        """Run a verb at the coordinator's folder, as programs do."""
        return accord(*arguments, "--home", self.home, "--format", "json")

    def ok(self, *arguments: str | Path) -> Any:
        """Run a verb that must succeed, and return its JSON."""
        answer = self.run(*arguments)
        assert answer.code == 0, answer.err
        assert answer.err == ""
        return answer.json

    def text(self, *arguments: str | Path) -> str:
        """Run a verb as people do."""
        answer = accord(*arguments, "--home", self.home)
        assert answer.code == 0, answer.err
        return answer.out

    def client(self, actor: Actor) -> RegistryClient:
        """An actor's client, which stays open as long as the office."""
        if actor.id not in self.clients:
            self.clients[actor.id] = RegistryClient(self.url, self.ca_pem, self.tokens[actor.id])
        return self.clients[actor.id]

    def enrol(self, actor: Actor) -> None:
        invited = self.ok("partner", "invite", "--role", actor.role, "--name", actor.name)
        with RegistryClient(self.url, self.ca_pem) as client:
            code = parse_invitation(invited["invitation"]).code
            token = client.enrol(code, actor.enrolment(), self.world.delegations[actor.id])
        self.tokens[actor.id] = token.token

    def document(self, name: str, value: dict[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(value))
        return path

    def plan(self, **changes: Any) -> Path:
        value = {key: item for key, item in (PLAN | changes).items() if item is not None}
        return self.document("plan.yaml", value)

    def offer(self) -> RunKeys:
        keys = self.world.run_keys()
        self.client(self.world.aggregator).post(keys.offer)
        return keys

    def agree(self) -> str:
        """Draft, propose, and let everybody else sign; return the hash."""
        file = self.folder / "agreement.json"
        self.ok("agreement", "draft", self.document("terms.yaml", TERMS), "--out", file)
        agreement = Agreement.from_bytes(file.read_bytes().strip())
        proposed = self.ok("agreement", "propose", file, "--yes")
        self.world = replace(self.world, agreement=agreement)
        for actor in [*self.world.hospitals, self.world.aggregator]:
            self.client(actor).sign_agreement(self.world.partly_signed(actor))
        found: str = proposed["hash"]
        return found

    def manifest(self, run: str) -> Envelope:
        coordinator = self.client(self.world.aggregator)
        return coordinator.record(coordinator.run(run).manifest_hash)

    def consent(self, manifest: Envelope, refusal: str = "") -> dict[str, str]:
        """Let every hospital answer (the first with a refusal, if given); heads by party."""
        heads = {}
        for index, actor in enumerate(self.world.hospitals):
            record = self.world.consent(actor, manifest, refusal if index == 0 else "")
            heads[actor.id] = self.client(actor).post(record).hash
            if refusal:
                break
        return heads

    def train(
        self,
        keys: RunKeys,
        manifest: Envelope,
        heads: dict[str, str] | None = None,
        fails_after: int | None = None,
        start: bytes | None = None,
    ) -> list[bytes]:
        """Play aggregator and nodes to the end, or until it fails; return each round's model."""
        run = RunManifest.from_bytes(manifest.payload)
        aggregator = self.client(self.world.aggregator)
        heads = heads or self.consent(manifest)
        aggregator.lease(run.id, "aggregator-1", 60)
        aggregator.log(run.id, "info", "the aggregator begins")
        bias = fails_after or 0  # no two runs leave the same models
        models = [
            np.array([0.1 * r, 0.2 * r, bias * r], "<f4").tobytes() for r in range(run.rounds + 1)
        ]
        models[0] = start or models[0]
        head = manifest.hash
        rounds = run.rounds if fails_after is None else fails_after
        for round_ in range(rounds):
            for actor in self.world.hospitals:
                receipt = self.world.node_receipt(actor, manifest, heads[actor.id], round_)
                heads[actor.id] = self.client(actor).post(receipt).hash
            aggregator.put_blob(models[round_ + 1])
            body = AggregatorReceipt.from_bytes(
                self.world.aggregator_receipt(keys, manifest, head, round_).payload
            ).model_copy(
                update={
                    "model_before": sha256_hex(models[round_]),
                    "model_after": sha256_hex(models[round_ + 1]),
                }
            )
            head = aggregator.post(sign(AGGREGATOR_RECEIPT, body, keys.receipt)).hash
        last = sha256_hex(models[rounds])
        told: dict[str, Any] = {"rounds": rounds}
        if self.epsilon:
            told["epsilon"] = self.epsilon
        if fails_after is not None:
            told |= {"status": "failed", "code": "too-few-nodes", "cause": "hospital-2 is gone"}
        aggregator.post(self.world.result(keys, manifest, head, last, **told))
        return models[: rounds + 1]


@contextmanager
def registry(folder: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """A registry in a process of its own: what `registry init` said, and the CA."""
    json_ = ("--format", "json")
    ca, cert, key = folder / "ca", folder / "registry.pem", folder / "registry.key"
    issue = ("ca", "issue", "127.0.0.1", "--out", folder, "--name", "registry", "--home", ca)
    assert accord("ca", "init", "--home", ca, *json_).code == 0
    assert accord(*issue, *json_).code == 0
    home = ("--home", folder / "registry")
    made = accord(
        *("registry", "init", *home, "--port", "0", *json_),
        *("--cert", cert, "--key", key, "--ca", ca / "ca.pem"),
    ).json
    log = folder / "registry.log"
    with spawn("registry", "start", *home, *json_, log=log) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), log.read_text()
            yield made | {"pid": process.pid}, (ca / "ca.pem").read_bytes()
        finally:
            process.terminate()


@contextmanager
def opened(folder: Path) -> Iterator[Office]:
    """A registry, a coordinator who joined it, and partners with datasets."""
    world = make_world()
    variables = {"ACCORD_PASSPHRASE": PASSPHRASE}
    with registry(folder) as (made, ca_pem), mock.patch.dict(os.environ, variables):
        office = Office(folder, world, made["url"], ca_pem, made["pid"])
        office.ok("init", "--name", "Trial office", "--jurisdiction", "DE")
        office.ok("enroll", made["invitation"])
        home = Home.open(office.home)
        coordinator = replace(
            world.coordinator,
            id=home.profile.party,
            name=home.profile.name,
            identity=home.identity(PASSPHRASE),
            node=home.node_key(),
        )
        office.world = replace(world, coordinator=coordinator)
        for actor in [*world.hospitals, world.aggregator]:
            office.enrol(actor)
            office.ok("partner", "approve", actor.name)
        for actor in world.hospitals:
            office.client(actor).register_dataset(draft(actor))
        yield office
        for client in office.clients.values():
            client.close()
