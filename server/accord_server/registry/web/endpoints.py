"""The pages' addresses. All are GET: what a page changes, it changes by the API."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from accord_common.duo import ontology
from accord_common.fields import Id, now
from accord_common.log.checkpoint import Head
from accord_common.profiles import declared_levels
from accord_common.web.serving import serve
from accord_server.registry.datasets import repository as datasets
from accord_server.registry.log.service import checkpoint
from accord_server.registry.notices import repository as notices
from accord_server.registry.partners.repository import holders, names
from accord_server.registry.web import (
    agreements,
    audit,
    budgets,
    compare,
    feed,
    home,
    live,
    models,
    partners,
    people,
    runs,
)
from accord_server.registry.web.visit import SECOND_FACTOR, SIGN_IN, Anybody, Signed, Words, pages

router = APIRouter(include_in_schema=False)
ROUTERS = (
    compare.router,
    runs.router,
    agreements.router,
    audit.router,
    budgets.router,
    feed.router,
    models.router,
    partners.router,
    people.router,
    router,
)  # every page

_PER_PAGE = 50
_ANNOUNCED = 2  # on a first page; the activity has the rest
_HOMES = {
    "owner": home.steward,
    "steward": home.steward,
    "coordinator": home.coordinator,
    "auditor": home.auditor,
}


@router.get("/assets/{path:path}")
async def assets(request: Request, path: str) -> Response:
    """Scripts, styles and icons."""
    return serve(pages().assets, request)


@router.get(SIGN_IN)
async def sign_in(visit: Anybody) -> Response:
    """Where everybody begins."""
    return visit.page("sign-in.html", "", provider=visit.provider)


@router.get("/welcome")
async def welcome(visit: Anybody) -> Response:
    """Where an invitation's or a reset's link leads; its code is in the fragment."""
    return visit.page("welcome.html", "", provider=visit.provider)


@router.get(SECOND_FACTOR)
async def second_factor(visit: Anybody) -> Response:
    """Give the code, or set up the factor first."""
    return visit.page("second-factor.html", "")


@router.get("/live")
async def changes(
    visit: Signed, seen: Annotated[int | None, Query(ge=0, lt=2**53)] = None
) -> Response:
    """See `live`."""
    return live.stream(visit, seen)


@router.get("/")
async def first(visit: Signed) -> Response:
    """Home, by role."""
    role = visit.person.role
    head = standing = None
    if role == "auditor":
        head = Head.of(await checkpoint(visit.registry))
        standing = visit.registry.watch.look(head.size)
    async with visit.registry.database.read() as session:
        found = await _HOMES[role](session, visit.who, visit.look())
        told = await notices.announcements(session, None, _ANNOUNCED)
    template = f"home-{type(found).__name__.lower()}.html"
    return visit.page(
        template, "/", live=True, home=found, head=head, standing=standing, announced=told
    )


@router.get("/datasets")
async def all_datasets(
    visit: Signed,
    after: Annotated[Id | None, Query()] = None,
    duo: Words = "",
    party: Words = "",
    column: Words = "",
) -> Response:
    """The catalogue, page by page; an empty filter is none."""
    wanted = {"duo": duo, "party": party, "column": column}
    asked = {name: value for name, value in wanted.items() if value}
    async with visit.registry.database.read() as session:
        found = await datasets.page(session, after, _PER_PAGE + 1, **asked)
        named = await holders(session)
    more = urlencode(asked | {"after": found[_PER_PAGE - 1].id}) if found[_PER_PAGE:] else None
    return visit.page(
        "datasets.html",
        "/datasets",
        datasets=found[:_PER_PAGE],
        named=named,
        codes=ontology().terms.values(),
        asked=wanted,
        more=more,
    )


@router.get("/datasets/{dataset}")
async def one_dataset(visit: Signed, dataset: Id) -> Response:
    """One dataset: what its owner declares, and what the caller's agreements add."""
    async with visit.registry.database.read() as session:
        found = await datasets.detail(session, dataset, visit.who.sees, now())
        named = await names(session, [found.dataset.owner])
    return visit.page(
        "dataset.html",
        "/datasets",
        found=found,
        named=named,
        terms=ontology().terms,
        levels=declared_levels(found.dataset.table),
    )
