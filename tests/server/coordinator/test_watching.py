"""Watching a registry that goes away and comes back; nothing here waits."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from accord_common.api.client import RegistryClient
from accord_common.api.schemas import EventView, RoundView, RunView, StandingView
from accord_common.chain import VerifiedRun
from accord_common.errors import AccordError, PolicyError, TransportError
from accord_common.fields import new_id
from accord_server.coordinator.updates import Update
from accord_server.coordinator.watching import log_lines, watch

RUN, SINCE = new_id(), "2026-01-31T12:00:00Z"
AWAY = TransportError("registry-unreachable", "connection refused")
STALLED = StandingView(code="stalled", message="no aggregator", since=SINCE)


def view(state: str, **changes: Any) -> RunView:
    value = {
        "id": RUN,
        "manifest_hash": "ab" * 32,
        "agreement": "cd" * 32,
        "aggregator": RUN,
        "title": "First",
        "state": state,
        "cause": "",
        "code": "",
        "round": 0,
        "rounds": 2,
        "consents": [],
        "epsilon": [],
        "model": None,
        "metrics": {},
        "stop_requested": None,
        "created": SINCE,
        "updated": SINCE,
    }
    return RunView.model_validate(value | changes)


class Registry:
    """Answers `run` by a script, an error or a view each time."""

    def __init__(self, *script: RunView | AccordError) -> None:
        self._script = list(script)

    def run(self, run: str) -> RunView:
        assert run == RUN
        found = self._script.pop(0)
        if isinstance(found, AccordError):
            raise found
        return found

    def rounds(self, run: str) -> list[RoundView]:
        return []

    def events(self, run: str, after: int = 0, wait_s: float = 0.0) -> list[EventView]:
        return []


def watched(*script: RunView | AccordError) -> tuple[list[Update], list[float]]:
    pauses: list[float] = []
    run = SimpleNamespace(manifest=SimpleNamespace(id=RUN))
    client = cast(RegistryClient, Registry(*script))
    updates = watch(client, cast(VerifiedRun, run), sleep=pauses.append)
    return list(updates), pauses


def test_an_outage_is_told_once_with_what_was_known_and_ends_with_the_next_answer() -> None:
    end = view("failed", code="aggregator-gone", cause="late", unsigned=True)
    updates, pauses = watched(view("running"), *[AWAY] * 9, view("running"), end)
    assert [update.event for update in updates] == ["state", "registry", "registry", "end"]
    away, back = (update.model_dump() for update in updates[1:3])
    assert (away["reachable"], away["code"]) == (False, "registry-unreachable")
    assert away["last"].startswith("running") and back["reachable"] is True
    assert back["since"] == away["since"]
    assert updates[-1].model_dump()["unsigned"] is True
    assert len(pauses) == 9 and max(pauses) <= 15 and sum(pauses) > 9
    assert all(later >= earlier / 2 for earlier, later in pairwise(pauses))


def test_a_log_that_is_followed_outlives_an_outage_and_one_that_is_read_does_not() -> None:
    told: list[AccordError] = []
    script = (view("running"), AWAY, AWAY, view("running"), AWAY, view("completed"))
    client = cast(RegistryClient, Registry(*script))
    lines = log_lines(client, RUN, follow=True, away=told.append, sleep=lambda seconds: None)
    assert list(lines) == [] and told == [AWAY, AWAY]  # once for each outage
    client.events = _raise_away  # type: ignore[method-assign]  # a registry that is away
    with pytest.raises(TransportError):
        list(log_lines(client, RUN, follow=False))


def _raise_away(*_: Any, **__: Any) -> list[EventView]:
    raise AWAY


def test_an_internal_error_may_pass_and_a_refusal_does_not() -> None:
    failing = AccordError("internal-error", "the registry failed")
    updates, _ = watched(failing, view("completed"))
    assert [update.event for update in updates] == ["registry", "registry", "end"]
    with pytest.raises(PolicyError):
        watched(view("running"), PolicyError("wrong-role", "no"))


def test_what_a_run_waits_for_is_told_when_it_changes() -> None:
    waiting = view("running", standing=STALLED)
    updates, _ = watched(view("running"), waiting, waiting, view("running"), view("completed"))
    told = [update.model_dump() for update in updates if update.event == "standing"]
    assert [(item["code"], item["message"]) for item in told] == [
        ("stalled", "no aggregator"),
        (None, "the run goes on"),
    ]
    assert told[0]["since"] == SINCE
