"""`accord-node budget history`, `verify` and `export`: the ledger itself, entry by entry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit, table

if TYPE_CHECKING:
    from accord_client.balances import Passed

HISTORY_EXAMPLE = "Example: accord-node budget history --dataset tumours --limit 50"
VERIFY_EXAMPLE = "Example: accord-node budget verify"
EXPORT_EXAMPLE = "Example: accord-node budget export ledger.jsonl"


def history(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset: name or id.")] = None,
    run: Annotated[
        str | None, typer.Option(help="Only this run: id, or its first or last characters.")
    ] = None,
    oldest_first: Annotated[
        bool, typer.Option("--oldest-first", help="Else newest first.")
    ] = False,
    start: Annotated[
        int | None, typer.Option("--from", min=0, help="Begin at this entry and go on from there.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many entries.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List charges: run, round, attempt, mechanism, and what the people had spent after each.

    Entries, rounds and attempts count from 0, as in the ledger. `epsilon after` counts against caps
    (filter), over all that may hold the same people, at the strictest delta of their caps.
    """
    from accord_client.balances import passed
    from accord_client.stores import open_stores

    with open_stores(open_home(home)) as stores:
        wanted = None if dataset is None else stores.datasets.find(dataset).id
        names = {one.id: one.name for one in stores.datasets.all()}
        known = {one.manifest: one.id for one in stores.state.runs()}
        found = [
            one
            for one in passed(stores)
            if wanted in (None, one.entry.spend.dataset)
            and (run is None or _named(run, one.entry.spend.run, known))
        ]
        if not oldest_first:
            found.reverse()
        if start is not None:
            found = [
                one
                for one in found
                if (one.entry.sequence >= start if oldest_first else one.entry.sequence <= start)
            ]
        shown, ahead = found[:limit], found[limit:]
        rows = [_row(one, names, known) for one in shown]
    following = ahead[0].entry.sequence if ahead else None
    keys = (
        *("entry", "recorded", "name", "run", "round", "attempt", "noise_multiplier"),
        *("sampling_rate", "steps", "adjacency", "epsilon", "delta"),
    )
    headers = (
        *keys[:2],
        "dataset",
        *keys[3:6],
        "noise",
        "rate",
        *keys[8:10],
        "epsilon after",
        "delta",
    )
    text = table(*headers, rows=[[row[key] for key in keys] for row in rows])
    if following is not None:
        text += f"\n{len(ahead)} more: --from {following}"
    none = "Nothing was charged."
    emit({"entries": rows, "next": following}, format_, text if rows else none)


def verify(
    key: Annotated[
        list[str] | None,
        typer.Option(help="A public key that this node had before; may be repeated."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Walk the whole ledger: signatures, chain, file, sums. Exit 5 names the first that fails.

    A missing end does not show in the chain: the node compares with its receipts when it starts.
    """
    from accord_client.stores import open_stores

    with open_stores(open_home(home)) as stores:
        head = stores.ledger.verify({*stores.keys, *(key or [])})
        entries, rules = stores.ledger.length, len(stores.ledger.rulings())
    emit(
        {"entries": entries, "rules": rules, "head": head, "ok": True},
        format_,
        f"{entries} entries and {rules} of the steward's rules hold.\nhead {head}",
    )


def export(
    file: Annotated[Path, typer.Argument(help="Where to; an existing file is not replaced.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write every signed entry and rule to a file that an auditor can check without this node.

    It tells whoever has it all that was charged, and your own caps. They run:
    accord budget verify FILE
    """
    from accord_client.stores import open_stores
    from accord_common.errors import UsageError
    from accord_common.files import replacing
    from accord_common.privacy.audit import write_export

    opened = open_home(home)
    with open_stores(opened) as stores:
        head = stores.ledger.verify(stores.keys)
        if file.exists():
            raise UsageError("file-exists", f"{file} exists", hint="Name another file.")
        rules = [envelope for _, envelope in stores.ledger.rulings()]
        entries = [envelope for _, envelope in stores.ledger.entries()]
        with replacing(file) as target:
            target.writelines(
                write_export(stores.ledger.header, opened.delegations(), [*rules, *entries])
            )
    emit(
        {"file": str(file), "entries": len(entries), "rules": len(rules), "head": head},
        format_,
        f"{file}: {len(entries)} entries, {len(rules)} rules, head {head}",
    )


def _named(run: str, manifest: str, known: dict[str, str]) -> bool:
    """Whether a person may mean this run, by its id or its manifest's hash."""
    names = (manifest, known.get(manifest, manifest))
    return any(name.startswith(run) or name.endswith(run) for name in names)


def _row(passed: Passed, names: dict[str, str], runs: dict[str, str]) -> dict[str, Any]:
    from accord_common.privacy.words import figure

    entry, spend = passed.entry, passed.entry.spend
    return {
        "entry": entry.sequence,
        "recorded": entry.recorded,
        "name": names.get(spend.dataset, spend.dataset),
        **spend.model_dump(),
        "manifest": spend.run,
        "run": runs.get(spend.run, spend.run[:16]),
        "epsilon": figure(passed.epsilon),
        "delta": passed.delta,
    }
