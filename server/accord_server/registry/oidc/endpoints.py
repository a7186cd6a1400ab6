"""`/v1/oidc`: signing in with the institution's own accounts."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, Response

from accord_common.api.access_schemas import OidcInfo, OidcLogin, OidcRequest
from accord_server.registry.auth import anyone, require_own_origin
from accord_server.registry.context import Registry, registry
from accord_server.registry.oidc import service
from accord_server.registry.oidc.provider import refused
from accord_server.registry.sessions import cookies

CALLBACK = "/v1/oidc/callback"
# A page rather than a redirect: the way from another site ends here, so that the next request is
# the registry's own. It goes nowhere else, whatever the query says.
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta http-equiv="refresh" content="0;url=/"><title>Accord</title></head>'
    '<body><a href="/">Accord</a></body></html>'
)
_Part = Annotated[str, Query(max_length=2000)]

router = APIRouter(tags=["oidc"], dependencies=[Depends(anyone)])


@router.get("/v1/oidc", summary="Whether there is a provider to sign in with")
async def info(registry: Annotated[Registry, Depends(registry)]) -> OidcInfo:
    """Its name for people."""
    return OidcInfo(name=None if (oidc := registry.settings.oidc) is None else oidc.name)


@router.post("/v1/oidc/logins", status_code=201, summary="Go to the provider")
async def begin(
    body: OidcRequest,
    request: Request,
    response: Response,
    registry: Annotated[Registry, Depends(registry)],
) -> OidcLogin:
    """Where the browser goes; an invitation's code links the account there to the person."""
    require_own_origin(request, registry.settings.url, always=False)
    address, browser = await service.begin(registry, body.code)
    cookies.put_one(response, service.BROWSER, browser, int(service.LASTS.total_seconds()))
    return OidcLogin(url=address)


@router.get(CALLBACK, summary="Come back from the provider", response_class=HTMLResponse)
async def finish(
    request: Request,
    registry: Annotated[Registry, Depends(registry)],
    state: _Part,
    code: _Part = "",
    error: _Part = "",
    iss: _Part = "",
) -> Response:
    """Sets the session's cookie and goes to the first page."""
    oidc = registry.settings.oidc
    if error or (iss and oidc is not None and iss != oidc.issuer):  # RFC 9207
        raise refused("it said no, or another provider answered")
    browser = request.cookies.get(service.BROWSER)
    row, cookie = await service.finish(registry, code, state, browser, request)
    response = HTMLResponse(_PAGE)
    cookies.drop(response, service.BROWSER)
    return cookies.put(response, registry, row, cookie)
