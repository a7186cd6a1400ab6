"""The pages of people: who is let in by an organisation, and everybody's own account.

Guarantees: a reading of what the API shows the caller; every change is one of the API's, with the
session's CSRF token; a secret is shown once, in the page that asked for it.
"""

from typing import Annotated, get_args

from fastapi import APIRouter, Query
from starlette.responses import Response

from accord_common.api.access_schemas import MOST_TOKEN_DAYS, Scope
from accord_common.fields import Id
from accord_server.registry.access import events
from accord_server.registry.access.decisions import DECISIONS
from accord_server.registry.partners import repository as partners
from accord_server.registry.people import repository, service
from accord_server.registry.sessions.endpoints import page as own_sessions
from accord_server.registry.tokens import service as tokens
from accord_server.registry.web.visit import Signed

router = APIRouter(include_in_schema=False)

_PER_PAGE = 50
_EVENTS = 30
_TOKENS = 200


@router.get("/people")
async def people(
    visit: Signed,
    after: Annotated[Id | None, Query()] = None,
    happened: Annotated[int, Query(ge=0, lt=2**53)] = 0,
) -> Response:
    """Accounts, their tokens, and who got in. `happened` is where the page of events goes on."""
    looks_after = visit.may("POST", "/v1/people")
    sees_events = visit.may("GET", "/v1/access-events")
    async with visit.registry.database.read() as session:
        found = await repository.page(session, visit.sees("/v1/people"), after, _PER_PAGE + 1)
        made = await tokens.page(session, visit.reaching("/v1/tokens"), None, _TOKENS + 1)
        told = []
        if sees_events:
            reach = visit.sees("/v1/access-events")
            told = await events.newest(session, reach, happened or None, _EVENTS + 1)
        who = {name for event in told for name in (event.person, event.actor) if name}
        names = await partners.names(session, who) | await repository.names(session, who)
    return visit.page(
        "people.html",
        "/people",
        people=found[:_PER_PAGE],
        more=found[_PER_PAGE - 1].id if len(found) > _PER_PAGE else None,
        paged=after is not None,
        own=visit.person.id,
        party=visit.who.party,
        roles=sorted(service.ROLES[visit.who.role]),
        looks_after=looks_after,
        disables=visit.may("POST", "/v1/people/{person}/disable"),
        tokens=made[:_TOKENS],
        more_tokens=len(made) > _TOKENS,
        told=told[:_EVENTS],
        older=told[_EVENTS - 1].sequence if len(told) > _EVENTS else None,
        names=names,
        sees_events=sees_events,
    )


@router.get("/account")
async def account(visit: Signed) -> Response:
    """One's own: password, second factor, browsers, tokens."""
    async with visit.registry.database.read() as session:
        row = await repository.require(session, visit.person.id, None)
        person = await repository.view(session, row)
        made = await tokens.page(session, visit.reaching("/v1/tokens"), None, 200)
    return visit.page(
        "account.html",
        "/account",
        account=person,
        sessions=await own_sessions(visit.who, visit.registry),
        tokens=[token for token in made if token.person == person.id],
        scopes=[scope for scope in get_args(Scope) if _usable(visit, scope)],
        most_days=MOST_TOKEN_DAYS,
    )


def _usable(visit: Signed, scope: Scope) -> bool:
    """Whether the caller may call anything that takes this scope."""
    return any(
        row.scope == scope and not row.public and visit.may(*route)
        for route, row in DECISIONS.items()
    )
