"""Failures as RFC 9457 problems, for the scripts of pages."""

from http import HTTPStatus

from starlette.responses import Response

from accord_common.api.schemas import Problem
from accord_common.errors import AccordError


def problem(error: AccordError, status: HTTPStatus) -> Response:
    """Write an error as a problem."""
    body = Problem.of(error, status)
    return Response(body.model_dump_json(), status, media_type="application/problem+json")
