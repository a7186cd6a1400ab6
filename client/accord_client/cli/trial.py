"""`accord-node try`: a local dry run, before anybody asks for anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord_client.cli.options import DEFAULT_HOME, DeviceOption, HomeOption, open_home
from accord_client.devices import DeviceChoice, find_device
from accord_common.cli import Format, FormatOption, emit, note

if TYPE_CHECKING:
    from accord_common.manifest import Lora

EXAMPLE = (
    "Example: accord-node try tabular-binary --dataset tumours --architecture mlp "
    "--args '{\"hidden\": [32]}'"
)


def try_(
    task: Annotated[str, typer.Argument(help="An installed task.")],
    dataset: Annotated[str, typer.Option(help="A dataset registered here.")],
    architecture: Annotated[str, typer.Option(help="The model.")] = "logistic-regression",
    args: Annotated[str, typer.Option(help="Its arguments, a JSON object.")] = "{}",
    steps: Annotated[int, typer.Option(min=1, help="Batches a round.")] = 20,
    sampling_rate: Annotated[str, typer.Option(help="Chance of each row in a batch.")] = "0.1",
    freeze: Annotated[
        list[str] | None, typer.Option(help="A layer that stays; may be repeated.")
    ] = None,
    lora: Annotated[
        str | None,
        typer.Option(help='Adapters, a JSON object: {"rank": 8, "layers": ["0"]}.'),
    ] = None,
    device: DeviceOption = DeviceChoice.CPU,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Train a round here and throw it away: how long it takes, how much memory it needs.

    No network, nothing charged, nothing leaves. The figures are for you: they depend on your rows.
    """
    from dataclasses import asdict

    from accord_client.data.rows import open_rows
    from accord_client.datasets import Datasets
    from accord_client.training.dry_run import dry_run
    from accord_client.training.train import LocalPlan
    from accord_common.models.discovery import load_task, task_code

    datasets = Datasets.of(open_home(home).path)
    table = datasets.find(dataset)
    arguments, adapters = json_arguments(args), _lora(lora)
    loaded, code = load_task(task), task_code(task)
    note(f"Reading {table.source.place} ...")
    table.check_unchanged()
    encoded = open_rows(table, datasets.opt_outs(table).read()).train
    plan = LocalPlan(
        steps=steps,
        sampling_rate=sampling_rate,
        population=table.size,
        clipping_norm="1",
        noise_multiplier="1",
        learning_rate="0.1",
    )
    note("Training ...")
    tried = dry_run(
        loaded,
        architecture,
        arguments,
        table.table,
        encoded,
        plan,
        frozen=freeze or (),
        lora=adapters,
        device=find_device(device),
    )
    emit(
        {"task": task, "distribution": code.distribution, "version": code.version, **asdict(tried)},
        format_,
        f"{task} ({code.distribution} {code.version}) on {table.name}: {tried.rows} rows, "
        f"{tried.features} features\n"
        f"{architecture}: {tried.dimension} numbers are trained, {tried.batch:.1f} rows in a batch "
        "on average\n"
        f"a round of {steps} steps: {tried.seconds_per_round:.2f} s, plus masking and transport\n"
        f"memory: {tried.peak_memory_bytes / 2**20:.0f} MiB at the peak",
    )


def _lora(text: str | None) -> Lora | None:
    from pydantic import ValidationError

    from accord_common.errors import UsageError
    from accord_common.manifest import Lora

    if text is None:
        return None
    try:
        return Lora.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            "bad-arguments",
            f"--lora: {'.'.join(map(str, first['loc']))} {first['input']!r}: {first['msg']}",
            hint='For example {"rank": 8, "layers": ["0"]}',
        ) from error


def json_arguments(text: str) -> dict[str, Any]:
    """Read a model's arguments, a JSON object: UsageError `bad-arguments`."""
    from accord_common.errors import UsageError

    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError("bad-arguments", f"--args is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(
            "bad-arguments", "--args is no JSON object", hint='For example {"hidden": [32]}'
        )
    return value
