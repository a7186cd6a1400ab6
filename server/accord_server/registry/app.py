"""The registry as an ASGI application.

Guarantees: it does not start unless its routes and the rows of `access/decisions.py` are the same,
and each route asks who calls where its row says so.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from accord_common.api.schemas import Health, Info, Problem
from accord_common.errors import TransportError, UsageError
from accord_common.manifest import PROTOCOL
from accord_server.registry import errors
from accord_server.registry.access.decisions import require_complete
from accord_server.registry.access.endpoints import router as access_events
from accord_server.registry.access.rates import Rates
from accord_server.registry.agreements.endpoints import router as agreements
from accord_server.registry.auth import Allow
from accord_server.registry.blobs.endpoints import router as blobs
from accord_server.registry.budgets.endpoints import router as budgets
from accord_server.registry.changes import Changes
from accord_server.registry.context import Registry, registry
from accord_server.registry.datasets.endpoints import router as datasets
from accord_server.registry.limits import Limits
from accord_server.registry.log.endpoints import router as log
from accord_server.registry.log.watch import LogWatch
from accord_server.registry.notices.endpoints import router as said
from accord_server.registry.notices.sending import notices
from accord_server.registry.offers.endpoints import router as offers
from accord_server.registry.oidc.endpoints import CALLBACK
from accord_server.registry.oidc.endpoints import router as oidc
from accord_server.registry.oidc.provider import Provider
from accord_server.registry.partners.endpoints import router as partners
from accord_server.registry.people.endpoints import router as people
from accord_server.registry.people.own import router as own
from accord_server.registry.records.endpoints import router as records
from accord_server.registry.records.lookup import RunCache
from accord_server.registry.runs.endpoints import router as runs
from accord_server.registry.runs.inbox import router as inbox
from accord_server.registry.runs.reconciler import look_after
from accord_server.registry.scores.endpoints import router as scores
from accord_server.registry.sessions.endpoints import router as sessions
from accord_server.registry.settings import Settings
from accord_server.registry.tokens.endpoints import router as tokens
from accord_server.registry.trust.endpoints import router as trust
from accord_server.registry.trust.expiry import told as expiry_told
from accord_server.registry.turns import Turns
from accord_server.registry.web.endpoints import ROUTERS as PAGES

OPENAPI = "/v1/openapi.json"

health = APIRouter(tags=["health"])


@health.get("/livez", summary="Whether the process lives")
async def livez() -> Health:
    """The process answers."""
    return Health(status="ok")


@health.get("/readyz", summary="Whether the registry can serve")
async def readyz(registry: Annotated[Registry, Depends(registry)]) -> Health:
    """The database answers and has this release's schema."""
    try:
        await registry.database.check()
    except UsageError as error:  # somebody's migration or restore, behind a process that serves
        raise TransportError(error.code, error.message, hint=error.hint) from error
    return Health(status="ok")


@health.get("/v1/info", summary="What this registry is")
async def info(registry: Annotated[Registry, Depends(registry)]) -> Info:
    """Protocol, release and log key."""
    return Info(protocol=PROTOCOL, version=version("accord"), log_key=registry.log_key.public)


ROUTERS = (
    health,
    partners,
    datasets,
    agreements,
    records,
    log,
    offers,
    blobs,
    runs,
    scores,
    said,
    inbox,
    budgets,
    trust,
    people,
    own,
    sessions,
    tokens,
    oidc,
    access_events,
    *PAGES,
)


def create_app(settings: Settings) -> FastAPI:
    """Make the application; its database is open from here on.

    Raises:
        RuntimeError: a route has no row in the table of decisions, or a row no route.
    """
    require_complete(_asking())
    database, changes = settings.open_database(), Changes()
    parts = Registry(
        settings=settings,
        database=database,
        turns=Turns(database),
        changes=changes,
        watch=LogWatch(database, changes),
        runs=RunCache(),
        log_key=settings.read_log_key(),
        callers=Rates(settings.requests_per_minute),
        strangers=Rates(settings.attempts_per_minute),
        provider=Provider(settings.oidc, settings.url + CALLBACK) if settings.oidc else None,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.database.check()
        ended = asyncio.Event()
        round_ = asyncio.create_task(look_after(parts, ended))
        async with expiry_told(parts), notices(parts):
            yield
        ended.set()
        await round_
        await parts.watch.close()
        await parts.changes.close()
        await parts.database.close()

    app = FastAPI(
        title="Accord registry",
        version=version("accord"),
        summary="Partners, agreements, runs and the log of signed records.",
        description="Failures are RFC 9457 problems with a stable `code` and a `hint`.",
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
        openapi_url=OPENAPI,
        redirect_slashes=False,  # it would send people to whatever host the request names
        lifespan=lifespan,
        responses={
            "default": {
                "model": Problem,
                "description": "A problem",
                "content": {"application/problem+json": {"example": errors.EXAMPLE.model_dump()}},
            }
        },
    )
    app.state.registry = parts
    for router in ROUTERS:
        app.include_router(router)
    errors.install(app)
    app.add_middleware(Limits, metrics=parts.metrics)
    return app


def all_routes() -> Iterator[APIRoute]:
    """Every route of the application.

    Raises:
        RuntimeError: a router holds something whose caller cannot be checked.
    """
    for router in ROUTERS:
        for route in router.routes:
            if not isinstance(route, APIRoute):
                raise RuntimeError(f"{route} is no plain route")
            yield route


def _asking() -> Iterator[tuple[str, str, bool]]:
    """Method and path of every route, and whether it asks who calls."""
    yield "GET", OPENAPI, False  # FastAPI's own
    for route in all_routes():
        for method in route.methods or ():
            yield method, route.path, _asks(route.dependant)


def _asks(needed: Dependant) -> bool:
    return isinstance(needed.call, Allow) or any(map(_asks, needed.dependencies))
