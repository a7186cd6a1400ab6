"""The state that a story's chapters hand on, and what its people do again and again."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from accord_client import outbox
from accord_common.home import Home
from accord_common.log.checkpoint import verify_checkpoint
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor
from tests.e2e.terminal import Said, say
from tests.e2e.vault import Vault
from tests.federations import follow
from tests.recording.knowing import entries

HASH = re.compile(r"\b[0-9a-f]{64}\b")
PLAN = {
    "task": "tabular-binary",
    "architecture": "logistic-regression",
    "rounds": 3,
    "spare_attempts": 3,
    "noise_multiplier": "4",
    "sampling_rate": "0.1",
    "steps": 1,
    "learning_rate": "0.5",
    "clipping_norm": "1",
    "deadlines": {"advertise_s": 20, "update_s": 60, "rejoin_s": 20},
}


@dataclass
class Story:
    """Who is in it, and what has come of it so far.

    Attributes:
        versions: hashes of the agreement's versions.
        runs: ids, in their order.
        reading: the auditor's folder.
        vault: where the auditor takes everything.
    """

    federation: Federation
    inspectorate: Actor
    reading: Path
    vault: Vault
    versions: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    @property
    def sites(self) -> list[Actor]:
        """The three hospitals."""
        return self.federation.nodes

    def office(self, *arguments: object) -> Said:
        """A coordinator's verb."""
        return say(self.federation.coordinator, *arguments)

    def terms(self, name: str) -> Path:
        """A file of the coordinator's."""
        return self.federation.coordinator.home / name

    def draft(self, terms: Path) -> str:
        """Draft an agreement from terms."""
        return self.office("agreement", "draft", terms, "-o", terms.with_suffix(".json")).ok()

    def propose(self, terms: Path) -> str:
        """Propose what was drafted; returns its hash."""
        told = self.office("agreement", "propose", terms.with_suffix(".json"), "--yes").ok()
        found = HASH.search(told)
        assert found is not None, told
        self.versions.append(found[0])
        return found[0]

    def sign(self, version: str, *parties: Actor) -> None:
        """Let parties sign."""
        for party in parties:
            verb = "aggregator" if party is self.federation.aggregator else "agreement"
            say(party, verb, "sign", version, "--yes").ok()

    def listed(self, version: str) -> str:
        """What `accord agreement list` says of a version."""
        lines = self.office("agreement", "list").ok().splitlines()
        return next(line for line in lines if line.startswith(version))

    def budget(self, site: Actor) -> str:
        """What a steward reads of the budget."""
        return say(site, "budget", "show").ok()

    def plan(self, **changes: Any) -> Path:
        """Write a plan under the newest version."""
        path = self.terms("plan.yaml")
        path.write_text(yaml.safe_dump(PLAN | {"agreement": self.versions[-1]} | changes))
        return path

    def round(self, run: str) -> int:
        """How many rounds of it have been completed."""
        with Home.open(self.federation.coordinator.home / "accord").registry() as client:
            return client.run(run).round

    def known_of(self, site: Actor) -> tuple[object, ...]:
        """What others have of a site: the log, all that it sent, and each call that was no GET."""
        with Home.open(self.federation.coordinator.home / "accord").registry() as client:
            size = verify_checkpoint(client.tree.checkpoint()).size
        home = Home.open(site.home / "accord")
        log = self.federation.services.log(self.federation.registry).read_text().splitlines()
        party = home.profile.party
        requests = [line for line in map(json.loads, log) if line["event"] == "request"]
        calls = [request for request in requests if request["party"] == party]
        assert calls, "the registry's log says who called"
        told = [line["path"] for line in calls if line["method"] != "GET"]
        return size, (home.path / outbox.FILE_NAME).read_bytes(), len(entries(site)), told

    def start(self, **changes: Any) -> str:
        """Plan a run, and start it."""
        told = self.office("run", "start", self.plan(**changes)).ok()
        run = re.search(r"accord-node approve (\S+)", told)
        assert run is not None, told
        self.runs.append(run[1])
        return run[1]

    def ended(self, run: str) -> dict[str, Any]:
        """Watch a run to its end."""
        return follow(self.federation, run)[-1]
