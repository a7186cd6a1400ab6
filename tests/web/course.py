"""A run on its way, record by record, as its parties would post them."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from accord_common.api.client import RegistryClient
from accord_common.costs import attempts_tally
from accord_common.envelope import Envelope
from accord_common.manifest import RunManifest, Site
from accord_common.privacy.accounting import bounded_up
from accord_common.privacy.report import bounded_epsilon
from accord_common.receipts import DatasetEpsilon
from tests.server.registry.stack import Stack, run_id
from tests.world import RunKeys, World, model_of

Clients = Mapping[str, RegistryClient]  # by party


@dataclass
class Ledgers:
    """How many entries each node's ledger has, over all runs."""

    entries: Counter[str] = field(default_factory=Counter)

    def next(self, party: str) -> int:
        """The number of a node's next entry."""
        self.entries[party] += 1
        return self.entries[party] - 1


@dataclass
class Course:
    """What the next receipts of a run's parties follow."""

    world: World
    ledgers: Ledgers
    run: str
    keys: RunKeys
    manifest: Envelope
    heads: dict[str, str]
    head: str
    round: int = 0
    attempt: int = 0
    attempts: int = 0
    posted: float = 0.0  # when the aggregator's newest receipt set out, in seconds of the epoch

    def play(self, clients: Clients, lost: tuple[str, ...] = ()) -> None:
        """One attempt: receipts of the nodes that took part, then the aggregator's."""
        for actor in self.world.hospitals:
            if actor.id in lost:
                continue
            receipt = self.world.node_receipt(
                actor,
                self.manifest,
                self.heads[actor.id],
                self.round,
                self.attempt,
                self.ledgers.next(actor.id),
            )
            self.heads[actor.id] = clients[actor.id].post(receipt).hash
        receipt = self.world.aggregator_receipt(
            self.keys, self.manifest, self.head, self.round, self.attempt, lost
        )
        self.posted = time.time()
        self.head = clients[self.world.aggregator.id].post(receipt).hash
        self.attempts += 1
        self.round, self.attempt = (self.round, self.attempt + 1) if lost else (self.round + 1, 0)

    def end(self, clients: Clients, claimed: Mapping[str, str] | None = None) -> None:
        """The result and its evaluation; `claimed` epsilon by party takes the place of the true."""
        manifest, model = RunManifest.from_bytes(self.manifest.payload), model_of(self.round)
        told = [self._cost(manifest, site, claimed or {}) for site in manifest.roster]
        result = self.world.result(
            self.keys, self.manifest, self.head, model, rounds=self.round, epsilon=told
        )
        clients[self.world.aggregator.id].post(result)
        clients[self.world.coordinator.id].post(self.world.evaluation(self.manifest, result, model))

    def _cost(
        self, manifest: RunManifest, site: Site, claimed: Mapping[str, str]
    ) -> DatasetEpsilon:
        privacy = self.world.agreement.dataset(site.dataset).privacy
        tally = attempts_tally(manifest, site, privacy.adjacency, self.attempts)
        return DatasetEpsilon(
            party=site.party,
            dataset=site.dataset,
            attempts=self.attempts,
            epsilon=claimed.get(site.party, bounded_up(bounded_epsilon(tally, privacy.delta))),
            delta=privacy.delta,
        )


def set_out(stack: Stack, ledgers: Ledgers, title: str, rounds: int) -> Course:
    """Start a run that everybody accepts, under its aggregator's lease."""
    world, keys = stack.world, stack.offer()
    manifest = stack.start(
        keys,
        title=title,
        rounds=rounds,
        max_attempts_total=rounds + 5,
        roster=[
            Site(
                party=actor.id,
                dataset=actor.dataset,
                delegation=world.delegations[actor.id].hash,
                weight=200,
                sampling_rate="0.05",  # forty rounds cost less than half of the cap
                noise_multiplier="4",
            )
            for actor in sorted(world.hospitals, key=lambda actor: actor.id)
        ],
    )
    heads, run = stack.accept(manifest), run_id(stack, manifest)
    stack.client(world.aggregator).lease(run, "aggregator-1", 3600)
    return Course(world, ledgers, run, keys, manifest, heads, manifest.hash)
