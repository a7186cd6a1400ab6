"""`accord-node budget cap`: the institution's own cap, tighter than what agreements allow."""

from __future__ import annotations

from typing import Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit, table

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
    from accord_client import own_caps
    from accord_client.stores import open_stores
    from accord_common.errors import UsageError

    if (epsilon is None and (delta is not None or non_private)) or (epsilon and remove):
        raise UsageError("bad-cap", "give --epsilon, with its options or without, or --remove")
    with open_stores(open_home(home)) as stores:
        local = stores.datasets.find(dataset)
        if remove:
            own_caps.put(stores, local, None)
        elif epsilon is not None:
            own_caps.put(stores, local, own_caps.cap_of(stores, local, epsilon, delta, non_private))
        made = own_caps.history(stores, local)
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
        "population": local.population,
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
