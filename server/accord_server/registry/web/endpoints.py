"""The pages' addresses. All are GET: what a page changes, it changes by the API."""

import asyncio
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from accord_common.duo import ontology
from accord_common.fields import Hash, Id, now
from accord_common.log.checkpoint import Head
from accord_common.profiles import declared_levels
from accord_common.summaries import agreement_summary
from accord_common.web.serving import serve
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.budgets import combining
from accord_server.registry.budgets.tables import TermsRow
from accord_server.registry.datasets import repository as datasets
from accord_server.registry.log.service import checkpoint
from accord_server.registry.notices import repository as notices
from accord_server.registry.paging import equal
from accord_server.registry.partners import repository as partners
from accord_server.registry.web import audit, compare, feed, home, live, models, people, runs
from accord_server.registry.web.visit import SECOND_FACTOR, SIGN_IN, Anybody, Signed, Words, pages

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
        named = await partners.holders(session)
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
        named = await partners.names(session, [found.dataset.owner])
    return visit.page(
        "dataset.html",
        "/datasets",
        found=found,
        named=named,
        terms=ontology().terms,
        levels=declared_levels(found.dataset.table),
    )


@router.get("/partners")
async def all_partners(visit: Signed) -> Response:
    """Everybody who enrolled."""
    async with visit.registry.database.read() as session:
        found = await partners.page(session, None, 1000)
    return visit.page("partners.html", "/partners", live=True, partners=found)
