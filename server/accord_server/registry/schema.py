"""The schema's revision: brought to this release's, or refused.

Guarantees: nothing but `migrate` changes the schema, and one process at a time; a database that is
not Accord's is never written to.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, select, text

from accord_common.errors import UsageError
from accord_common.fields import now
from accord_server.registry import tables
from accord_server.registry.access import tables as access_tables
from accord_server.registry.agreements import tables as agreement_tables
from accord_server.registry.budgets import tables as budget_tables
from accord_server.registry.datasets import tables as dataset_tables
from accord_server.registry.log import tables as log_tables
from accord_server.registry.notices import tables as notice_tables
from accord_server.registry.scores import tables as score_tables
from accord_server.registry.tables import ReleaseRow

# Every module of tables, so that `Base.metadata` is whole.
TABLES = (
    *(tables, access_tables, agreement_tables, budget_tables, dataset_tables),
    *(log_tables, notice_tables, score_tables),
)

_APPEND_ONLY = {
    "sqlite": (
        "CREATE TRIGGER {table}_no_{event} BEFORE {event} ON {table} "
        "BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$",
        "CREATE TRIGGER {table}_no_{event} BEFORE {event} ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()",
    ),
}
_EVENTS = {"sqlite": ("UPDATE", "DELETE"), "postgresql": ("UPDATE", "DELETE", "TRUNCATE")}

State = Literal["empty", "older", "present", "newer", "foreign"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a database holds: its state, its revision, and the release that wrote it."""

    state: State
    revision: str | None = None
    release: str | None = None


def append_only(table: str, dialect: str) -> list[str]:
    """Return the statements that make a table refuse all but INSERT."""
    return [
        statement.format(table=table, event=event)
        for event in _EVENTS[dialect]
        for statement in _APPEND_ONLY[dialect]
    ]


def alembic_config(connection: Connection) -> Config:
    """Return alembic's configuration for an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def look(connection: Connection) -> Found:
    """Say what a database holds."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return Found("empty")
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        return Found("empty" if tables == {"alembic_version"} else "foreign")
    release = None
    if ReleaseRow.__tablename__ in tables:
        query = select(ReleaseRow.release).where(ReleaseRow.revision == revision)
        release = connection.execute(query).scalar_one_or_none()
    scripts = ScriptDirectory.from_config(alembic_config(connection))
    if revision == scripts.get_current_head():
        return Found("present", revision, release)
    if revision in {script.revision for script in scripts.walk_revisions()}:
        return Found("older", revision, release)
    return Found("foreign" if release is None else "newer", revision, release)


def check(connection: Connection) -> None:
    """Raise UsageError unless the schema is this release's.

    Raises:
        UsageError: `wrong-schema`, `foreign-database`, `wrong-encoding`.
    """
    _check_encoding(connection)
    if (found := look(connection)).state != "present":
        raise refusal(found)


def migrate(connection: Connection) -> Found:
    """Bring the schema to this release's, from nothing or an older one; return what was found.

    Raises:
        UsageError: as `check`, but for an empty or older database.
    """
    _check_encoding(connection)
    found = look(connection)
    if found.state not in {"empty", "older", "present"}:
        raise refusal(found)
    if found.state != "present":
        command.upgrade(alembic_config(connection), "head")
        head = MigrationContext.configure(connection).get_current_revision()
        connection.execute(
            insert(ReleaseRow).values(revision=head, release=version("accord"), applied=now())
        )
    return found


def refusal(found: Found) -> UsageError:
    """What is said of a database that cannot be used as it is."""
    match found.state:
        case "empty":
            hint = "Make a registry with `accord registry init`."
            return UsageError("wrong-schema", "the database is empty", hint=hint)
        case "older":
            wrote = f" of release {found.release}" if found.release else ""
            return UsageError(
                "wrong-schema",
                f"the database has schema {found.revision}{wrote}, older than this release's",
                hint="Take a backup, then run `accord registry migrate`.",
            )
        case "newer":
            return UsageError(
                "wrong-schema",
                f"the database has schema {found.revision} of release {found.release}; "
                f"this is release {version('accord')}",
                hint=f"Install release {found.release} or a newer one.",
            )
        case _:
            return UsageError(
                "foreign-database",
                "the database holds tables that are not a registry's",
                hint="Give the registry a database of its own: createdb NAME.",
            )


def _check_encoding(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise UsageError(
            "wrong-encoding",
            f"the database's encoding is {encoding}, not UTF8",
            hint="Make it anew: createdb --encoding=UTF8 --template=template0 NAME.",
        )
