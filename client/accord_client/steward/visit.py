"""One request for a page, or for a change: who asks, in which language, how it is answered.

Guarantees: nothing is shown or changed without a session but `/enter` and the assets; a change also
needs the session's token, which only this page's own script can send. No address of a request is
ever a place to go to.
"""

import hmac
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from accord_client.steward.answers import problem
from accord_client.steward.door import Session
from accord_client.steward.node import Node
from accord_common.errors import AccordError, AuthError, PolicyError
from accord_common.web.languages import COOKIE as LANGUAGE
from accord_common.web.languages import Language, choose
from accord_common.web.looks import N_
from accord_common.web.rendering import HEADERS, Pages

ENTER = "/enter"
_YEAR_S = 365 * 86_400
_NAV = (
    ("/", N_("Home")),
    ("/decisions", N_("Decisions")),
    ("/budgets", N_("Budgets")),
    ("/sent", N_("What left")),
    ("/agreements", N_("Agreements")),
)


@cache
def pages() -> Pages:
    """The templates, read once."""
    return Pages(["accord_client.steward"])


class Visit:
    """A request, and what all requests share."""

    def __init__(self, request: Request) -> None:
        self.request = request
        node = request.app.state.node
        assert isinstance(node, Node)
        self.node = node

    @property
    def cookie(self) -> str:
        """Its name; cookies are not kept apart by port, and a machine may have several nodes."""
        return f"accord-steward-{self.request.scope['server'][1]}"

    @property
    def language(self) -> Language:
        """The one asked for in the address, else the cookie's, else the browser's."""
        wanted = self.request.query_params.get("language", self.request.cookies.get(LANGUAGE))
        return choose(wanted, self.request.headers.get("accept-language"))

    def session(self, *, step: bool = True) -> Session:
        """Who asks; a page that asks for itself again is no step of a person's.

        Raises:
            AuthError: `signed-out`.
        """
        step = step and "hx-request" not in self.request.headers
        return self.node.door.session(self.request.cookies.get(self.cookie), step=step)

    def require_token(self) -> None:
        """Refuse a change that another page might have caused.

        Raises:
            AuthError: `signed-out`.
            PolicyError: `bad-csrf-token`.
        """
        sent = self.request.headers.get("x-csrf-token", "")
        if not hmac.compare_digest(self.session().csrf.encode(), sent.encode()):
            raise PolicyError("bad-csrf-token", "the page is older than this session: load it anew")

    def page(
        self,
        template: str,
        here: str,
        *,
        session: Session | None = None,
        live: bool = False,
        status: int = 200,
        **values: Any,
    ) -> Response:
        """Answer with a template.

        Args:
            template: its name.
            here: the address of the section that it belongs to.
            session: who sees it; None for nobody known.
            live: whether it asks for itself again whenever something changes.
            status: of HTTP.
            **values: what it shows.
        """
        body = pages().render(
            template,
            self.language,
            product="Accord",
            nav=_NAV if session is not None else (),
            here=here,
            events="/live" if live else None,
            signed_in=session is not None,
            csrf="" if session is None else session.csrf,
            at=self.node.given,
            **values,
        )
        response = HTMLResponse(body, status, dict(HEADERS))
        if "language" in self.request.query_params:
            response.set_cookie(LANGUAGE, self.language.tag, max_age=_YEAR_S, samesite="lax")
        return response


def failed(request: Request, error: AccordError) -> Response:
    """Answer a failure: by the door, in plain words on a page, or as a problem for a script."""
    within = "hx-request" in request.headers  # a page asks for itself again
    reads = within or "text/html" in request.headers.get("accept", "")
    if request.method != "GET" or not reads:
        return problem(error, error.status, request.headers.get("accept-language"))
    if isinstance(error, AuthError):
        if within:  # a redirect would put that page within this one
            return Response(status_code=204, headers={"HX-Redirect": ENTER})
        return RedirectResponse(ENTER, 303)
    visit = Visit(request)
    try:
        session = visit.session()
    except AuthError:
        session = None
    return visit.page("problem.html", "", session=session, status=error.status, error=error)
