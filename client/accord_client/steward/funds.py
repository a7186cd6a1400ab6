"""Each dataset's budget as its steward reads it: every cap, the tightest, and its last day.

Guarantees: figures come from the ledger file, by the filter that charges are held to, rounded away
from flattery. An own cap stands beside those of agreements: `left` of the tightest is what is left.
"""

from dataclasses import dataclass
from datetime import datetime

from accord_client import own_caps
from accord_client.balances import Balance, Passed, balances, strictest_delta
from accord_client.datasets import LocalDataset
from accord_client.deciding import own_agreement
from accord_client.stores import Stores
from accord_common.fields import parse_time
from accord_common.permissions import guessed_right
from accord_common.privacy.accounting import Tally
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.pace import WINDOW, Pace, pace
from accord_common.privacy.rules import LedgerRule


@dataclass(frozen=True, slots=True)
class Held:
    """One cap; `over` where its agreement has ended, which leaves what was spent spent."""

    balance: Balance
    over: bool
    pace: Pace


@dataclass(frozen=True, slots=True)
class Fund:
    """One dataset; `tightest` is None where no agreement in force names it."""

    dataset: LocalDataset
    held: list[Held]
    tightest: Held | None
    own: Cap | None

    @property
    def guess(self) -> float | None:
        """How often in 100 a guess about one person is right at most, after what was spent."""
        return guessed_right(self.tightest.balance.spent) if self.tightest else None

    @property
    def guess_at_cap(self) -> float | None:
        """The same, once all that the tightest cap allows was spent."""
        return (
            guessed_right(float(self.tightest.balance.rule.cap.epsilon)) if self.tightest else None
        )


@dataclass(frozen=True, slots=True)
class Account:
    """One dataset with its newest charges, newest first, and every own cap that it had."""

    fund: Fund
    newest: list[Passed]
    runs: dict[str, str]
    history: list[tuple[LedgerRule, Cap | None]]


def funds(stores: Stores, now: datetime) -> list[Fund]:
    """Every dataset's, by name."""
    found = stores.datasets.all()
    return [fund(stores, one, now) for one in sorted(found, key=lambda one: one.name)]


def fund(stores: Stores, dataset: LocalDataset, now: datetime) -> Fund:
    """One dataset's."""
    group = stores.ledger.group(dataset.population)
    first = stores.ledger.first(group)
    begun = None if first is None else parse_time(first.recorded)
    earlier = stores.ledger.tally_before(group, now - WINDOW)
    held = [
        Held(
            balance,
            balance.agreement is not None
            and own_agreement(stores, balance.agreement, now)[1] is not None,
            _pace(balance, begun, earlier, now),
        )
        for balance in balances(stores, [dataset])
    ]
    standing = [one for one in held if not one.over]
    agreed = any(one.balance.agreement for one in standing)
    tightest = min(standing, key=lambda one: one.balance.left) if agreed else None
    own = stores.ledger.rules.caps.get(dataset.population)
    return Fund(dataset, held, tightest, own)


def _pace(balance: Balance, first: datetime | None, earlier: Tally, now: datetime) -> Pace:
    before = balance.rule.epsilon(Tally(balance.adjacency, ()) + earlier)
    return pace(balance.spent, before, balance.left, first, now)


def account(stores: Stores, dataset: LocalDataset, newest: int, now: datetime) -> Account:
    """One dataset with its history.

    Args:
        stores: the node's open folder.
        dataset: which.
        newest: how many charges.
        now: the node's clock.
    """
    group = stores.ledger.group(dataset.population)
    entries = stores.ledger.newest(group, newest)
    delta = strictest_delta(stores, dataset.population)
    rule = RdpFilter(Cap(epsilon="0", delta=delta), stores.ledger.orders)
    shown = []
    spent = Tally.of([])
    if entries:
        spent = stores.ledger.tally_until(group, entries[0].sequence)
    for entry in entries:
        spent += Tally.of([entry.spend])
        shown.append(Passed(entry, rule.epsilon(spent), delta))
    return Account(
        fund(stores, dataset, now),
        shown[::-1],
        {run.manifest: run.title for run in stores.state.runs()},
        own_caps.history(stores, dataset),
    )
