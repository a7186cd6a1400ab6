"""What a watcher with public rows tells the registry's pages of each round."""

from types import SimpleNamespace
from typing import Any

import pytest

from accord_common.api.score_schemas import ScoreRequest
from accord_common.errors import AccordError, PolicyError, TransportError
from accord_server.coordinator.session import Session
from accord_server.coordinator.updates import RoundUpdate


def session(said: list[tuple[str, ScoreRequest]], refusal: AccordError | None = None) -> Session:
    """One with ten public rows, that tells a list."""

    def tell_score(run: str, score: ScoreRequest) -> None:
        if refusal is not None:
            raise refusal
        said.append((run, score))

    made = Session.__new__(Session)
    vars(made).update(
        run=SimpleNamespace(manifest=SimpleNamespace(id="the run")),
        _client=SimpleNamespace(tell_score=tell_score),
        _rows=SimpleNamespace(file_hash="ee" * 32, table=SimpleNamespace(rows=10)),
    )
    return made


def update(**metrics: float) -> RoundUpdate:
    value: dict[str, Any] = {
        "round": 3,
        "rounds": 5,
        "attempt": 0,
        "outcome": "completed",
        "seconds": 1.0,
        "sites": [],
        "lost": [],
        "refused": {},
        "model": "ab" * 32,
        "metrics": metrics,
        "epsilon": {},
    }
    return RoundUpdate.model_validate(value)


def test_each_round_is_told_once_with_what_a_record_may_hold() -> None:
    said: list[tuple[str, ScoreRequest]] = []
    session(said).tell(update(auc=0.12345678, loss=float("nan")))
    ((run, score),) = said
    assert run == "the run" and score.metrics == {"auc": "0.123457"}
    assert (score.round, score.rows, score.holdout) == (2, 10, "ee" * 32)


def test_nothing_is_told_of_a_round_without_figures() -> None:
    said: list[tuple[str, ScoreRequest]] = []
    session(said).tell(update())
    session(said).tell(update(loss=float("inf")))
    session(said).tell(update(auc=0.5).model_copy(update={"model": None}))
    assert not said


def test_a_registry_that_is_away_ends_no_watch() -> None:
    session([], TransportError("registry-unreachable", "no route")).tell(update(auc=0.5))
    with pytest.raises(PolicyError):  # what lasts is said
        session([], PolicyError("wrong-role", "no")).tell(update(auc=0.5))
