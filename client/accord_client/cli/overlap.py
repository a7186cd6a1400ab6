"""`accord-node dataset overlap`: the steward's word that two tables may hold the same people."""

from __future__ import annotations

from typing import Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit

EXAMPLE = "Example: accord-node dataset overlap tumours biopsies"


def overlap(
    one: Annotated[str, typer.Argument(help="A dataset's name or id.")],
    other: Annotated[str, typer.Argument(help="Another's, of another population.")],
    remove: Annotated[bool, typer.Option("--remove", help="Nobody is in both, after all.")] = False,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say that some people may be in both tables: what is charged to one then counts for both.

    It holds at once, against the caps of both, and through others: if A overlaps B and B overlaps
    C, all three share. The ledger keeps each change. Nobody else learns of it.
    """
    from accord_client.stores import open_stores
    from accord_common.errors import UsageError
    from accord_common.fields import now
    from accord_common.privacy.rules import OverlapRule

    with open_stores(open_home(home)) as stores:
        first, second = stores.datasets.find(one), stores.datasets.find(other)
        pair = sorted({first.population, second.population})
        if len(pair) != 2:
            raise UsageError(
                "same-population",
                f"{first.name} and {second.name} are of one population and share a budget already",
            )
        holds = tuple(pair) in stores.ledger.rules.overlaps
        if holds is remove:
            stores.ledger.rule(OverlapRule(type="overlap", populations=pair, holds=not remove), now)
        group = stores.ledger.group(first.population)
        names = [item.name for item in stores.datasets.all() if item.population in group]
    emit(
        {"populations": pair, "overlap": not remove, "group": group, "datasets": names},
        format_,
        f"{first.name} and {second.name} "
        + ("hold other people." if remove else "may hold the same people.")
        + f" One budget: {', '.join(names)}.",
    )
