"""Failures as RFC 9457 problems, for the scripts of pages."""

from http import HTTPStatus

from starlette.responses import Response

from accord_common.api.schemas import Problem
from accord_common.errors import AccordError
from accord_common.web.languages import title


def problem(error: AccordError, status: HTTPStatus, accepted: str | None) -> Response:
    """Write an error as a problem, titled in the page's language (Accept-Language)."""
    titled, language = title(error, status, accepted)
    body = Problem.of(error, status, titled)
    return Response(
        body.model_dump_json(),
        status,
        {"Content-Language": language.tag},
        media_type="application/problem+json",
    )
