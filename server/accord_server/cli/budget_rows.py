"""How budgets are shown: columns for people; JSON and CSV have every field."""

from collections.abc import Mapping, Sequence

from accord_common.api.budget_schemas import BalanceRow, BudgetRow, CombinedRow, SpendRow
from accord_common.api.notebooks import Recomputed
from accord_common.api.schemas import AgreementView
from accord_common.cli import RowsFormat, emit_rows, table
from accord_common.errors import ConflictError, NotFoundError
from accord_common.privacy import words

_NOTHING = "Nothing was spent, and no open run may spend anything."
_LEGEND = (
    "\nreserved: what open runs that were accepted may still add. left: of the cap, after both."
)


def names(views: Sequence[AgreementView]) -> dict[str, str]:
    """Datasets' names by id, with their institution's."""
    return {
        dataset.id: f"{view.agreement.party(dataset.owner).name}/{dataset.name}"
        for view in views
        for dataset in view.agreement.datasets
    }


def find_dataset(known: Mapping[str, str], text: str) -> str:
    """Return a dataset's id by id, `institution/name`, or a name that only one has.

    Raises:
        NotFoundError: `unknown-dataset`.
        ConflictError: `ambiguous-dataset`.
    """
    found = [
        dataset
        for dataset, name in known.items()
        if text in {dataset, name, name.partition("/")[2]}
    ]
    if not found:
        raise NotFoundError(
            "unknown-dataset", f"no agreement names a dataset {text!r}", hint="accord budget show"
        )
    if len(found) > 1:
        raise ConflictError(
            "ambiguous-dataset",
            f"{len(found)} datasets are called {text!r}",
            hint=f"Say which: {', '.join(sorted(known[one] for one in found))}.",
        )
    return found[0]


def runs(rows: Sequence[BudgetRow], known: Mapping[str, str], format_: RowsFormat) -> None:
    """A row for each run and dataset."""
    cells = [
        [
            known.get(row.dataset, row.dataset),
            row.run,
            f"{row.attempts} of {row.most}",
            words.cost(row.epsilon),
            words.cost(row.reserved),
            "-" if row.told is None else words.cost(row.told_epsilon),
            row.cap,
            row.delta,
        ]
        for row in rows
    ]
    columns = ("dataset", "run", "attempts", "epsilon", "reserved", "result", "cap", "delta")
    legend = "\n\nresult: by the signed result (PLD, tighter than what counts against caps)."
    if any(row.non_private for row in rows):
        legend += f"\n{words.NO_GUARANTEE}"
    text = table(*columns, rows=cells) + legend if rows else _NOTHING
    added = [{"name": known.get(row.dataset, "")} for row in rows]
    emit_rows(BudgetRow, rows, format_, text, added)


def datasets(rows: Sequence[BalanceRow], format_: RowsFormat) -> None:
    """A row for each cap."""
    cells = [
        [
            f"{row.institution}/{row.name}",
            row.agreement[:16],
            row.status,
            row.cap,
            row.delta,
            words.cost(row.spent),
            words.cost(row.reserved),
            row.left,
            row.attempts,
        ]
        for row in rows
    ]
    columns = (
        *("dataset", "agreement", "status", "cap", "delta", "spent", "reserved", "left"),
        "attempts",
    )
    text = f"{table(*columns, rows=cells)}\n{_LEGEND}" if rows else "No agreement is fully signed."
    emit_rows(BalanceRow, rows, format_, text)


def combined(rows: Sequence[CombinedRow], format_: RowsFormat) -> None:
    """A row for each institution or agreement."""
    cells = [
        [
            row.name,
            row.id[:16] if len(row.id) == 64 else row.id,
            row.populations,
            row.attempts,
            words.cost(row.spent_greatest),
            words.cost(row.spent_sum),
            words.cost(row.reserved_greatest),
            words.cost(row.reserved_sum),
            row.left,
            row.delta_greatest,
            row.delta_sum,
        ]
        for row in rows
    ]
    columns = (
        *("name", "id", "populations", "attempts", "spent", "if all overlap"),
        *("reserved", "if all overlap", "left", "delta", "if all overlap"),
    )
    text = f"{table(*columns, rows=cells)}\n{_LEGEND}" if rows else _NOTHING
    emit_rows(CombinedRow, rows, format_, text)


def rounds(rows: Sequence[SpendRow], known: Mapping[str, str], format_: RowsFormat) -> None:
    """A row for each charged attempt."""
    cells = [
        [
            row.sequence,
            known.get(row.dataset, row.dataset),
            row.run,
            row.round,
            row.attempt,
            row.number,
            words.cost(row.epsilon),
            row.receipt[:16],
        ]
        for row in rows
    ]
    columns = ("record", "dataset", "run", "round", "attempt", "charged", "epsilon", "receipt")
    text = (
        f"{table(*columns, rows=cells)}\n\nepsilon: of the run on the dataset, after that attempt."
    )
    emit_rows(SpendRow, rows, format_, text if rows else _NOTHING)


def recomputed(
    rows: Sequence[Recomputed], known: Mapping[str, str], agreement: str, format_: RowsFormat
) -> None:
    """A row for each site of a run."""
    cells = [
        [
            known.get(row.dataset, row.dataset),
            row.attempts,
            words.cost(row.epsilon),
            words.cost(row.fixed_plan),
            words.cost(row.registry_epsilon),
            "-" if row.told is None else f"{words.cost(row.told_epsilon)} of {row.told}",
            "yes" if row.agrees else "NO",
        ]
        for row in rows
    ]
    columns = ("dataset", "attempts", "filter", "fixed plan", "registry", "result", "agrees")
    text = (
        f"under agreement {agreement}\n{table(*columns, rows=cells)}\n\n"
        "filter, which counts against caps, and fixed plan (PLD): computed here from signed events."
    )
    emit_rows(Recomputed, rows, format_, text)
