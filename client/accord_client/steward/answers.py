"""Failures as RFC 9457 problems, for the scripts of pages."""

from http import HTTPStatus

from starlette.responses import Response

from accord_common.api.schemas import Problem
from accord_common.errors import AccordError


def problem(error: AccordError, status: HTTPStatus) -> Response:
    """Write an error as a problem."""
    body = Problem(
        type=f"urn:accord:problem:{error.code}",
        title=status.phrase,
        status=status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        error=type(error).__name__,
    )
    return Response(body.model_dump_json(), status, media_type="application/problem+json")
