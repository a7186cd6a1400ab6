"""`accord model`: what runs have trained."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord_common.api.client import RegistryClient
from accord_common.api.finding import find_run
from accord_common.canonical import sha256_hex
from accord_common.chain import VerifiedResult, VerifiedRun
from accord_common.cli import Format, FormatOption, emit, table, verbs
from accord_common.errors import ConflictError, NotFoundError, UsageError
from accord_common.files import replace_file
from accord_common.home import Home
from accord_server.cli import model_text
from accord_server.cli.options import DEFAULT_HOME, HomeOption, size
from accord_server.coordinator import desk
from accord_server.coordinator.releasing import require_recipient

if TYPE_CHECKING:
    from accord_common.schema import Schema
    from accord_server.coordinator.weights import Model

app = verbs("List, trace, describe, download and export trained models.")

RunArgument = Annotated[str, typer.Argument(help="Id, or its first or last characters.")]


class ExportFormat(StrEnum):
    """For which software a model is written."""

    TORCH = "torch"
    ONNX = "onnx"


@app.command("list", epilog="Example: accord model list")
def list_(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """List the models of completed runs."""
    with Home.open(home.expanduser()).registry() as client:
        runs = [run for run in client.runs(state="completed") if run.model is not None]
    answer = [
        {
            "run": run.id,
            "title": run.title,
            "model": run.model,
            "rounds": run.round,
            "metrics": run.metrics,
            "created": run.updated,
        }
        for run in runs
    ]
    rows = [
        [
            run.id,
            run.title,
            run.model,
            ", ".join(f"{name} {value}" for name, value in run.metrics.items()),
        ]
        for run in runs
    ]
    emit(answer, format_, table("run", "title", "model", "metrics", rows=rows))


@app.command(epilog="Example: accord model lineage 0197a1b2")
def lineage(
    model: Annotated[
        str,
        typer.Argument(help="The run (id, first or last characters), or the model's hash."),
    ],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Tell where a model comes from: result, rounds, manifest, consents, data, agreement.

    Every signature and hash is verified here; exits with 5 where one does not hold. What it rests
    on is the agreement's hash: compare it with the one you signed.
    """
    from accord_common.api.tracing import trace

    with Home.open(home.expanduser()).registry() as client:
        found = trace(client, model).lineage
    emit(found, format_, model_text.lineage_text(found))


@app.command(epilog="Example: accord model card 0197a1b2 -o README.md")
def card(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new file: README.md beside it.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write a model card as Hugging Face reads it: use, results, privacy, lineage, limits.

    It says what somebody signed and nothing else; the same records give the same bytes. It names
    the institutions: whether it may be published, your agreement says.
    """
    if out.exists():
        raise UsageError("bad-output", f"{out} exists", hint="Name a new file, or remove it.")
    from accord_common.api.tracing import trace
    from accord_server.coordinator.card import model_card

    with Home.open(home.expanduser()).registry() as client:
        found = trace(client, run)
    replace_file(out, model_card(found).encode())
    answer = {"file": str(out), "model": found.lineage.model, "run": found.lineage.run}
    emit(answer, format_, f"{out}: card of model {found.lineage.model}")


@app.command(epilog="Example: accord model download 0197a1b2 -o tumours.safetensors")
def download(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new .safetensors file.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Fetch a run's model, verified from its result through every receipt to the agreement.

    It goes to the recipients that the agreement names.
    """
    if out.suffix != ".safetensors" or out.exists():
        raise UsageError(
            "bad-output",
            f"{out} exists, or does not end in .safetensors",
            hint="Name a new file: -o model.safetensors.",
        )
    model, weights, header, _ = _fetched(home, run)
    name = sha256_hex(weights)
    model.export(weights, out, header)
    answer = {"file": str(out), "model": name} | header
    text = (
        f"{out}: {size(out.stat().st_size)}, model {name}\n"
        f"verified down to agreement {header['agreement']}"
    )
    emit(answer, format_, text)


@app.command(epilog="Example: accord model export 0197a1b2 --format onnx -o tumours.onnx")
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new file.")],
    target: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="torch: a state_dict, tensors only, for torch.load(weights_only=True); onnx: "
            "graph and tensors, from `rows` to `logits` (needs the extra `export`).",
        ),
    ],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Write a run's whole model for other software, verified as for download.

    No file holds code; ONNX is run and compared before it counts. Adapters are merged into their
    layers. Answers one JSON object.
    """
    if out.exists():
        raise UsageError("bad-output", f"{out} exists", hint="Name a new file, or remove it.")
    from accord_common.models.inputs import inputs_of
    from accord_server.coordinator import exporting

    if target is ExportFormat.ONNX:
        exporting.require_onnx()
    model, weights, facts, schema = _fetched(home, run)
    if target is ExportFormat.TORCH:
        exporting.export_torch(model.whole(weights), out)
    else:
        header = model.header(weights, facts)
        exporting.export_onnx(model.whole(weights), inputs_of(schema), out, header)
    answer = {"file": str(out), "format": target.value, "model": sha256_hex(weights)} | facts
    emit(answer, Format.JSON)


def _fetched(home: Path, run: str) -> "tuple[Model, bytes, dict[str, str], Schema]":
    """A model that this party may have, its numbers, and the hashes that it rests on."""
    from accord_server.coordinator.weights import Model

    opened = Home.open(home.expanduser())
    with opened.registry() as client:
        verified, result, name = _released(client, run, opened.profile.party)
        schema = desk.schema_of(client, verified.manifest.schema_hash)
        weights = client.get_blob(name)
        model = Model(verified.manifest, schema, client.get_blob)
    facts = {
        "agreement": verified.agreement_hash,
        "manifest": verified.manifest_hash,
        "result": result.result_hash,
    }
    return model, weights, facts, schema


def _released(
    client: RegistryClient, text: str, party: str | None
) -> tuple[VerifiedRun, VerifiedResult, str]:
    """A run with its result and its model's hash, for a party that may have the model."""
    verified = desk.verified_run(client, find_run(client, text))
    result = desk.verified_result(client, verified)
    if result is None:
        raise NotFoundError(
            "no-result",
            f"run {verified.manifest.id} has no result yet",
            hint=f"accord run watch {verified.manifest.id}",
        )
    if result.result.model is None:
        raise ConflictError(
            "no-model",
            f"run {verified.manifest.id} left no model",
            hint=f"accord run show {verified.manifest.id} says why; accord model list has others.",
        )
    require_recipient(verified, party)
    return verified, result, result.result.model
