"""Rows from a database, by one SELECT that can change nothing there.

Guarantees: SQLite is opened with mode=ro and query_only; PostgreSQL runs the query in a transaction
that the server itself keeps read-only, which is asked of the server before the query, and in its
extended protocol, which takes one statement. The password stands in no registration and no message:
it is read from a variable or a file that only its owner reads, when a connection is made. A remote
PostgreSQL is asked for TLS unless the address says otherwise.

The mark's hash is `sql_text.rows_hash`. At a glance nothing can be told: that rows changed shows
when they are read. Queries on a snapshot, or on tables that are loaded now and then, suit that.

Not covered: functions of the database that act outside its transactions; an account that may only
read is the steward's to make. Other databases: none of their drivers keeps a session read-only.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from pydantic import StringConstraints

from accord_client.data.reading import Reading, refuse_changed
from accord_client.data.sql_text import check_select, row_hash, rows_hash
from accord_common.errors import AccordError, DataError, UsageError
from accord_common.fields import Name, Record, Text
from accord_common.schema import Schema

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

MAX_QUERY_CHARACTERS = 1 << 16
CONNECT_TIMEOUT_S = 10
QUERY_TIMEOUT_S = 300  # a query that takes longer holds up a round that others wait for
MOST_CELLS = 200_000_000  # some 2 GB of numbers
_AT_ONCE = 10_000  # rows that are fetched and turned into columns together
_PROGRESS = 10_000  # SQLite instructions between two looks at the clock, well under 1 ms
_READ_ONLY_SESSION = "-c default_transaction_read_only=on"
_READ_ONLY_TRANSACTION = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_HERE = ("", "localhost", "127.0.0.1", "::1")
_READ_ONLY_STATE, _CANCELLED_STATE = "25006", "57014"  # PostgreSQL, appendix A
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
        """
        parsed = _parse(url)
        if parsed.password is not None or "password" in parsed.query:
            raise UsageError(
                "sql-password-in-url", "the address holds a password", hint=_PASSWORD_HINT
            )
        if parsed.get_backend_name() == "sqlite":
            file = Path(parsed.database or "").expanduser().absolute()
            parsed = parsed.set(database=str(file))
        check_select(query)
        return cls(
            kind="sql",
            url=parsed.render_as_string(),
            query=query.strip().rstrip(";").rstrip(),
            password_variable=password_variable,
            password_file=None if password_file is None else str(password_file.absolute()),
        )

    @property
    def place(self) -> str:
        """The database."""
        return self.url

    @property
    def identity(self) -> str:
        """The database, whoever asks and whatever the query: its tables describe one population."""
        url = _parse(self.url)
        if url.get_backend_name() == "sqlite":
            return str(Path(url.database or "").resolve())
        host = url.host or url.query.get("host", "")
        return f"postgresql {host} {url.port or 5432} {url.database}"

    def glance(self) -> str:
        """Nothing: see the module; `dataset-missing` where a SQLite file is not there."""
        url = _parse(self.url)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
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
        deadline = time.monotonic() + QUERY_TIMEOUT_S
        with self._reading(deadline) as connection:
            result = connection.execution_options(
                stream_results=True, max_row_buffer=_AT_ONCE, no_parameters=True
            ).exec_driver_sql(self.query)
            names = list(result.keys())
            _refuse_repeated(names)
            cells = 0
            for rows in result.partitions(_AT_ONCE):
                if time.monotonic() > deadline:
                    raise self._late()
                cells += len(rows) * len(names)
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

    @contextmanager
    def _reading(self, deadline: float) -> Iterator[Connection]:
        from sqlalchemy import exc

        url = _parse(self.url)
        sqlite = url.get_backend_name() == "sqlite"
        engine = _sqlite(url, deadline) if sqlite else _postgresql(url, self._password())
        connected = False
        try:
            with engine.connect() as connection:
                if not sqlite:
                    _require_read_only(connection)
                connected = True
                yield connection
        except exc.DBAPIError as error:
            raise self._explain(error, connected=connected) from None
        finally:
            engine.dispose()

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

    def _late(self) -> AccordError:
        return DataError(
            "sql-timeout",
            f"{self.place} did not give all rows within {QUERY_TIMEOUT_S} s",
            hint="Let the query read a table that was prepared for it.",
        )

    def _explain(self, error: Any, *, connected: bool) -> AccordError:
        """Name what the database said; never the statement, whose text is the steward's own."""
        said = str(error.orig).strip().partition("\n")[0]
        state = getattr(error.orig, "sqlstate", None)
        if state == _READ_ONLY_STATE or "readonly database" in said:
            return DataError(
                "sql-not-readonly",
                f"the query would change {self.place}: {said}",
                hint="Give a SELECT that writes nothing and locks nothing.",
            )
        if state == _CANCELLED_STATE or said == "interrupted":
            return self._late()
        if not connected:
            return DataError(
                "sql-unreachable",
                f"{self.place}: {said}",
                hint="Check address, account and password, and that the database is up.",
            )
        return DataError("sql-refused", f"{self.place}: {said}", hint="Correct the query.")


def _parse(url: str) -> URL:
    from sqlalchemy import exc, make_url

    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError) as error:
        raise UsageError(
            "bad-sql-url",
            "the address is none that SQLAlchemy reads",
            hint="For example postgresql://reader@db.hospital.org/omop or sqlite:////data/omop.db",
        ) from error
    if backend not in ("sqlite", "postgresql"):
        raise UsageError(
            "sql-dialect",
            f"{backend} cannot be kept from writing by its driver",
            hint="Use PostgreSQL or SQLite, or export the rows to Parquet.",
        )
    return parsed


def _sqlite(url: URL, deadline: float) -> Engine:
    from sqlalchemy import NullPool, create_engine

    def open_() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(url.database or '')}?mode=ro", uri=True, timeout=CONNECT_TIMEOUT_S
        )
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS)
        return connection

    return create_engine("sqlite://", creator=open_, poolclass=NullPool)


def _postgresql(url: URL, password: str | None) -> Engine:
    from sqlalchemy import NullPool, create_engine

    options = [
        *([url.query["options"]] if "options" in url.query else []),
        _READ_ONLY_SESSION,
        f"-c statement_timeout={int(QUERY_TIMEOUT_S * 1000)}",
    ]
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "accord-node",
        "options": " ".join(map(str, options)),
    }
    if (url.host or "") not in _HERE and "sslmode" not in url.query:
        arguments["sslmode"] = "require"
    return create_engine(
        url.set(drivername="postgresql+psycopg", password=password),
        connect_args=arguments,
        poolclass=NullPool,
        execution_options=_READ_ONLY_TRANSACTION,
    )


def _require_read_only(connection: Connection) -> None:
    from sqlalchemy import text

    if (found := connection.scalar(text("SHOW transaction_read_only"))) != "on":
        raise DataError(
            "sql-not-readonly",
            f"the server says transaction_read_only = {found}",
            hint="Connect to PostgreSQL itself: what stands between may drop settings.",
        )


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
    return int(value) if whole else float(value)
