"""Every failure leaves as an RFC 9457 problem with a stable code; none leaves with a traceback."""

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from accord_common.api.schemas import Problem
from accord_common.errors import (
    AccordError,
    AuthError,
    ConflictError,
    FormatError,
    LimitError,
    NotFoundError,
    PolicyError,
    TransportError,
    UsageError,
)
from accord_common.room import NO_SPACE
from accord_server.registry.faults import FULL, DatabaseFault, full
from accord_server.registry.web.visit import failed, wants_page

_log = structlog.get_logger("accord.registry")

# What starlette refuses by itself: its status, our code.
_CODES: dict[int, tuple[str, type[AccordError]]] = {
    400: ("bad-request", UsageError),
    401: ("no-token", AuthError),
    403: ("forbidden", PolicyError),
    404: ("no-such-path", NotFoundError),
    405: ("no-such-method", UsageError),
    409: ("conflict", ConflictError),
    413: ("too-large", FormatError),
    416: ("bad-range", UsageError),
    422: ("bad-request", UsageError),
    503: ("unavailable", TransportError),
}

EXAMPLE = Problem(
    type="urn:accord:problem:leased",
    title="Conflict",
    status=409,
    detail="run 0197... is driven by aggregator-7 until 2026-01-31T12:00:30Z",
    code="leased",
    hint="Wait until the lease ends.",
    error="ConflictError",
)


def install(app: FastAPI) -> None:
    """Make `app` answer every failure as a problem."""

    async def accord(request: Request, error: Exception) -> Response:
        assert isinstance(error, AccordError)
        if error.code != FULL:
            return told(request, error)
        _log.error("disk-full", path=request.url.path, why=str(error.__cause__))
        return told(request, error, HTTPStatus.INSUFFICIENT_STORAGE)

    async def database(request: Request, error: Exception) -> Response:
        assert isinstance(error, DatabaseFault)
        if error.code != FULL:
            _log.error("database", path=request.url.path, code=error.code, cause=error.message)
        return await accord(request, error.told)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, kind = _CODES.get(error.status_code, ("bad-request", UsageError))
        shown = kind(code, str(error.detail))
        return told(request, shown, HTTPStatus(error.status_code), error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        shown = UsageError("bad-request", f"{where}: {first['msg']}")  # never the value: a secret?
        return told(request, shown, HTTPStatus.UNPROCESSABLE_ENTITY)

    async def storing(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)
        if error.errno not in NO_SPACE:
            return await unexpected(request, error)
        return await accord(request, full(error))

    async def unexpected(request: Request, error: Exception) -> Response:
        _log.error("failed", path=request.url.path, exc_info=error)
        shown = AccordError("internal-error", "the registry failed", hint="See its log.")
        return told(request, shown, HTTPStatus.INTERNAL_SERVER_ERROR)

    app.add_exception_handler(AccordError, accord)
    app.add_exception_handler(DatabaseFault, database)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(OSError, storing)
    app.add_exception_handler(Exception, unexpected)


def told(
    request: Request,
    error: AccordError,
    status: HTTPStatus | None = None,
    headers: object = None,
) -> Response:
    """Answer with an error: a page for a person, else a problem."""
    status = error.status if status is None else status
    if wants_page(request):
        return failed(request, error, status)
    return problem(error, status, headers)


def problem(error: AccordError, status: HTTPStatus, headers: object = None) -> Response:
    """Write an error as a problem."""
    body = Problem.of(error, status)
    extra = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else {}
    if isinstance(error, LimitError):
        extra["Retry-After"] = str(error.retry_s)
    return Response(
        body.model_dump_json(),
        status,
        media_type="application/problem+json",
        headers=extra | (dict(headers) if isinstance(headers, dict) else {}),
    )
