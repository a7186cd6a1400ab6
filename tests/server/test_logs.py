"""What the servers log of a failure: where it was, and no secret that lay about there."""

import json
import logging
import secrets
import threading
import warnings
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy
import structlog

from accord_server.logs import log_as_json
from tests.logging_state import logs_restored


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    with logs_restored():
        log_as_json()
        yield


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


def test_what_nobody_caught_is_a_line_too_and_holds_no_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = f"accord_{secrets.token_urlsafe(32)}"

    def fail() -> None:
        raise ValueError(f"no such token: {secret}")

    thread = threading.Thread(target=fail, name="courier")
    thread.start()
    thread.join()
    warnings.showwarning(f"password={secret}", UserWarning, "a.py", 1)
    raised, warned = map(json.loads, capsys.readouterr().err.splitlines())
    assert (raised["event"], raised["level"], raised["thread"]) == (
        "uncaught",
        "critical",
        "courier",
    )
    assert raised["exception"][0]["at"][-1].endswith(" in fail")
    assert secret not in str(raised)
    assert "password=" in warned["event"] and secret not in warned["event"]


def test_libraries_lines_pass_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    """Addresses and statements' parameters are below what is logged; what is above is redacted."""
    secret = f"accord_{secrets.token_urlsafe(32)}"
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        client.get("https://registry.example.org", headers={"Authorization": f"Bearer {secret}"})
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT :token"), {"token": secret})
    assert capsys.readouterr().err == ""
    for name in ("uvicorn.error", "httpx", "sqlalchemy.engine.Engine", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)  # a server of another test sets it
        try:
            raise ConnectionError(f"postgresql://accord:{secret}@db/accord")
        except ConnectionError:
            logging.getLogger(name).exception("sent %s", {"Authorization": f"Bearer {secret}"})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and secret not in "".join(lines)
    for told in map(json.loads, lines):
        assert told["level"] == "error" and "test_libraries" in str(told["exception"])
