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
    from accord_common.privacy import words
    from accord_common.privacy.accounting import decimal_up

    rows: list[dict[str, Any]] = []
    with open_stores(open_home(home)) as stores:
        agreed = [
            (hash_, Agreement.from_bytes(envelope.payload))
            for hash_, envelope in stores.agreements.signed().items()
        ]
        for dataset in stores.datasets.all():
            entries = len(stores.ledger.entries(population=dataset.population))
            non_private = stores.ledger.tally(dataset.population).non_private
            for hash_, agreement in agreed:
                for terms in agreement.datasets:
                    if terms.id != dataset.id:
                        continue
                    spent = stores.ledger.epsilon(dataset.population, terms.privacy.delta)
                    left = max(0.0, float(terms.privacy.epsilon_cap) - spent)
                    if non_private and not terms.privacy.non_private:
                        left = 0.0  # nothing fits a cap on all that was ever released
                    rows.append(
                        {
                            "dataset": dataset.name,
                            "dataset_id": dataset.id,
                            "population": dataset.population,
                            "agreement": hash_,
                            "title": agreement.title,
                            "spent": decimal_up(spent),
                            "non_private": non_private,
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
    cells = [row | {"spent": words.spent(row["spent"], row["non_private"])} for row in rows]
    legend = f"\n\n{words.NO_GUARANTEE}" if any(row["non_private"] for row in rows) else ""
    emit(
        {"budgets": rows, "ledger_head": head},
        format_,
        table(*headers, rows=[[row[key] for key in shown] for row in cells]) + legend
        if rows
        else "No agreement that was signed here names a dataset of this node.",
    )
