"""`accord-node budget`: what each dataset's people have spent, by the node's own ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accord_client.cli import budget_cap, budget_forecast, budget_history
from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit, table, verbs

if TYPE_CHECKING:
    from accord_client.balances import Balance
    from accord_client.stores import Stores

app = verbs("See what was spent on your people's privacy, what is left, and set your own cap.")


@app.command(epilog="Example: accord-node budget show --format json")
def show(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """Show every cap on each dataset's people: what is spent, reserved and left.

    Everything ever charged to a population counts, in all runs and agreements, also rounds that
    were aborted, and all populations that overlap it. `reserved` is what runs that were consented
    to may still charge. Epsilons of several caps or runs do not add up: together they cost less.
    """
    from accord_client.balances import balances
    from accord_client.stores import open_stores
    from accord_common.privacy import words

    with open_stores(open_home(home)) as stores:
        found = balances(stores, stores.datasets.all())
        entries = {
            one.dataset.population: stores.ledger.count(population=one.dataset.population)
            for one in found
        }
        rows = [_row(one, entries[one.dataset.population]) for one in found]
        people = _people(stores)
        head = stores.ledger.head
    shown = (
        "dataset",
        "title",
        "spent",
        "reserved",
        "left",
        "cap",
        "delta",
        "adjacency",
        "entries",
    )
    headers = ("dataset", "cap set by", *shown[2:])
    parts = [
        table(*headers, rows=[[row[key] for key in shown] for row in rows])
        if rows
        else "No agreement that was signed here names a dataset of this node."
    ]
    spent = [one for one in people if one["entries"]]
    if spent:
        keys = ("datasets", "filter", "fixed_plan", "delta", "adjacency", "with_overlaps")
        cells = [
            [", ".join(one["datasets"]), words.spent(one["filter"], one["non_private"])]
            + [one[key] for key in keys[2:]]
            for one in spent
        ]
        parts.append(
            "Spent so far, each population by itself. filter: what counts against caps, and holds\n"
            "whatever was chosen after seeing earlier results; fixed plan: tighter (PLD), holds\n"
            "where all was fixed beforehand; with overlaps: filter, all that may hold the same "
            "people.\n"
            + table(
                "population of", "filter", "fixed plan", *keys[3:5], "with overlaps", rows=cells
            )
        )
    if any(one["non_private"] for one in people):
        parts.append(words.NO_GUARANTEE)
    emit({"budgets": rows, "populations": people, "ledger_head": head}, format_, "\n\n".join(parts))


def _row(balance: Balance, entries: int) -> dict[str, Any]:
    from accord_common.privacy import words

    return {
        "dataset": balance.dataset.name,
        "dataset_id": balance.dataset.id,
        "population": balance.dataset.population,
        "agreement": balance.agreement,
        "title": balance.title,
        "spent": words.figure(balance.spent),
        "non_private": balance.before.non_private,
        "reserved": words.difference(balance.reserved),
        "left": words.difference(balance.left),
        "cap": balance.rule.cap.epsilon,
        "delta": balance.rule.cap.delta,
        "adjacency": balance.adjacency,
        "entries": entries,
    }


def _people(stores: Stores) -> list[dict[str, Any]]:
    """What each population has spent, by both accountants, at the strictest delta of its caps."""
    from accord_client.balances import strictest_delta
    from accord_common.privacy import words
    from accord_common.privacy.filter import Cap, RdpFilter
    from accord_common.privacy.report import fixed_plan_epsilon

    datasets = stores.datasets.all()
    found = []
    for population in sorted({one.population for one in datasets}):
        tally, delta = stores.ledger.tally(population), strictest_delta(stores, population)
        private = tally.private
        bound = RdpFilter(Cap(epsilon="0", delta=delta), stores.ledger.orders).epsilon(private)
        group = stores.ledger.group(population)
        found.append(
            {
                "population": population,
                "datasets": [one.name for one in datasets if one.population == population],
                "entries": stores.ledger.count(population=population),
                "filter": words.figure(bound),
                "fixed_plan": words.figure(fixed_plan_epsilon(private, delta)),
                "non_private": tally.non_private,
                "delta": delta,
                "adjacency": tally.adjacency,
                "overlaps": [one for one in group if one != population],
                "with_overlaps": words.figure(stores.ledger.epsilon(population, delta)),
            }
        )
    return found


# In the order of the group's help: a person looks first, and changes last.
app.command("history", epilog=budget_history.HISTORY_EXAMPLE)(budget_history.history)
app.command("forecast", epilog=budget_forecast.EXAMPLE)(budget_forecast.forecast)
app.command("verify", epilog=budget_history.VERIFY_EXAMPLE)(budget_history.verify)
app.command("export", epilog=budget_history.EXPORT_EXAMPLE)(budget_history.export)
app.command("cap", epilog=budget_cap.EXAMPLE)(budget_cap.set_cap)
