"""What whoever runs a registry may send to whoever helps them; see `accord_common.support`.

Guarantees: rows of the database are counted, never copied, but for runs' ids and states; no name of
a party, no address of a database, no envelope, no hash of a token or an invitation is in it.
"""

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy import func, make_url, select

from accord_common.api.client import RegistryClient
from accord_common.support import Part, about, files, host_of, known, last_events, part
from accord_server.registry.db import Database
from accord_server.registry.settings import SETTINGS, Settings
from accord_server.registry.tables import Base, RunRow

_ANSWERS_WITHIN_S = 5.0
_MOST_RUNS = 200  # the newest; a support case is about one of them


def collect(settings: Settings, log_file: Path | None) -> list[Part]:
    """Look at a registry's folder, database and address."""
    parts = [
        part("about.json", "versions, kind of machine, which variables are set", about),
        part("registry.json", "host and port, kind of database", lambda: _settings(settings)),
        part("answers.json", "whether it answers over TLS", lambda: _answers(settings)),
        part(
            "database.json",
            "rows in each table, runs' ids, states and codes",
            lambda: asyncio.run(_database(settings)),
        ),
        part(
            "disk.json",
            "sizes and modes of the registry's own files, free space",
            lambda: files(settings.home, ("registry.db", "registry.db-wal", "log.pem", SETTINGS)),
        ),
    ]
    if log_file is not None:
        parts.append(
            part("log.jsonl", "the last log lines: times, events", lambda: last_events(log_file))
        )
    return parts


def _settings(settings: Settings) -> dict[str, Any]:
    return {
        "serves": host_of(settings.url),
        "port": settings.port,
        "database": make_url(settings.database).get_backend_name(),
    }


def _answers(settings: Settings) -> dict[str, Any]:
    with RegistryClient(
        settings.url, settings.ca.read_bytes(), timeout_s=_ANSWERS_WITHIN_S
    ) as client:
        client.ready()
        return {"ready": True, "protocol": client.info().protocol}


async def _database(settings: Settings) -> dict[str, Any]:
    database = Database(settings.database)
    try:
        await database.check()
        async with database.read() as session:
            counts = {
                name: (await session.execute(select(func.count()).select_from(table))).scalar_one()
                for name, table in sorted(Base.metadata.tables.items())
            }
            newest = select(RunRow).order_by(RunRow.id.desc()).limit(_MOST_RUNS)
            runs = (await session.execute(newest)).scalars().all()
    finally:
        await database.close()
    return {
        "rows": counts,
        "runs": [
            {
                "id": run.id,
                "state": known(run.state),
                "code": known(run.code) if run.code else None,
                "round": run.round,
                "rounds": run.rounds,
            }
            for run in runs
        ],
    }
