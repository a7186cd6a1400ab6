"""One request for a page: who asks, in which language, and how it is answered.

Guarantees: a page is made for one caller from what the API gives that caller; what it changes, it
changes by the API's own routes, with the session's CSRF token. Whoever is not signed in is led to
`/sign-in`, and afterwards to the first page: no address of a request is ever a place to go to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from accord_common.api.notice_schemas import CommentView
from accord_common.errors import AccordError, AuthError
from accord_common.fields import Text, now
from accord_common.permissions import guessed_right
from accord_common.web.languages import COOKIE as LANGUAGE
from accord_common.web.languages import Language, choose
from accord_common.web.looks import N_
from accord_common.web.rendering import HEADERS, Pages
from accord_server.registry.access.credentials import COOKIE, Caller, Person, csrf_of
from accord_server.registry.access.decisions import DECISIONS
from accord_server.registry.auth import Allow, decide
from accord_server.registry.changes import EVERYTHING
from accord_server.registry.context import Registry, registry
from accord_server.registry.oidc.endpoints import CALLBACK
from accord_server.registry.runs.repository import Look

SIGN_IN, SECOND_FACTOR = "/sign-in", "/second-factor"
MOST_COMMENTS = 100  # on one page
_YEAR_S = 365 * 86_400
_NAV = (
    ("/", N_("Home")),
    ("/feed", N_("Activity")),
    ("/runs", N_("Runs")),
    ("/models", N_("Models")),
    ("/agreements", N_("Agreements")),
    ("/datasets", N_("Datasets")),
    ("/budgets", N_("Budgets")),
    ("/partners", N_("Partners")),
    ("/audit", N_("Audit")),
    ("/people", N_("People")),
)
Words = Annotated[Text, Query(max_length=100)]  # that somebody looks for; PostgreSQL takes no NUL


@cache
def pages() -> Pages:
    """The registry's templates, read once."""
    return Pages(["accord_server.registry.web"], guessed_right=guessed_right)


@dataclass(frozen=True)
class Visit:
    """A request by `caller`, or by nobody known; `seen` is what had changed when it came."""

    request: Request
    registry: Registry
    caller: Caller | None
    seen: int = 0

    @property
    def who(self) -> Caller:
        """The caller, on pages that take one."""
        assert self.caller is not None
        return self.caller

    @property
    def person(self) -> Person:
        """The person, on pages that take one: the table lets no machine there."""
        assert self.who.person is not None
        return self.who.person

    @property
    def provider(self) -> str | None:
        """What people call the OpenID provider that they may sign in with."""
        oidc = self.registry.settings.oidc
        return None if oidc is None else oidc.name

    def look(self) -> Look:
        """How, and when, this visit looks at runs."""
        return Look(self.registry.settings.patience, now())

    def sees(self, path: str) -> str | None:
        """Whose things the caller may read at a path of the API; None is everybody's."""
        return self.reaching(path).sees

    def reaching(self, path: str) -> Caller:
        """The caller, with what a path of the API lets them reach."""
        return decide(self.who, DECISIONS["GET", path])

    def may(self, method: str, path: str) -> bool:
        """Whether the caller's role may call a path of the API at all."""
        row = DECISIONS[method, path]
        return all(row.cells[column] != "-" for column in self.who.columns)

    @property
    def language(self) -> Language:
        """The one asked for in the address, else the cookie's, else the browser's."""
        wanted = self.request.query_params.get("language", self.request.cookies.get(LANGUAGE))
        return choose(wanted, self.request.headers.get("accept-language"))

    def comments(self, found: Sequence[tuple[str, CommentView]]) -> dict[str, Any]:
        """What a page shows of comments; `found` is one more than that where there are older."""
        return {
            "comments": [view for _, view in found[:MOST_COMMENTS]],
            "older_comments": len(found) > MOST_COMMENTS,
            "own": self.person.id,
            "says": self.may("POST", "/v1/runs/{run}/comments"),
        }

    def query(self, **changes: object) -> str:
        """The address's query with some parameters changed; None takes one away."""
        kept = [
            (name, value)
            for name, value in self.request.query_params.multi_items()
            if name not in changes and name != "language"
        ]
        new = [(name, value) for name, value in changes.items() if value is not None]
        return "?" + urlencode([*kept, *new])

    def page(
        self, template: str, here: str, *, live: bool = False, status: int = 200, **values: Any
    ) -> Response:
        """Answer with a template.

        Args:
            template: its name.
            here: the address of the section that it belongs to.
            live: whether it asks for itself again whenever something changes.
            status: of HTTP.
            **values: what it shows.
        """
        cookie, signed_in = self.request.cookies.get(COOKIE), self.caller is not None
        body = pages().render(
            template,
            self.language,
            product="Accord",
            nav=_NAV if signed_in else (),
            here=here,
            events=f"/live?seen={self.seen}" if live else None,
            person=self.person.name if signed_in else None,
            role=self.person.role if signed_in else None,
            session=self.person.session if signed_in else None,
            csrf=csrf_of(cookie) if cookie is not None else "",
            query=self.query,
            **values,
        )
        response = HTMLResponse(body, status, dict(HEADERS))
        if "language" in self.request.query_params:
            response.set_cookie(
                LANGUAGE, self.language.tag, max_age=_YEAR_S, secure=True, samesite="lax"
            )
        return response


def visit(
    request: Request,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> Visit:
    """A request by somebody signed in (a dependency)."""
    return Visit(request, registry, caller, registry.changes.version(EVERYTHING))


def stranger(request: Request, registry: Annotated[Registry, Depends(registry)]) -> Visit:
    """A request by anybody (a dependency)."""
    return Visit(request, registry, None)


Signed = Annotated[Visit, Depends(visit)]
Anybody = Annotated[Visit, Depends(stranger)]


def wants_page(request: Request) -> bool:
    """Whether a failure is answered with a page: where a browser goes, the API's paths but one."""
    path = request.url.path
    return (
        request.method == "GET"
        and (path == CALLBACK or not path.startswith("/v1/"))
        and "text/html" in (request.headers.get("accept", ""))
    )


def failed(request: Request, error: AccordError, status: int) -> Response:
    """Answer a failure on a page: by signing in, by the second factor, or in plain words."""
    way = None
    if isinstance(error, AuthError) and request.url.path != CALLBACK:  # there it says why not
        way = SIGN_IN
    elif error.code == "second-factor-required":
        way = SECOND_FACTOR
    if way is None:
        return Visit(request, request.app.state.registry, None).page(
            "problem.html", "", status=status, error=error
        )
    if "hx-request" in request.headers:  # a redirect would put that page within this one
        return Response(status_code=204, headers={"HX-Redirect": way})
    return RedirectResponse(way, 303)
