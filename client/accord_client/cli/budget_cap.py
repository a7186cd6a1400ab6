"""`accord-node budget cap`: the institution's own cap, tighter than what agreements allow."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit, table

if TYPE_CHECKING:
    from accord_client.datasets import LocalDataset
    from accord_client.stores import Stores
    from accord_common.privacy.filter import Cap

EXAMPLE = "Example: accord-node budget cap tumours --epsilon 2"


def set_cap(
    dataset: Annotated[str, typer.Argument(help="The dataset's name or id.")],
    epsilon: Annotated[
        str | None, typer.Option(help="The most its people may ever spend, all runs together.")
    ] = None,
    delta: Annotated[
        str | None,
        typer.Option(help="Below 1/N; the strictest of its agreements' where it is left out."),
    ] = None,
    non_private: Annotated[
        bool,
        typer.Option(
            "--non-private", help="Permit releases without privacy, where an agreement does."
        ),
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Agreements' caps alone hold.")] = False,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Set, raise, lower or remove your own cap on a dataset's people; or show every one there was.

    It holds at once, for every later consent and charge, beside the caps of all agreements. Without
    --non-private nothing fits beside a release without privacy, an earlier one too. The ledger
    keeps each change, signed and with its time. Nobody else learns of it.
    """
    from accord_client.stores import open_stores
    from accord_common.errors import UsageError
    from accord_common.fields import now
    from accord_common.privacy.rules import CapRule

    if (epsilon is None and (delta is not None or non_private)) or (epsilon and remove):
        raise UsageError("bad-cap", "give --epsilon, with its options or without, or --remove")
    with open_stores(open_home(home)) as stores:
        local = stores.datasets.find(dataset)
        population = local.population
        before = stores.ledger.rules.caps.get(population)
        after = None if epsilon is None else _cap(stores, local, epsilon, delta, non_private)
        if remove and before is None:
            raise UsageError("no-cap", f"{local.name} has no cap of its own")
        if (remove or after is not None) and after != before:
            rule = CapRule(type="cap", population=population, cap=after)
            stores.ledger.rule(rule, now)
        made = [
            (record, record.rule.cap)
            for record, _ in stores.ledger.rulings()
            if isinstance(record.rule, CapRule) and record.rule.population == population
        ]
    history = [
        {
            "recorded": record.recorded,
            "entries": record.entries,
            "cap": None if cap is None else cap.model_dump(exclude={"adjacency"}),
        }
        for record, cap in made
    ]
    answer = {
        "dataset": local.name,
        "population": population,
        "cap": history[-1]["cap"] if history else None,
        "history": history,
    }
    rows = [
        (
            record.recorded,
            record.entries,
            *(("none", "") if cap is None else (cap.epsilon, cap.delta)),
        )
        for record, cap in made
    ]
    emit(
        answer,
        format_,
        table("since", "entries before", "own cap", "delta", rows=rows)
        if rows
        else f"{local.name} has no cap of its own: agreements' caps hold.",
    )


def _cap(
    stores: Stores, dataset: LocalDataset, epsilon: str, delta: str | None, non_private: bool
) -> Cap:
    from fractions import Fraction

    from pydantic import ValidationError

    from accord_client.balances import strictest_delta
    from accord_common.errors import UsageError
    from accord_common.fields import to_decimal
    from accord_common.privacy.filter import Cap

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
