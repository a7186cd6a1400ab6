"""The steward's own cap on a dataset's people: console and page both.

Guarantees: a cap is a rule in the ledger, signed and chained; every later check and charge, of any
process, is held to it beside the caps of all agreements, so the tightest of them holds and none
widens another. Without `non_private` nothing fits beside a release without privacy.
"""

from decimal import Decimal, InvalidOperation
from fractions import Fraction

from pydantic import ValidationError

from accord_client.balances import strictest_delta
from accord_client.datasets import LocalDataset
from accord_client.stores import Stores
from accord_common.errors import UsageError
from accord_common.fields import now, to_decimal
from accord_common.privacy.filter import Cap
from accord_common.privacy.rules import CapRule, LedgerRule


def cap_of(
    stores: Stores, dataset: LocalDataset, epsilon: str, delta: str | None, non_private: bool
) -> Cap:
    """Read a person's figures; the strictest delta of the agreements' where none is given.

    Raises:
        UsageError: `bad-cap`.
    """
    if delta is None:
        delta = strictest_delta(stores, dataset.population)
    try:
        cap = Cap(
            epsilon=to_decimal(Decimal(epsilon)),
            delta=to_decimal(Decimal(delta)),
            non_private=non_private,
        )
    except (InvalidOperation, ValidationError, ValueError) as error:
        raise UsageError(
            "bad-cap",
            f"epsilon {epsilon}, delta {delta}: epsilon is a number from 0, delta lies between 0 "
            "and 1",
        ) from error
    if Fraction(cap.delta) * dataset.size >= 1:
        raise UsageError(
            "bad-cap",
            f"delta {cap.delta} must be below 1/{dataset.size}, the public size of {dataset.name}",
            hint="At 1/N a mechanism may publish one whole row.",
        )
    return cap


def put(stores: Stores, dataset: LocalDataset, cap: Cap | None) -> None:
    """Put a cap in force, or remove it; one that is in force already makes no new rule.

    Raises:
        UsageError: `no-cap` where there is none to remove.
    """
    before = stores.ledger.rules.caps.get(dataset.population)
    if cap is None and before is None:
        raise UsageError("no-cap", f"{dataset.name} has no cap of its own")
    if cap != before:
        stores.ledger.rule(CapRule(type="cap", population=dataset.population, cap=cap), now)


def history(stores: Stores, dataset: LocalDataset) -> list[tuple[LedgerRule, Cap | None]]:
    """Every cap there was on a dataset's people, oldest first; None where one was removed."""
    return [
        (record, record.rule.cap)
        for record, _ in stores.ledger.rulings()
        if isinstance(record.rule, CapRule) and record.rule.population == dataset.population
    ]
