"""The cookies that a browser gets: of this host alone, over TLS alone, out of scripts' reach."""

from typing import TypeVar

from starlette.responses import Response

from accord_server.registry.access.credentials import COOKIE, DEVICE
from accord_server.registry.access.lockout import new_device
from accord_server.registry.access.tables import PersonRow
from accord_server.registry.context import Registry
from accord_server.registry.sessions.principals import LONGEST

_DEVICE_S = 180 * 86_400
_Answer = TypeVar("_Answer", bound=Response)


def put(response: _Answer, registry: Registry, row: PersonRow, secret: str) -> _Answer:
    """Give a browser its session, and what knows it again as this person's."""
    put_one(response, COOKIE, secret, int(LONGEST.total_seconds()))
    put_one(response, DEVICE, new_device(row, registry.log_key), _DEVICE_S)
    return response


def put_one(response: Response, name: str, value: str, seconds: int) -> None:
    """Set a cookie; Lax, so that a link from a mail or a provider finds people signed in."""
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax"
    )


def drop(response: Response, name: str) -> None:
    """Have a browser forget a cookie."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
