"""What people see while a run goes on."""

import io
from contextlib import redirect_stdout

import pytest

from accord_common.api.schemas import RunView
from accord_common.cli import Format
from accord_common.fields import new_id
from accord_server.cli.options import size
from accord_server.cli.run_text import Screen, state, words_of
from accord_server.coordinator.updates import (
    ContactUpdate,
    EndUpdate,
    LogUpdate,
    RoundUpdate,
    StandingUpdate,
    StateUpdate,
    Update,
)
from accord_server.coordinator.watching import verdict

SINCE = "2026-01-31T12:00:00Z"
VIEW = RunView(
    id=new_id(),
    manifest_hash="ab" * 32,
    agreement="cd" * 32,
    aggregator=new_id(),
    title="First",
    state="running",
    cause="",
    code="",
    round=0,
    rounds=2,
    consents=[],
    epsilon=[],
    model=None,
    metrics={},
    stop_requested=None,
    created="2026-01-31T12:00:00Z",
    updated="2026-01-31T12:00:00Z",
)


def end(**changes: object) -> EndUpdate:
    value = {
        "run": VIEW.id,
        "state": "completed",
        "code": "",
        "cause": "",
        "refused_by": [],
        "refused": {"South": {"round": 2, "code": "budget-exceeded"}},
        "rounds": 2,
        "model": None,
        "metrics": {"auc": 0.975},
        "epsilon": {"North": "1.2"},
    }
    return EndUpdate.model_validate(value | changes)


UPDATES: list[Update] = [
    StateUpdate(state="running", stop_requested=None),
    StandingUpdate(code="stalled", message="no aggregator", since=SINCE),
    ContactUpdate(
        reachable=False,
        code="registry-unreachable",
        message="refused",
        since=SINCE,
        last="running, 1 attempts at rounds",
    ),
    ContactUpdate(reachable=True, code="", message="", since=SINCE, last=""),
    StandingUpdate(code=None, message="the run goes on", since=SINCE),
    LogUpdate(level="warning", message="North is [slow]", created=SINCE),
    RoundUpdate(
        round=1,
        rounds=2,
        attempt=1,
        outcome="completed",
        seconds=0.5,
        sites=["North"],
        lost=[],
        refused={"South": "budget-exceeded"},
        model=None,
        metrics={"auc": 0.9},
        epsilon={"North": "0.6"},
    ),
    end(),
]


def shown(*, live: bool, format_: Format = Format.TEXT) -> str:
    out = io.StringIO()
    with redirect_stdout(out), Screen(format_, VIEW, live=live) as screen:
        for update in UPDATES:
            screen.show(update)
    return out.getvalue()


@pytest.mark.parametrize("live", [False, True])
def test_people_read_the_same_lines_with_and_without_a_terminal(live: bool) -> None:
    text = shown(live=live)
    for words in (
        "running",
        f"no aggregator (since {SINCE}) [stalled]",
        f"the registry does not answer since {SINCE}: refused [registry-unreachable]; known last: "
        "running, 1 attempts at rounds; it is asked again",
        f"the registry answers again; it did not since {SINCE}",
        "the run goes on\n",
        "warning: North is [slow]",
        "round 1/2  0.50 s  attempt 2 completed  refused by South [budget-exceeded]  auc 0.9000  "
        "epsilon North 0.6",
        "completed after 2 rounds  without South from round 2 on [budget-exceeded]  auc 0.9750  "
        "epsilon North 1.2",
    ):
        assert words in text


def test_programs_read_lines_of_json_on_a_terminal_too() -> None:
    lines = shown(live=True, format_=Format.JSON).splitlines()
    told = [line.split('"')[3] for line in lines]
    assert told[:3] == ["state", "standing", "registry"] and told[-3:] == ["log", "round", "end"]


def test_an_end_that_nobody_signed_says_so() -> None:
    found = VIEW.model_copy(
        update={"state": "failed", "code": "aggregator-gone", "cause": "late", "unsigned": True}
    )
    assert "no signed result says so yet" in words_of(end(state="failed", unsigned=True))
    assert "no signed result says so yet" in state(found) and "[aggregator-gone]" in state(found)
    assert "no signed result" not in state(found.model_copy(update={"unsigned": False}))


@pytest.mark.parametrize(
    ("changes", "code", "exit_code"),
    [
        ({"state": "failed", "code": "node-lost", "cause": "South"}, "run-failed", 1),
        ({"state": "stopped", "cause": "asked"}, "run-stopped", 1),
        (
            {"state": "refused", "code": "budget-exceeded", "refused_by": ["North"]},
            "run-refused",
            3,
        ),
    ],
)
def test_an_end_has_an_exit_code(changes: dict[str, object], code: str, exit_code: int) -> None:
    error = verdict(end(**changes))
    assert error is not None and (error.code, error.exit_code) == (code, exit_code)
    assert verdict(end()) is None


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
)
def test_sizes_are_written_for_people(count: int, text: str) -> None:
    assert size(count) == text
