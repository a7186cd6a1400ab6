"""`accord-node dataset`: register tables; rows never leave, what is registered is public."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord_client.cli import catalogue, deidentify, opt_out, overlap
from accord_client.cli.deidentify import AllowOption, reasons
from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_client.cli.source import (
    PasswordEnvOption,
    PasswordFileOption,
    QueryOption,
    SqlOption,
    required,
    source_of,
)
from accord_common.cli import Format, FormatOption, emit, note, table, verbs

if TYPE_CHECKING:
    from accord_client.datasets import Datasets, LocalDataset
    from accord_common.errors import AccordError
    from accord_common.home import Home

app = verbs("Register tables, pictures and texts, say what is in them, and who is left out.")


class PolicyChoice(StrEnum):
    """Who decides about a run that all checks allow."""

    ASK = "ask"
    AUTO = "auto-within-agreement"


class UnitChoice(StrEnum):
    """Whom differential privacy protects: one row, or one patient, who then has one row."""

    RECORD = "record"
    PATIENT = "patient"


PolicyOption = Annotated[
    PolicyChoice,
    typer.Option(help="ask: the steward approves each run; auto-within-agreement: checks suffice."),
]
ValidationOption = Annotated[
    str | None,
    typer.Option(
        help="Fraction of the patients (of the rows, without an identifier) that no training sees, "
        "for accord-node compare."
    ),
]
NameArgument = catalogue.DatasetArgument


@app.command(
    epilog="Example: accord-node dataset add tumours.csv --schema tumours.yaml --name tumours "
    "--size 200, or accord-node dataset add --sql postgresql://reader@host/omop --query kidney.sql "
    "--password-file secret --schema kidney.yaml --name kidney --size 5000 --unit patient"
)
def add(
    schema: Annotated[Path, typer.Option(help="The agreed schema, .yaml or .json.")],
    name: Annotated[str, typer.Option(help="What partners will call it.")],
    size: Annotated[
        int,
        typer.Option(
            min=1,
            help="The public size N: a round number, at least the rows to train on. Updates are "
            "divided by it, the row count itself stays private.",
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A .csv, .parquet or .txt file, or a folder of pictures; it stays where it is."
        ),
    ] = None,
    sql: SqlOption = None,
    query: QueryOption = None,
    password_env: PasswordEnvOption = None,
    password_file: PasswordFileOption = None,
    policy: PolicyOption = PolicyChoice.ASK,
    unit: Annotated[UnitChoice, typer.Option(help="Whom privacy protects.")] = UnitChoice.RECORD,
    population: Annotated[
        str | None,
        typer.Option(
            help="Id of a population that another dataset describes too; they share a budget. A "
            "file that is registered here needs it; `new` says that it holds other people by now."
        ),
    ] = None,
    validation: ValidationOption = None,
    allow_column: AllowOption = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Check every row against the schema, then register a description of the table.

    The registry gets name, schema, public size and population. A wrong row registers nothing.
    """
    from accord_client.datasets import Datasets
    from accord_client.outbox import FILE_NAME, Outbox
    from accord_common import schema_file
    from accord_common.api.schemas import DatasetDraft
    from accord_common.canonical import sha256_hex

    opened = open_home(home)
    store = Datasets.of(opened.path)
    contract = schema_file.load(schema.expanduser())
    source = required(source_of(file, sql, query, password_env, password_file, schema=contract))
    note(f"Checking {source.place} ...")
    dataset = store.prepare(
        source,
        contract,
        name=name,
        size=size,
        unit=unit.value,
        policy=policy.value,
        population=population,
        validation=validation or "0",
        allowed=reasons(allow_column),
        charged=_charged(opened) if population is None else (),
    )
    draft = DatasetDraft(
        id=dataset.id,
        name=dataset.name,
        population=dataset.population,
        table=contract,
        size=dataset.size,
        unit=dataset.unit,
    )
    with opened.registry() as registry:
        store.store(dataset)
        try:
            data = draft.model_dump_json().encode()
            outbox = Outbox(opened.path / FILE_NAME, opened.node_key())
            outbox.append("dataset-description", "registry", sha256_hex(data), len(data))
            registry.register_dataset(draft)
        except BaseException:
            store.forget(dataset)
            raise
    _warn_of_repeats(dataset)
    emit(
        _view(dataset),
        format_,
        f"Registered {dataset.name}: {_counts(dataset)} here, public size {dataset.size}\n"
        f"id {dataset.id}\npopulation {dataset.population}\nschema {dataset.table.hash}\n"
        f"runs: {dataset.policy}",
    )


