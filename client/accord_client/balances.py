"""What each dataset's people have spent, what runs may still charge, and what is left, cap by cap.

Guarantees: every cap that a charge is held to has its balance (agreements' and the steward's own),
by the filter that charges are held to, over all populations that overlap. `spent`, `reserved` and
`left` of one balance sum to its cap, as long as it is kept.

Not covered: figures of different caps or runs do not add up: together they cost less.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal

from accord_client.consent import spend_for
from accord_client.datasets import LocalDataset
from accord_client.stores import Stores
from accord_common.agreement import Agreement
from accord_common.api.schemas import FINAL_STATES
from accord_common.fields import Adjacency, Dec, Hash, Id
from accord_common.manifest import RunManifest
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import LedgerEntry
from accord_common.privacy.filter import Cap, RdpFilter

_DELTA = "0.00001"  # where no cap names one


@dataclass(frozen=True, slots=True)
class Balance:
    """One cap on one dataset's people; `agreement` is None for the steward's own.

    Attributes:
        before: everything charged to these people, in all overlapping populations.
        promised: what runs that were consented to and have not ended may still charge to them.
    """

    dataset: LocalDataset
    agreement: Hash | None
    title: str
    rule: RdpFilter
    before: Tally
    promised: Tally

    @property
    def base(self) -> Tally:
        """What further runs come on top of."""
        return self.before + self.promised

    @property
    def adjacency(self) -> Adjacency:
        """What the figures speak of."""
        return self.base.adjacency

    @property
    def spent(self) -> float:
        """The filter's epsilon of what was charged."""
        return self.rule.epsilon(self.before)

    @property
    def reserved(self) -> float:
        """What that epsilon grows by where those runs charge all they may."""
        grown = self.rule.epsilon(self.base)
        return grown - self.spent if math.isfinite(grown) else math.inf

    @property
    def left(self) -> float:
        """What the cap leaves to further runs."""
        return max(0.0, float(self.rule.cap.epsilon) - self.rule.epsilon(self.base))


def balances(stores: Stores, datasets: Iterable[LocalDataset], *, but: str = "") -> list[Balance]:
    """Return every balance of `datasets`; agreements that ended too, for what was spent stays.

    Nothing is set aside for the run `but`.
    """
    agreed = {
        hash_: Agreement.from_bytes(envelope.payload)
        for hash_, envelope in stores.agreements.signed().items()
    }
    standing = stores.ledger.rules
    found = []
    for dataset in datasets:
        group = standing.group(dataset.population)
        before = sum((stores.ledger.tally(one) for one in group), start=Tally.of([]))
        promised = reserved(stores, group, but=but)
        for hash_, agreement in agreed.items():
            for terms in agreement.datasets:
                if terms.id == dataset.id:
                    privacy = terms.privacy
                    start = Tally(privacy.adjacency, ()) + before
                    cap = Cap(
                        epsilon=privacy.epsilon_cap,
                        delta=privacy.delta,
                        non_private=privacy.non_private,
                        adjacency=privacy.adjacency,
                    )
                    rule = RdpFilter(cap, stores.ledger.orders)
                    found.append(Balance(dataset, hash_, agreement.title, rule, start, promised))
        if own := standing.caps.get(dataset.population):
            rule = RdpFilter(own, stores.ledger.orders)
            found.append(Balance(dataset, None, "own cap", rule, before, promised))
    return found


def reserved(stores: Stores, group: Collection[Id], *, but: str = "") -> Tally:
    """Sum what accepted runs that have not ended may still charge to a group, `but` one run."""
    total = Tally.of([])
    for run in stores.state.runs():
        if run.decision == "accept" and run.state not in FINAL_STATES and run.id != but:
            manifest = RunManifest.from_bytes(stores.state.record(run.manifest).payload)
            total += remaining(stores, manifest, run.manifest, group)
    return total


def remaining(
    stores: Stores, manifest: RunManifest, manifest_hash: Hash, group: Collection[Id]
) -> Tally:
    """Sum what a run's attempts that were not charged yet may charge to a group.

    Nothing without the node's own copy of the agreement: nothing can be charged without it.
    """
    envelope = stores.agreements.signed().get(manifest.agreement)
    if envelope is None:
        return Tally.of([])
    terms = Agreement.from_bytes(envelope.payload)
    spend = spend_for(terms, manifest, manifest_hash, stores.party, round_=0, attempt=0)
    ahead = manifest.max_attempts_total - stores.ledger.count(run=manifest_hash)
    if spend.population not in group or ahead <= 0:
        return Tally.of([])
    return Tally.of([spend]).times(ahead)


def strictest_delta(stores: Stores, population: Id) -> Dec:
    """The least delta of all caps on a population, 0.00001 where there is none."""
    agreed = [
        terms.privacy.delta
        for envelope in stores.agreements.signed().values()
        for terms in Agreement.from_bytes(envelope.payload).datasets
        if terms.population == population
    ]
    own = stores.ledger.rules.caps.get(population)
    return min([*agreed, *([] if own is None else [own.delta])], key=Decimal, default=_DELTA)


@dataclass(frozen=True, slots=True)
class Passed:
    """One entry, and the filter's epsilon of its people (all that overlap) right after it."""

    entry: LedgerEntry
    epsilon: float
    delta: Dec


def passed(stores: Stores) -> list[Passed]:
    """Return every entry with what its people had spent by then, oldest first."""
    standing = stores.ledger.rules
    tallies: dict[tuple[Id, ...], Tally] = {}
    rules: dict[Id, RdpFilter] = {}
    found = []
    for entry, _ in stores.ledger.entries():
        population = entry.spend.population
        if population not in rules:
            cap = Cap(epsilon="0", delta=strictest_delta(stores, population))
            rules[population] = RdpFilter(cap, stores.ledger.orders)
        group = tuple(standing.group(population))
        tallies[group] = tallies.get(group, Tally.of([])) + Tally.of([entry.spend])
        rule = rules[population]
        found.append(Passed(entry, rule.epsilon(tallies[group]), rule.cap.delta))
    return found
