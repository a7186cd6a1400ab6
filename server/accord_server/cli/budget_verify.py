"""`accord budget verify`: an institution's exported ledger, checked without its node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord_common.cli import Format, FormatOption, emit, table
from accord_server.cli.options import DEFAULT_HOME, HomeOption

if TYPE_CHECKING:
    from accord_common.privacy.audit import Exported

EXAMPLE = "Example: accord budget verify ledger.jsonl"


def verify(
    file: Annotated[Path, typer.Argument(help="What accord-node budget export wrote.")],
    delta: Annotated[str, typer.Option(help="At which delta to compute epsilon.")] = "0.00001",
    receipts: Annotated[
        bool, typer.Option("--receipts", help="Also ask the registry for newer entries.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Check an institution's exported ledger: signatures, chain, epsilon from its events.

    Exit 5 names the first entry that does not hold. Compare the identity key that is printed with
    the institution's. A missing end shows only beside the receipts that its node has posted.
    """
    from accord_common.privacy.audit import check_receipts, lines_of, read_export
    from accord_server.coordinator.desk import receipt_envelopes

    at = _delta(delta)
    with file.open("rb") as opened:
        exported = read_export(lines_of(opened))
    compared = None
    if receipts:
        from accord_common.home import Home

        with Home.open(home.expanduser()).registry() as client:
            compared = check_receipts(exported, receipt_envelopes(client))
    populations = [_population(exported, one, at) for one in exported.populations]
    answer = {
        "ledger": exported.ledger,
        "party": exported.party,
        "identity_key": exported.identity,
        "entries": len(exported.entries),
        "head": exported.head,
        "receipts": compared,
        "populations": populations,
    }
    keys = ("population", "entries", "filter", "fixed_plan", "with_overlaps", "adjacency", "delta")
    headers = [key.replace("_", " ") for key in keys]
    parts = [
        f"ledger {exported.ledger} of party {exported.party}",
        f"identity key {exported.identity}",
        f"{len(exported.entries)} entries hold; head {exported.head}",
        "not compared with receipts at the registry: --receipts"
        if compared is None
        else f"{compared} receipts at the registry name entries that are all in it",
        table(*headers, rows=[[one[key] for key in keys] for one in populations]),
    ]
    emit(answer, format_, "\n".join(parts))


def _population(exported: Exported, population: str, delta: str) -> dict[str, Any]:
    from accord_common.privacy import words
    from accord_common.privacy.report import fixed_plan_epsilon

    tally = exported.tally(population)
    return {
        "population": population,
        "entries": sum(entry.spend.population == population for entry in exported.entries),
        "filter": words.figure(exported.epsilon(population, delta)),
        "fixed_plan": words.figure(fixed_plan_epsilon(tally, delta)),
        "with_overlaps": words.figure(exported.epsilon(population, delta, overlapping=True)),
        "adjacency": tally.adjacency,
        "delta": delta,
    }


def _delta(text: str) -> str:
    from decimal import Decimal, InvalidOperation

    from accord_common.errors import UsageError
    from accord_common.fields import to_decimal

    try:
        delta = to_decimal(Decimal(text))
    except (InvalidOperation, ValueError):
        delta = "0"
    if not 0 < Decimal(delta) < 1:
        raise UsageError(
            "bad-delta",
            f"--delta {text} does not lie between 0 and 1",
            hint="Give the delta that the agreement names for the dataset, such as 0.00001.",
        )
    return delta