@app.command("list", epilog="Example: accord-node dataset list --format json")
def list_(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """List the tables registered here."""
    store = _store(home)
    problems = store.problems()
    views = [_view(dataset) | _problem(problems[dataset.name]) for dataset in store.all()]
    keys = ("id", "name", "size", "rows", "policy")
    headers = (*keys, "source")
    rows = [[*(view[key] for key in keys), view["problem"] or "ok"] for view in views]
    none = "No dataset is registered here: accord-node dataset add"
    emit(views, format_, table(*headers, rows=rows) if views else none)


@app.command(epilog="Example: accord-node dataset show tumours")
def show(
    name: NameArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Show one registration, and whether its source is in sight as it was when it was checked."""
    store = _store(home)
    dataset = store.find(name)
    view = _view(dataset) | _problem(store.problems()[dataset.name])
    view |= {"catalogue": catalogue.shown(home, dataset.id)}
    text = "\n".join(f"{key:<12} {value}" for key, value in view.items() if key != "table")
    emit(view, format_, text)


@app.command(epilog="Example: accord-node dataset update tumours --policy auto-within-agreement")
def update(
    name: NameArgument,
    file: Annotated[Path | None, typer.Option(help="The file's new place.")] = None,
    sql: SqlOption = None,
    query: QueryOption = None,
    password_env: PasswordEnvOption = None,
    password_file: PasswordFileOption = None,
    policy: Annotated[PolicyChoice | None, typer.Option(help="Who decides about runs.")] = None,
    validation: ValidationOption = None,
    allow_column: AllowOption = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Check a changed or moved file again, or change what only this node knows of a dataset.

    What the registry knows stays as it is: another schema, size or population is another dataset.
    Patients whom a larger validation fraction adds may have been trained on before.
    """
    store = _store(home)
    known = store.find(name)
    source = source_of(file, sql, query, password_env, password_file, schema=known.table)
    dataset = store.update(
        known,
        source=source,
        policy=policy.value if policy else known.policy,
        validation=validation,
        allowed=reasons(allow_column),
    )
    _warn_of_repeats(dataset)
    catalogue.note_outdated(home, dataset)
    emit(
        _view(dataset),
        format_,
        f"{dataset.name}: {_counts(dataset)} meet the schema; runs: {dataset.policy}",
    )


def _charged(home: Home) -> list[str]:
    """The populations that this node's ledger was ever charged for."""
    from accord_client.ledger import Ledger
    from accord_client.stores import LEDGER_FILE

    ledger = Ledger.open(home.path / LEDGER_FILE, home.node_key())
    try:
        return ledger.populations()
    finally:
        ledger.close()


def _store(home: Path) -> Datasets:
    from accord_client.datasets import Datasets

    return Datasets.of(open_home(home).path)


def _problem(error: AccordError | None) -> dict[str, str | None]:
    return {"problem": None if error is None else error.code}


def _counts(dataset: LocalDataset) -> str:
    mark = dataset.mark
    text = f"{mark.rows} rows"
    if mark.patients is not None:
        text += f" of {mark.patients} patients"
    return (
        text if mark.rows == mark.training else f"{text}, {mark.rows - mark.training} to validate,"
    )


def _warn_of_repeats(dataset: LocalDataset) -> None:
    if dataset.mark.patients is not None and dataset.mark.patients < dataset.mark.rows:
        note(
            "Some patients have several rows. Privacy holds for each row; what a patient's rows "
            "say together is protected less. One row a patient and --unit patient protects people."
        )


def _view(dataset: LocalDataset) -> dict[str, Any]:
    """What the steward sees: all but the key of the split, the hash and the glance."""
    body: dict[str, Any] = dataset.model_dump(mode="json", exclude={"split", "mark"})
    return body | {
        "rows": dataset.mark.rows,
        "patients": dataset.mark.patients,
        "training_rows": dataset.mark.training,
        "validation": dataset.split.fraction,
        "schema_hash": dataset.table.hash,
    }


# In the order of the group's help: what comes first in a table's life stands first.
app.command("publish", epilog=catalogue.PUBLISH_EXAMPLE)(catalogue.publish)
app.command("profile", epilog=catalogue.PROFILE_EXAMPLE)(catalogue.profile)
app.command("release", epilog=catalogue.RELEASE_EXAMPLE)(catalogue.release)
app.command("report", epilog=deidentify.EXAMPLE)(deidentify.report)
app.command("opt-out", epilog=opt_out.EXAMPLE)(opt_out.opt_out)
app.command("overlap", epilog=overlap.EXAMPLE)(overlap.overlap)
