"""`accord model`: what runs have trained."""

from pathlib import Path
from typing import Annotated

import typer

from accord_common.api.finding import find_run
from accord_common.cli import Format, FormatOption, emit, table, verbs
from accord_common.errors import ConflictError, NotFoundError, UsageError
from accord_common.home import Home
from accord_server.cli.options import DEFAULT_HOME, HomeOption, size
from accord_server.coordinator import desk

app = verbs("List and download trained models.")


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


@app.command(epilog="Example: accord model download 0197a1b2 -o tumours.safetensors")
def download(
    run: Annotated[str, typer.Argument(help="Id, or its first or last characters.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new .safetensors file.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Fetch a run's model, verified from its result through every receipt to the agreement."""
    if out.suffix != ".safetensors" or out.exists():
        raise UsageError("bad-output", f"{out} exists, or does not end in .safetensors")
    from accord_server.coordinator.weights import Model

    with Home.open(home.expanduser()).registry() as client:
        verified = desk.verified_run(client, find_run(client, run))
        result = desk.verified_result(client, verified)
        if result is None:
            raise NotFoundError("no-result", f"run {verified.manifest.id} has no result yet")
        if result.result.model is None:
            raise ConflictError("no-model", f"run {verified.manifest.id} left no model")
        schema = desk.schema_of(client, verified.manifest.schema_hash)
        weights = client.get_blob(result.result.model)
        model = Model(verified.manifest, schema, client.get_blob)
    header = {
        "agreement": verified.agreement_hash,
        "manifest": verified.manifest_hash,
        "result": result.result_hash,
    }
    model.export(weights, out, header)
    answer = {"file": str(out), "model": result.result.model} | header
    text = (
        f"{out}: {size(out.stat().st_size)}, model {result.result.model}\n"
        f"verified down to agreement {verified.agreement_hash}"
    )
    emit(answer, format_, text)
