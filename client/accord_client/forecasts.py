"""What a proposed run would cost a dataset's people, against every cap that it would be held to.

Guarantees: `fits` is the very question that each charge is asked, for all attempts at once, with
what other accepted runs may still charge set aside; nothing is written.

Not covered: what other processes charge in between.
"""

import math
from dataclasses import dataclass
from decimal import Decimal

from accord_client.balances import Balance, balances
from accord_client.consent import spend_for
from accord_client.datasets import LocalDataset
from accord_client.stores import Stores
from accord_common.agreement import Agreement
from accord_common.envelope import Envelope
from accord_common.errors import PolicyError, UsageError
from accord_common.fields import Adjacency, Dec
from accord_common.manifest import RunManifest
from accord_common.privacy.accounting import Tally, strictest
from accord_common.privacy.calibration import calibrate

MANY = 1_000_000  # rounds beyond which nobody counts


@dataclass(frozen=True, slots=True)
class Proposal:
    """What might be charged to a dataset's people: `one` round or attempt, `rounds` times.

    `agreement` and `run` are empty where no run stands behind it: then all caps are asked.
    """

    dataset: LocalDataset
    one: Tally
    rounds: int
    agreement: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A proposal against one cap.

    Attributes:
        adjacency: what the figures speak of.
        needs: what the filter's epsilon grows by.
        fits: whether all rounds do.
        rounds_that_fit: how many would, MANY at most.
    """

    balance: Balance
    adjacency: Adjacency
    needs: float
    fits: bool
    rounds_that_fit: int


def of_manifest(stores: Stores, envelope: Envelope) -> Proposal:
    """What those attempts of a run that were not charged yet would charge here.

    Raises:
        NotFoundError: `not-in-roster`, `unknown-dataset`.
        PolicyError: `agreement-not-signed`.
    """
    manifest = RunManifest.from_bytes(envelope.payload)
    site = manifest.site(stores.party)
    agreement = stores.agreements.signed().get(manifest.agreement)
    if agreement is None:
        raise PolicyError(
            "agreement-not-signed",
            f"the run stands on agreement {manifest.agreement[:16]}, which this node did not sign",
        )
    terms = Agreement.from_bytes(agreement.payload)
    spend = spend_for(terms, manifest, envelope.hash, stores.party, round_=0, attempt=0)
    return Proposal(
        dataset=stores.datasets.get(site.dataset),
        one=Tally.of([spend]),
        rounds=max(0, manifest.max_attempts_total - stores.ledger.count(run=envelope.hash)),
        agreement=manifest.agreement,
        run=manifest.id,
    )


def of_constants(
    stores: Stores,
    dataset: LocalDataset,
    sampling_rate: Dec,
    steps: int,
    rounds: int,
    noise_multiplier: Dec | None,
) -> Proposal:
    """A proposal by its figures; the least noise that fits every cap where none is given.

    Raises:
        PolicyError: `budget-too-small` where no noise is enough.
        UsageError: `no-cap`.
    """
    asked = _asked(stores, Proposal(dataset, Tally.of([]), 0))
    adjacency = _strictest(asked)
    if noise_multiplier is None:
        noise_multiplier = max(
            (
                calibrate(
                    *(balance.rule.cap.epsilon, balance.rule.cap.delta, sampling_rate),
                    *(steps * rounds, adjacency),
                    spent=balance.base.private if balance.rule.cap.non_private else balance.base,
                    orders=balance.rule.orders,
                )
                for balance in asked
            ),
            key=Decimal,
        )
    return Proposal(dataset, Tally(adjacency, ((noise_multiplier, sampling_rate, steps),)), rounds)


def foresee(stores: Stores, proposal: Proposal) -> list[Forecast]:
    """Ask every cap that the proposal would be held to.

    Raises:
        UsageError: `no-cap` where there is none: nothing could be charged at all.
    """
    return [_foresee(balance, proposal) for balance in _asked(stores, proposal)]


def _asked(stores: Stores, proposal: Proposal) -> list[Balance]:
    group = stores.ledger.group(proposal.dataset.population)
    people = [one for one in stores.datasets.all() if one.population in group]
    found = [
        balance
        for balance in balances(stores, people, but=proposal.run)
        if balance.agreement is None or proposal.agreement in ("", balance.agreement)
    ]
    if not any(balance.agreement for balance in found):
        raise UsageError(
            "no-cap",
            f"no agreement that was signed here names dataset {proposal.dataset.name!r}",
            hint="Without one nothing can be charged to it.",
        )
    return found


def _strictest(asked: list[Balance]) -> Adjacency:
    return strictest(balance.adjacency for balance in asked)


def _foresee(balance: Balance, proposal: Proposal) -> Forecast:
    def after(rounds: int) -> Tally:
        return balance.base + proposal.one.times(rounds)

    rule, whole = balance.rule, after(proposal.rounds)
    low, high = 0, 1
    while high <= MANY and rule.fits(after(high)):
        low, high = high, 2 * high
    high = min(high, MANY + 1)  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rule.fits(after(middle)) else (low, middle)
    grown = rule.epsilon(whole)
    return Forecast(
        balance,
        whole.adjacency,
        needs=grown - rule.epsilon(balance.base) if math.isfinite(grown) else math.inf,
        fits=proposal.rounds == 0 or rule.fits(whole),
        rounds_that_fit=low,
    )
