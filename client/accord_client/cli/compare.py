"""`accord-node compare`: what privacy cost here, and whether joining paid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit, note, table

if TYPE_CHECKING:
    from accord_client.comparing import Comparison
    from accord_client.training.comparison import Figure

EXAMPLE = "Example: accord-node compare 0192f0c1-... 0192f0d7-... --repeats 10"

_QUESTIONS = {"privacy": "what privacy cost", "joining": "what joining gave"}
_LEGEND = (
    "In brackets: 95 %, over the choice of validation rows and of local trainings; * where that\n"
    "leaves 0 out. Nothing was released, so nothing was charged. Figures and local models depend\n"
    "on your rows: keep them here."
)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Ended runs on one dataset: ids, or their first or last characters."),
    ],
    repeats: Annotated[
        int, typer.Option(min=1, max=100, help="How often each local model is trained.")
    ] = 5,
    private: Annotated[
        bool, typer.Option("--private", help="Also train alone with each private run's noise.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Compare runs with each other, and with training alone, on your own validation rows.

    Needs rows that were kept from training (dataset add --validation). Local models have the runs'
    architecture, start, steps and rounds. Nothing leaves and nothing is charged.
    """
    from dataclasses import asdict

    from accord_client import comparing
    from accord_client.ended_runs import fetch_ended
    from accord_client.stores import open_stores

    opened = open_home(home)
    with open_stores(opened) as stores, opened.registry() as registry:
        note("Fetching and verifying ...")
        ended = [fetch_ended(stores, registry, run) for run in runs]
        found = comparing.compare(stores, ended, repeats=repeats, private=private, report=note)
    emit(asdict(found), format_, _text(found))


def _text(found: Comparison) -> str:
    names = list(found.models[0].metrics)
    numbers = {model.name: str(number) for number, model in enumerate(found.models, 1)}
    models = [
        [
            numbers[model.name],
            model.name,
            str(model.trainings),
            *_cells(model.metrics, names, sign=False),
        ]
        for model in found.models
    ]
    differences = [
        [
            _QUESTIONS[item.question],
            f"{numbers[item.model]} less {numbers[item.other]}",
            *_cells(item.metrics, names, sign=True),
        ]
        for item in found.differences
    ]
    return "\n".join(
        [
            f"{found.dataset}: {found.training_rows} rows to train on, {found.validation_rows} "
            "kept for validation",
            "",
            table("", "model", "trainings", *names, rows=models),
            "",
            table("question", "models", *names, rows=differences),
            "",
            _LEGEND,
        ]
    )


def _cells(metrics: dict[str, Figure], names: Sequence[str], *, sign: bool) -> list[str]:
    """A figure in each cell; differences have signs, and a mark where they are no chance."""
    form = "+" if sign else ""
    cells = []
    for name in names:
        figure = metrics[name]
        interval = f"[{figure.low:{form}.3f}, {figure.high:{form}.3f}]"
        mark = " *" if sign and figure.clear else ""
        cells.append(f"{figure.value:{form}.4f} {interval}{mark}")
    return cells
