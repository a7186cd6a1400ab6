"""`accord-node budget`: what each dataset's people have spent, by the node's own ledger."""

from __future__ import annotations

from typing import Any

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit, table

EXAMPLE = "Example: accord-node budget --format json"


def budget(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """Show spent, cap and what is left for each dataset and agreement.

    Everything ever charged to a population counts, in all runs and agreements, also rounds that
    were aborted. Epsilon does not add up: what is left says how far the filter is from the cap.
    """
    from accord_client.stores import open_stores
    from accord_common.agreement import Agreement
    from accord_common.privacy.accounting import decimal_up

    rows: list[dict[str, Any]] = []
    with open_stores(open_home(home)) as stores:
        agreed = [
            (hash_, Agreement.from_bytes(envelope.payload))
            for hash_, envelope in stores.agreements.signed().items()
        ]
        for dataset in stores.datasets.all():
            entries = len(stores.ledger.entries(population=dataset.population))
            for hash_, agreement in agreed:
                for terms in agreement.datasets:
                    if terms.id != dataset.id:
                        continue
                    spent = stores.ledger.epsilon(dataset.population, terms.privacy.delta)
                    left = max(0.0, float(terms.privacy.epsilon_cap) - spent)
                    rows.append(
                        {
                            "dataset": dataset.name,
                            "dataset_id": dataset.id,
                            "population": dataset.population,
                            "agreement": hash_,
                            "title": agreement.title,
                            "spent": decimal_up(spent),
                            "cap": terms.privacy.epsilon_cap,
                            "left": f"{left:.4f}",
                            "delta": terms.privacy.delta,
                            "adjacency": terms.privacy.adjacency,
                            "entries": entries,
                        }
                    )
        head = stores.ledger.head
    headers = ("dataset", "agreement", "spent", "cap", "left", "delta", "entries")
    shown = ("dataset", "title", "spent", "cap", "left", "delta", "entries")
    emit(
        {"budgets": rows, "ledger_head": head},
        format_,
        table(*headers, rows=[[row[key] for key in shown] for row in rows])
        if rows
        else "No agreement that was signed here names a dataset of this node.",
    )
