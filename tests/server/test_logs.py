"""What the servers log of a failure: where it was, and no secret that lay about there."""

import json
import logging
import secrets
from collections.abc import Iterator

import pytest
import structlog

from accord_server.logs import log_as_json


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    log_as_json()
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def enrol(code: str) -> None:
    body = {"code": code}
    raise ValueError(f"no such code: {body}")


def test_an_exception_is_told_by_its_place_without_words_or_variables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = secrets.token_urlsafe()
    try:
        enrol(secret)
    except ValueError as error:
        structlog.get_logger("accord.registry").error("failed", path="/v1", exc_info=error)
        logging.getLogger("a library").error("failed too", exc_info=error)
    lines = capsys.readouterr().err.splitlines()
    for told, event in zip(map(json.loads, lines), ("failed", "failed too"), strict=True):
        assert (told["event"], told["level"]) == (event, "error")
        (seen,) = told["exception"]
        assert seen["type"] == "ValueError" and seen["at"][-1].endswith(" in enrol")
    assert secret not in "".join(lines)


def test_each_line_is_one_object_and_libraries_only_warn(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.get_logger("accord.registry").info("request", path="/v1")
    structlog.get_logger("accord.registry").debug("detail")
    logging.getLogger("a library").info("chatter")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line).items() >= {"event": "request", "path": "/v1"}.items()
