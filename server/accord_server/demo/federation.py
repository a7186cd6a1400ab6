"""Set up a federation as its people would, each at a terminal of their own.

Guarantees: only the two console scripts are started and only their JSON is read. What crosses from
one party to another is what would cross in life: an invitation, an agreement's hash, a run's id.
Nobody signs for anybody else.

Used by the demonstration, the end-to-end tests and the benchmarks.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from accord_server.demo.processes import Actor, Services
from accord_server.demo.separation import Separation

DATASET = "tumours"
COUNTRY = "DE"  # of parties that exist on this machine only
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Share:
    """What one institution brings: a CSV text, the public size it declares, who decides on runs."""

    site: str
    table: str
    size: int
    policy: str = "ask"


@dataclass
class Federation:
    """Everybody, in folders below `folder`.

    Args:
        folder: where each party gets a folder of its own.
        services: owns the processes.
        shares: one for each institution.
        schema: YAML text that all parties have agreed on.
        separation: how institutions run as their own users.
        report: told each step, in words.
        dataset: what every institution calls its table.
        addresses: HOST:PORT at which `registry` and `aggregator` are reached, where something else
            than themselves listens there.
        watched: whether all of them tell Prometheus; `metrics_ports` says where the servers do.
    """

    folder: Path
    services: Services
    shares: Sequence[Share]
    schema: str
    separation: Separation = field(default_factory=Separation.none)
    report: Report = lambda text: None
    registry_url: str = ""
    agreement: str = ""
    dataset: str = DATASET
    addresses: Mapping[str, str] = field(default_factory=dict)
    watched: bool = False
    metrics_ports: list[int] = field(default_factory=list)
    aggregator_at: str = "127.0.0.1:0"

    def __post_init__(self) -> None:
        self.registry = self._actor("Registry", "accord")
        self.coordinator = self._actor("University", "accord")
        self.aggregator = self._actor("Computing centre", "accord")
        self.nodes = [
            self._actor(share.site, "accord-node", index) for index, share in enumerate(self.shares)
        ]

    def found(self) -> None:
        """Certificates, registry, coordinator: what exists before anybody is invited."""
        registry = self.registry
        registry.run("ca", "init", "--home", registry.home / "ca")
        self.certificate(registry, "registry")
        made = registry.run(
            "registry", "init", "--home", registry.home / "registry", "--host", "127.0.0.1",
            "--port", "0", "--cert", registry.home / "registry.pem",
            "--key", registry.home / "registry.key", "--ca", registry.home / "ca" / "ca.pem",
            *(["--url", f"https://{address}"] if (address := self._address("registry")) else []),
        )  # fmt: skip
        self.registry_url = self.start_registry()["url"]
        self.report(f"registry listens at {self.registry_url}")
        home = self.coordinator.home / "accord"
        self.coordinator.run(
            "init", "--name", self.coordinator.name, "--role", "coordinator",
            "--jurisdiction", COUNTRY, "--home", home,
        )  # fmt: skip
        self.coordinator.run("enroll", made["invitation"], "--home", home)

    def certificate(self, actor: Actor, name: str) -> None:
        """Let the certificate authority issue NAME.pem and NAME.key into an actor's folder."""
        self.registry.run(
            "ca", "issue", "127.0.0.1", "localhost", *self._address(name).split(":")[:-1],
            "--name", name,
            "--out", actor.home, "--home", self.registry.home / "ca",
        )  # fmt: skip

    def enrol_all(self) -> None:
        """Invite, enrol and approve the aggregator and every institution."""
        nodes = [partial(self._enrol_node, index) for index in range(len(self.nodes))]
        self._each(lambda enrol: enrol(), [self._enrol_aggregator, *nodes])

    def publish(self, duo: str) -> None:
        """Let every institution say in the catalogue what its table is, and for what it may serve.

        Args:
            duo: the condition of use, as data stewards call it.
        """

        def say(node: Actor) -> None:
            self.at(node, "dataset", "publish", self.dataset, "--duo", duo, "--yes")

        self._each(say, self.nodes)
        self.report(f"every hospital has published its table, for {duo} use")

    def agree(self, terms: dict[str, Any]) -> str:
        """Draft an agreement over all datasets, and let every party read and sign it."""
        home = self.coordinator.home
        (home / "terms.yaml").write_text(yaml.safe_dump(terms, sort_keys=False))
        self.office("agreement", "draft", home / "terms.yaml", "--out", home / "agreement.json")
        self.agreement = self.office("agreement", "propose", home / "agreement.json", "--yes")[
            "hash"
        ]
        self.aggregator.run(
            "aggregator", "sign", self.agreement, "--yes", "--home", self.aggregator.home / "accord"
        )
        self._each(self._sign, self.nodes)
        status = self.office("agreement", "show", self.agreement)["status"]
        self.report(f"agreement {self.agreement[:12]} is {status}")
        return self.agreement

    def start(self) -> None:
        """Start the aggregator and every node."""
        self.start_aggregator()
        self.start_nodes()

    def start_registry(self) -> dict[str, Any]:
        """Start the registry."""
        home = self.registry.home / "registry"
        ready = self.services.start(
            self.registry, "registry", "start", "--home", home, *self._metrics()
        )
        self._note_metrics(ready)
        return ready

    def start_aggregator(self) -> dict[str, Any]:
        """Start the aggregator; when it comes back, where nodes look for it."""
        home = self.aggregator.home
        ready = self.services.start(
            self.aggregator, "aggregator", "start", "--home", home / "accord",
            "--listen", self.aggregator_at,
            "--cert", home / "aggregator.pem", "--key", home / "aggregator.key",
            "--ca", home / "accord" / "ca.pem",
            *(["--address", address] if (address := self._address("aggregator")) else []),
            *self._metrics(),
        )  # fmt: skip
        self._note_metrics(ready)
        if not address:
            self.aggregator_at = ready["address"]
        return ready

    def start_nodes(self) -> None:
        """Start every institution's daemon."""
        self._each(self.start_node, self.nodes)

    def start_node(self, node: Actor) -> dict[str, Any]:
        """Start one institution's daemon."""
        told = ["--metrics-file", str(node.home / "accord.prom")] if self.watched else []
        return self.services.start(node, "start", "--home", node.home / "accord", *told)

    def start_run(self, plan: dict[str, Any], *options: str | Path) -> str:
        """Sign and upload a run; returns its id."""
        path = self.coordinator.home / "plan.yaml"
        path.write_text(yaml.safe_dump(plan, sort_keys=False))
        run: str = self.office("run", "start", path, *options)["run"]
        return run

    def approve(self, run: str) -> None:
        """Let every steward approve a run; `CommandFailed` with the first refusal's code."""
        self._each(lambda node: self.at(node, "approve", run, "--yes"), self.nodes)

    def office(self, *arguments: str | Path) -> Any:
        """Run a coordinator's verb."""
        return self.coordinator.run(*arguments, "--home", self.coordinator.home / "accord")

    def at(self, node: Actor, *arguments: str | Path) -> Any:
        """Run a verb at one institution."""
        return node.run(*arguments, "--home", node.home / "accord")

    def _metrics(self) -> list[str]:
        return ["--metrics", "127.0.0.1:0"] if self.watched else []

    def _note_metrics(self, ready: dict[str, Any]) -> None:
        if self.watched:
            self.metrics_ports.append(ready["metrics_port"])

    def _address(self, name: str) -> str:
        return self.addresses.get(name, "")

    def _actor(self, name: str, script: str, index: int | None = None) -> Actor:
        home = self.folder / name.lower().replace(" ", "-")
        home.mkdir(mode=0o700, parents=True)
        passphrase = secrets.token_urlsafe(24)
        if index is None or not self.separation.uids:
            return Actor(name, script, home, passphrase=passphrase)
        uid = self.separation.uids[index]
        self.separation.own(home, uid)
        return Actor(
            name, script, home, lambda command: self.separation.wrap(command, uid), passphrase
        )

    def _enrol_aggregator(self) -> None:
        aggregator = self.aggregator
        self.certificate(aggregator, "aggregator")
        aggregator.run(
            "aggregator", "init", "--name", aggregator.name, "--jurisdiction", COUNTRY,
            "--home", aggregator.home / "accord",
        )  # fmt: skip
        self._join(aggregator, "aggregator", "aggregator", "enroll")

    def _enrol_node(self, index: int) -> None:
        node, share = self.nodes[index], self.shares[index]
        name = self.dataset
        table, schema = node.home / f"{name}.csv", node.home / f"{name}.yaml"
        table.write_text(share.table)
        schema.write_text(self.schema)
        if self.separation.uids:
            self.separation.own(node.home, self.separation.uids[index])
        self.at(node, "init", "--name", node.name, "--jurisdiction", COUNTRY)
        self._join(node, "data-holder", "enroll")
        self.at(
            node, "dataset", "add", table, "--schema", schema, "--name", name,
            "--size", str(share.size), "--policy", share.policy,
        )  # fmt: skip
        self.report(f"{node.name} has enrolled and registered its table")

    def _join(self, actor: Actor, role: str, *verb: str) -> None:
        invited = self.office("partner", "invite", "--role", role, "--name", actor.name)
        actor.run(*verb, invited["invitation"], "--home", actor.home / "accord")
        self.office("partner", "approve", actor.name)

    def _sign(self, node: Actor) -> None:
        self.at(node, "agreement", "sign", self.agreement, "--yes")
        self.report(f"{node.name} has signed the agreement")

    def _each(self, work: Callable[[Any], object], items: Iterable[Any]) -> None:
        """Do it for all at once: they are different people."""
        with ThreadPoolExecutor(len(self.nodes)) as people:
            for done in [people.submit(work, item) for item in items]:
                done.result()
