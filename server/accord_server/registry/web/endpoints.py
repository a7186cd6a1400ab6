"""The pages' addresses. All are GET: what a page changes, it changes by the API."""

import asyncio

from fastapi import APIRouter, Request
from sqlalchemy import select
from starlette.responses import Response

from accord_common.fields import Hash, now
from accord_common.log.checkpoint import Head
from accord_common.summaries import agreement_summary
from accord_common.web.serving import serve
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.budgets import combining
from accord_server.registry.budgets.tables import TermsRow
from accord_server.registry.datasets.endpoints import view
from accord_server.registry.log.service import checkpoint
from accord_server.registry.notices import repository as notices
from accord_server.registry.paging import equal
from accord_server.registry.partners import repository as partners
from accord_server.registry.tables import DatasetRow
from accord_server.registry.web import audit, compare, feed, home, live, models, people, runs
from accord_server.registry.web.visit import SECOND_FACTOR, SIGN_IN, Anybody, Signed, pages

router = APIRouter(include_in_schema=False)
ROUTERS = (
    compare.router,
    runs.router,
    audit.router,
    feed.router,
    models.router,
    people.router,
    router,
)  # every page

_PER_PAGE = 50
_COMMENTS = 100
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
async def changes(visit: Signed) -> Response:
    """See `live`."""
    return live.stream(visit)


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


@router.get("/agreements")
async def all_agreements(visit: Signed) -> Response:
    """The caller's agreements."""
    async with visit.registry.database.read() as session:
        found = await agreements.page(session, visit.who.sees, None, _PER_PAGE, now())
    return visit.page("agreements.html", "/agreements", live=True, agreements=found)


@router.get("/agreements/{agreement_hash}")
async def one_agreement(visit: Signed, agreement_hash: Hash) -> Response:
    """One agreement, in plain words, and who has signed it."""
    async with visit.registry.database.read() as session:
        found = await agreements.one(session, visit.who.sees, agreement_hash, now())
        said = await notices.comments(session, [agreement_hash], None, _COMMENTS)
    words = agreement_summary(found.agreement, found.hash)
    return visit.page(
        "agreement.html", "/agreements", live=True, view=found, words=words, **visit.comments(said)
    )


@router.get("/budgets")
async def budgets(visit: Signed) -> Response:
    """What each cap has left."""
    async with visit.registry.database.read() as session:
        where = equal((TermsRow.owner, visit.who.sees))
        terms, spent = await combining.all_balances(session, where, limit=_PER_PAGE)
    found = await asyncio.to_thread(combining.balances, terms, spent, now())
    return visit.page("budgets.html", "/budgets", live=True, balances=found)


@router.get("/datasets")
async def all_datasets(visit: Signed) -> Response:
    """Everything public about each registered dataset."""
    query = select(DatasetRow).order_by(DatasetRow.name, DatasetRow.id).limit(_PER_PAGE)
    async with visit.registry.database.read() as session:
        found = [view(row) for row in (await session.execute(query)).scalars()]
        named = await partners.names(session, [dataset.owner for dataset in found])
    return visit.page("datasets.html", "/datasets", datasets=found, named=named)


@router.get("/partners")
async def all_partners(visit: Signed) -> Response:
    """Everybody who enrolled."""
    async with visit.registry.database.read() as session:
        found = await partners.page(session, None, 1000)
    return visit.page("partners.html", "/partners", live=True, partners=found)
