"""The options that say where a dataset's rows are, for every verb that takes a source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord_common.errors import UsageError

if TYPE_CHECKING:
    from accord_client.data.sources import Source
    from accord_common.schema import Schema

SqlOption = Annotated[
    str | None,
    typer.Option(
        help="Instead of a file, a PostgreSQL or SQLite database: postgresql://user@host/database "
        "or sqlite:////file.db, never with a password. Nothing is written there."
    ),
]
QueryOption = Annotated[
    Path | None, typer.Option(help="File with one SELECT that returns a row for each record.")
]
PasswordEnvOption = Annotated[
    str | None,
    typer.Option(help="Variable that holds the database's password whenever the node runs."),
]
PasswordFileOption = Annotated[
    Path | None, typer.Option(help="File of mode 0600 that holds the database's password.")
]


def source_of(
    file: Path | None,
    sql: str | None,
    query: Path | None,
    password_env: str | None,
    password_file: Path | None,
    *,
    schema: Schema | None = None,
) -> Source | None:
    """Return the source that the options name, or None where they name none.

    The schema, if there is one, tells a folder of pictures from a table.

    Raises:
        UsageError: `bad-source`, or the codes of `SqlSource.at`.
    """
    from accord_client.data import sources
    from accord_client.data.sql import SqlSource

    if sql is None:
        if query or password_env or password_file:
            raise _bad("a query or a password stands without --sql")
        return None if file is None else sources.at(file, schema)
    if file is not None:
        raise _bad("a file and --sql are two sources")
    if query is None:
        raise _bad("--sql stands without --query")
    if password_env and password_file:
        raise _bad("--password-env and --password-file are two passwords")
    try:
        text = query.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("unreadable-file", f"{query}: {error}") from error
    return SqlSource.at(sql, text, password_variable=password_env, password_file=password_file)


def required(source: Source | None) -> Source:
    """Return the source; `bad-source` where none was named."""
    if source is None:
        raise _bad("no source is named")
    return source


def _bad(message: str) -> UsageError:
    return UsageError(
        "bad-source", message, hint="Name a file, or --sql ADDRESS with --query FILE.sql."
    )
