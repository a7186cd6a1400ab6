"""`accord-node dataset report`, and the reasons for columns that it names."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_client.cli.source import (
    PasswordEnvOption,
    PasswordFileOption,
    QueryOption,
    SqlOption,
    required,
    source_of,
)
from accord_common.cli import Format, FormatOption, emit, note, table
from accord_common.errors import UsageError

EXAMPLE = "Example: accord-node dataset report tumours.csv --schema tumours.yaml"
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-column",
        help="NAME=REASON: why a column that looks like a direct identifier is none; kept in the "
        "registration. May be repeated.",
    ),
]
_ADVICE = {
    "identifier": "the patient: never a feature, never leaves",
    "ignored": "ignored: no cell of it is used",
    "undeclared": "name it in the schema, best under `ignored`, or remove it",
}


def report(
    file: Annotated[
        Path | None, typer.Argument(help="A .csv or .parquet file, or a registered dataset.")
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="The schema it will be registered under, if there is one.")
    ] = None,
    sql: SqlOption = None,
    query: QueryOption = None,
    password_env: PasswordEnvOption = None,
    password_file: PasswordFileOption = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Look for direct identifiers, by columns' names and the look of their cells; shows no cell.

    The kinds are those of HIPAA's Safe Harbor, 45 CFR 164.514(b)(2). No finding is no proof that
    nobody can be recognised.
    """
    from accord_client.data.identifiers import look
    from accord_client.datasets import Datasets
    from accord_common import schema_file

    contract = None if schema is None else schema_file.load(schema.expanduser())
    allowed: dict[str, str] = {}
    if file is not None and not file.expanduser().exists():
        known = Datasets.of(open_home(home).path).find(str(file))
        source, contract, allowed = known.source, contract or known.table, known.allowed
    else:
        source = required(source_of(file, sql, query, password_env, password_file, schema=contract))
    note(f"Reading {source.place} ...")
    frame = source.columns()
    found = look(frame, contract)
    views = [
        asdict(finding)
        | {
            "refused": finding.refused and finding.column not in allowed,
            "reason": allowed.get(finding.column),
        }
        for finding in found
    ]
    rows = [
        [
            view["column"],
            view["role"],
            view["kind"],
            view["by"] if view["share"] is None else f"{view['share']:.0%} of the cells",
            view["reason"] or _ADVICE.get(view["role"], "refused" if view["refused"] else "-"),
        ]
        for view in views
    ]
    headers = ("column", "is", "looks like", "by", "so")
    emit(
        views,
        format_,
        table(*headers, rows=rows) if rows else f"None of {frame.shape[1]} columns looks like one.",
    )


def reasons(options: list[str] | None) -> dict[str, str]:
    """Read `--allow-column NAME=REASON`.

    Raises:
        UsageError: `bad-arguments`.
    """
    given = {}
    for option in options or ():
        name, _, reason = option.partition("=")
        if not (name and reason.strip()):
            raise UsageError(
                "bad-arguments",
                f"--allow-column {option!r} gives no reason",
                hint='For example --allow-column "serial=number of the biopsy, 1 to 3"',
            )
        given[name] = reason.strip()
    return given
