"""`accord-node check`: everything that a run will need, one line each."""

from __future__ import annotations

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit

EXAMPLE = "Example: accord-node check && accord-node start"


def check(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """Check registry, clock, token, delegation, ledger, outbox, datasets and aggregators.

    Exits with 0 where all is well, else with 1; each failure comes with what to do.
    """
    from accord_client.health import examine

    results = list(examine(open_home(home)))
    lines = []
    for result in results:
        lines.append(f"{'ok' if result.ok else 'failed':<7} {result.name:<12} {result.detail}")
        if result.remedy:
            lines.append(f"{'':<20} {result.remedy}")
    ok = all(result.ok for result in results)
    emit(
        {"ok": ok, "checks": [result.__dict__ for result in results]},
        format_,
        "\n".join(lines),
    )
    if not ok:
        raise typer.Exit(1)
