"""`accord-node evaluate`: how good a model is here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_client.cli.trial import json_arguments
from accord_common.cli import Format, FormatOption, emit, note, table
from accord_common.errors import UsageError

if TYPE_CHECKING:
    from accord_client.evaluating import Candidate, Evaluated
    from accord_common.home import Home
    from accord_common.schema import Schema

EXAMPLE = "Example: accord-node evaluate tumours.safetensors --dataset tumours"

_LEGEND = (
    "In brackets: 95 %, over the choice of validation rows. Nothing left and nothing was charged.\n"
    "Figures depend on your rows: keep them here."
)
_UNVERIFIED = (
    "NOT VERIFIED: no record says whose model this is, or which rows it was trained on; on rows\n"
    "that it has seen, figures are too good."
)


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A file of `accord model download`, or an ended run.")
    ],
    dataset: Annotated[str, typer.Option(help="A dataset registered here.")],
    task: Annotated[str, typer.Option(help="With --architecture: the file's task.")] = "",
    architecture: Annotated[
        str, typer.Option(help="Score a file of no run of yours, unverified, as this model.")
    ] = "",
    args: Annotated[str, typer.Option(help="Its arguments, a JSON object.")] = "{}",
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Score a model on your own validation rows, with intervals; the result stays here.

    Needs rows that were kept from training (dataset add --validation). The model must be that of a
    run under an agreement that you signed, by its signed result; a file from elsewhere is scored
    only where --task and --architecture name what it is.
    """
    from dataclasses import asdict

    from accord_client import evaluating
    from accord_client.datasets import Datasets

    if bool(task) != bool(architecture):
        raise UsageError("bad-architecture", "--task and --architecture go together: name both")
    opened = open_home(home)
    datasets = Datasets.of(opened.path)
    found = datasets.find(dataset)
    if architecture:
        file, arguments = Path(model).expanduser(), json_arguments(args)
        candidate = evaluating.of_file(file, found.table, task, architecture, arguments)
    else:
        candidate = _of_run(opened, found.table, model)
    note("Scoring ...")
    answer = evaluating.evaluate(datasets, found, candidate)
    emit(asdict(answer), format_, _text(answer))


def _of_run(opened: Home, schema: Schema, model: str) -> Candidate:
    from accord_client import evaluating
    from accord_client.stores import open_stores

    note("Fetching and verifying ...")
    with open_stores(opened) as stores, opened.registry() as registry:
        return evaluating.of_run(stores, registry, schema, model)


def _text(found: Evaluated) -> str:
    rows = [
        [name, f"{figure.value:.4f}", f"[{figure.low:.3f}, {figure.high:.3f}]"]
        for name, figure in found.metrics.items()
    ]
    whose = f"model {found.model} of run {found.run}, verified" if found.verified else _UNVERIFIED
    return "\n".join(
        [
            f"{found.dataset}: {found.validation_rows} rows kept for validation",
            whose,
            "",
            table("metric", "value", "95 %", rows=rows),
            "",
            _LEGEND,
        ]
    )
