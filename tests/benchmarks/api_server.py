"""`python -m tests.benchmarks.api_server HOME PORT`: what FastAPI and SQLAlchemy do by themselves.

One route, over the same database, TLS and server as the registry's: one query for the same page,
one pydantic model; no token, no roles, no limits, no headers, no count, no log line.
"""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker

from accord_common.api.schemas import RoundView
from accord_common.fields import format_time
from accord_server.registry.engines import Bounds, make_engine
from accord_server.registry.server import listen
from accord_server.registry.settings import Settings, load
from accord_server.registry.tables import RoundRow


def application(settings: Settings) -> FastAPI:
    """One route: a page of a run's rounds."""
    app = FastAPI()
    sessions = async_sessionmaker(make_engine(settings.database, Bounds()))

    @app.get("/v1/runs/{run}/rounds")
    async def rounds(run: str, after: int = 0, limit: int = 100) -> list[RoundView]:
        query = (
            select(RoundRow)
            .where(RoundRow.run == run, RoundRow.number > after)
            .order_by(RoundRow.number)
            .limit(limit)
        )
        async with sessions() as session:
            return [
                RoundView.model_validate(
                    {
                        "round": row.round,
                        "attempt": row.attempt,
                        "outcome": row.outcome,
                        "cohort": row.cohort,
                        "lost": row.lost,
                        "refused": row.refused,
                        "model_after": row.model_after,
                        "seconds": (row.ended - row.started).total_seconds(),
                        "created": format_time(row.ended),
                    }
                )
                for row in (await session.execute(query)).scalars()
            ]

    return app


def main(home: Path, port: int) -> None:
    """Serve until SIGTERM."""
    settings = load(home)
    config = uvicorn.Config(
        application(settings),
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        log_config=None,
        access_log=False,
    )
    with listen(settings.model_copy(update={"port": port})) as bound:
        uvicorn.Server(config).run(sockets=[bound])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
