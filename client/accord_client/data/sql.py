"""Rows from a database, by one SELECT that can change nothing there.

Guarantees: nothing is written there (`sql_connection`), and PostgreSQL takes one statement, in its
extended protocol. The password stands in no registration and no message: it is read from a variable
or a file that only its owner reads, whenever a connection is made.

The mark's hash is `sql_text.rows_hash`. At a glance nothing can be told, so the rows are read
before a round is charged: that they changed costs nothing. Queries on a snapshot, or on tables that
are loaded now and then, suit that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import StringConstraints

from accord_client.data import sql_connection
from accord_client.data.reading import Reading, refuse_changed
from accord_client.data.sql_connection import identity_of, is_sqlite, late, parse, reading
from accord_client.data.sql_text import check_select, row_hash, rows_hash
from accord_common.errors import DataError, UsageError
from accord_common.fields import Name, Record, Text
from accord_common.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

MAX_QUERY_CHARACTERS = 1 << 16
MOST_CELLS = 200_000_000  # some 2 GB of numbers
_AT_ONCE = 10_000  # rows that are fetched and turned into columns together
_LARGEST = 1 << 63  # what is larger is no integer column's; pandas fails on a thousand digits
_PASSWORD_HINT = "Give --password-env VARIABLE or --password-file FILE."


class SqlSource(Record):
    """One query; `url` as SQLAlchemy has it, without a password."""

    kind: Literal["sql"]
    url: Text
    query: Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARACTERS)]
    password_variable: Name | None
    password_file: Text | None

    @classmethod
    def at(
        cls,
        url: str,
        query: str,
        *,
        password_variable: str | None = None,
        password_file: Path | None = None,
    ) -> SqlSource:
        """A query as a person wrote it; connects to nothing.

        Raises:
            UsageError: `bad-sql-url`, `sql-dialect`, `sql-password-in-url`, `sql-not-select`.
            FormatError: `bad-record`, such as a query that is too long.
        """
        parsed = parse(url)
        if parsed.password is not None or "password" in parsed.query:
            raise UsageError(
                "sql-password-in-url", "the address holds a password", hint=_PASSWORD_HINT
            )
        if is_sqlite(parsed):
            file = Path(parsed.database or "").expanduser().absolute()
            parsed = parsed.set(database=str(file))
        check_select(query)
        return cls.from_json(
            {
                "kind": "sql",
                "url": parsed.render_as_string(),
                "query": query.strip().rstrip(";").rstrip(),
                "password_variable": password_variable,
                "password_file": password_file and str(password_file.expanduser().absolute()),
            }
        )

    @property
    def place(self) -> str:
        """The database."""
        return self.url

    @property
    def identity(self) -> str:
        """The database, whoever asks and whatever the query: its tables describe one population."""
        return identity_of(parse(self.url))

    def glance(self) -> str:
        """Nothing: see the module; `dataset-missing` where a SQLite file is not there."""
        url = parse(self.url)
        if is_sqlite(url) and not Path(url.database or "").is_file():
            raise DataError(
                "dataset-missing",
                f"{url.database} is no file",
                hint="Put the database back, or point to its new place: accord-node dataset update",
            )
        return ""

    def read(self, schema: Schema, *, known: str | None = None) -> Reading:
        """Run the query and check every cell; see `FileSource.read`.

        Raises:
            DataError: `sql-unreachable`, `sql-not-readonly`, `sql-refused`, `sql-timeout`,
                `sql-too-large`, `sql-type`, `sql-no-password`, `dataset-missing`,
                `dataset-changed`, or the codes of `tables.validate`.
        """
        from accord_common import tables

        self.glance()
        frame, sha256 = self._fetch()
        refuse_changed(self.place, sha256, known)
        rows = tables.validate(frame, schema)
        return Reading(
            table=tables.encode(rows, schema),
            people=tables.people(rows, schema),
            frame=frame,
            glance="",
            sha256=sha256,
        )

    def columns(self) -> pd.DataFrame:
        """Return the query's columns as they are, under no schema; errors as in `read`."""
        return self._fetch()[0]

    def _fetch(self) -> tuple[pd.DataFrame, str]:
        import pandas as pd

        parts, hashes = [], []
        deadline = time.monotonic() + sql_connection.QUERY_TIMEOUT_S
        with reading(self.place, parse(self.url), self._password(), deadline) as connection:
            result = connection.execution_options(
                stream_results=True, max_row_buffer=_AT_ONCE, no_parameters=True
            ).exec_driver_sql(self.query)
            names = list(result.keys())
            _refuse_repeated(names)
            cells = 0
            for rows in result.partitions(_AT_ONCE):
                if time.monotonic() > deadline:
                    raise late(self.place)
                cells += len(rows) * max(1, len(names))
                if cells > MOST_CELLS:
                    raise DataError(
                        "sql-too-large",
                        f"the query returns more than {MOST_CELLS} cells",
                        hint="Return only the schema's columns, and one row for each record.",
                    )
                hashes += [row_hash(names, row) for row in rows]
                parts.append(_columns(names, rows))
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
        return frame, rows_hash(names, hashes)

    def _password(self) -> str | None:
        if self.password_variable is not None:
            if (value := os.environ.get(self.password_variable)) is None:
                raise DataError(
                    "sql-no-password", f"${self.password_variable} is not set", hint=_PASSWORD_HINT
                )
            return value
        if self.password_file is None:
            return None
        path = Path(self.password_file)
        try:
            mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError("sql-no-password", f"{path}: {error}", hint=_PASSWORD_HINT) from error
        if mode & 0o077:
            raise DataError(
                "sql-password-exposed",
                f"{path} has mode {mode & 0o777:o}, others can read it",
                hint=f"chmod 600 {path}",
            )
        return text.rstrip("\r\n")


def _refuse_repeated(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                "repeated-column",
                f"the query returns column {name!r} twice",
                hint="Rename one with AS.",
            )


def _columns(names: Sequence[str], rows: Sequence[Any]) -> pd.DataFrame:
    import pandas as pd

    columns = zip(*rows, strict=True)
    return pd.DataFrame(
        {name: [_plain(cell) for cell in cells] for name, cells in zip(names, columns, strict=True)}
    )


def _plain(value: object) -> object:
    """Return a number as a table in a file would have it, other values as they are."""
    if not isinstance(value, Decimal):
        return value
    whole = value.is_finite() and value == value.to_integral_value()
    return int(value) if whole and abs(value) < _LARGEST else float(value)
