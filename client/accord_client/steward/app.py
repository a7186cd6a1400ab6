"""The page's addresses: GET shows, all else changes by `acting`.

Guarantees: whatever is asked passes the `Guard` first; a failure is a page or a problem with a
stable code, never a traceback.
"""

from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import TypeVar

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from accord_client.leaving import DONE, Step
from accord_client.steward import acting, live, views
from accord_client.steward.acting import Form, decode
from accord_client.steward.door import Session
from accord_client.steward.guard import Guard
from accord_client.steward.node import Node
from accord_client.steward.peers import Address
from accord_client.steward.visit import ENTER, Visit, failed, pages
from accord_common.errors import AccordError, NotFoundError, UsageError
from accord_common.web.assets import PREFIX
from accord_common.web.serving import serve

log = structlog.get_logger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
_Form = TypeVar("_Form", bound=Form)

PAGES = {
    "/": views.first,
    "/decisions": views.decisions,
    "/decisions/{run}": views.one_run,
    "/budgets": views.budgets,
    "/budgets/{dataset}": views.one_budget,
    "/sent": views.sent,
    "/agreements": views.agreements,
    "/agreements/{hash}": views.one_agreement,
}


def create_app(
    node: Node, uid_of: Callable[[Address, Address], int | None], uids: Collection[int]
) -> Guard:
    """Make the application.

    Args:
        node: what it shows.
        uid_of: the user at the other end of a connection (`peers`).
        uids: who may ask.
    """
    routes = [
        Route(PREFIX + "{path:path}", _assets),
        Route(ENTER, _enter),
        Route("/live", _live),
        *(Route(path, _shown(view)) for path, view in PAGES.items()),
        Route("/session", _begin, methods=["POST"]),
        Route("/session", _changed(lambda visit: visit.node.door.leave()), methods=["DELETE"]),
        Route("/runs/{run}/approve", _posted(acting.Approve, _approve), methods=["POST"]),
        Route("/runs/{run}/refuse", _posted(acting.Refuse, _refuse), methods=["POST"]),
        Route("/agreements/{hash}/sign", _posted(acting.Sign, _sign), methods=["POST"]),
        *(
            Route(f"/agreements/{{hash}}/{step}", _posted(acting.Say, _say(step)), methods=["POST"])
            for step in DONE
        ),
        Route("/budgets/{dataset}/cap", _posted(acting.OwnCap, _cap), methods=["PUT"]),
        Route("/budgets/{dataset}/cap", _changed(_remove_cap), methods=["DELETE"]),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={AccordError: _accord, HTTPException: _http, Exception: _unexpected},
    )
    app.state.node = node
    return Guard(app, uid_of, uids)


def _assets(request: Request) -> Response:
    return serve(pages().assets, request)


def _enter(request: Request) -> Response:
    """Where a link leads; its code is in the fragment, which no server sees."""
    return Visit(request).page("enter.html", "")


async def _begin(request: Request) -> Response:
    visit = Visit(request)
    form = decode(acting.Enter, await request.body())
    cookie = visit.node.door.enter(form.code.get_secret_value())
    response = JSONResponse({})
    response.set_cookie(visit.cookie, cookie, httponly=True, samesite="strict")
    return response


async def _live(request: Request) -> Response:
    return live.stream(Visit(request))


def _approve(visit: Visit, form: acting.Approve) -> None:
    acting.approve(visit.node, visit.request.path_params["run"], form)


def _refuse(visit: Visit, form: acting.Refuse) -> None:
    acting.refuse(visit.node, visit.request.path_params["run"], form)


def _sign(visit: Visit, form: acting.Sign) -> None:
    acting.sign(visit.node, visit.request.path_params["hash"], form)


def _say(step: Step) -> Callable[[Visit, acting.Say], None]:
    def act(visit: Visit, form: acting.Say) -> None:
        acting.say(visit.node, visit.request.path_params["hash"], step, form)

    return act


def _cap(visit: Visit, form: acting.OwnCap) -> None:
    acting.cap(visit.node, visit.request.path_params["dataset"], form)


def _remove_cap(visit: Visit) -> None:
    acting.cap(visit.node, visit.request.path_params["dataset"], None)


def _shown(view: Callable[[Visit, Session], Response]) -> Endpoint:
    """An endpoint for somebody signed in, made in a thread: it reads files."""

    async def endpoint(request: Request) -> Response:
        visit = Visit(request)
        session = visit.session()
        return await run_in_threadpool(view, visit, session)

    return endpoint


def _changed(act: Callable[[Visit], None]) -> Endpoint:
    """An endpoint that changes something without a body."""

    async def endpoint(request: Request) -> Response:
        visit = Visit(request)
        visit.require_token()
        await run_in_threadpool(act, visit)
        return Response(status_code=204)

    return endpoint


def _posted(form: type[_Form], act: Callable[[Visit, _Form], None]) -> Endpoint:
    """An endpoint that changes something by a form."""

    async def endpoint(request: Request) -> Response:
        visit = Visit(request)
        visit.require_token()
        body = decode(form, await request.body())
        await run_in_threadpool(act, visit, body)
        return Response(status_code=204)

    return endpoint


async def _accord(request: Request, error: Exception) -> Response:
    assert isinstance(error, AccordError)
    return await run_in_threadpool(failed, request, error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return failed(request, NotFoundError("no-such-path", "there is nothing at this address"))
    return failed(request, UsageError("bad-request", str(error.detail)))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("failed", path=request.url.path, exc_info=error)
    hint = "What accord-node steward wrote on its terminal says more."
    return failed(request, AccordError("internal-error", "this page failed", hint=hint))
