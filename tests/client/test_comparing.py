"""Comparisons at a node: which models are trained and asked, and what is refused."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accord_client.cli.compare import _text
from accord_client.comparing import Comparison, compare
from accord_client.data.rows import open_rows
from accord_client.ended_runs import EndedRun
from accord_client.stores import Stores
from accord_client.training import alone
from accord_common.chain import fetch_run
from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.fields import format_time, now
from accord_common.receipts import RunResult
from accord_common.tables import Encoded
from tests.client.institutions import Aggregator, Institutions, make_institutions

NONE: dict[str, Any] = {"privacy": "none", "site": {"noise_multiplier": "0"}}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Institutions:
    folder = tmp_path_factory.mktemp("three")  # no test charges or answers anything
    return make_institutions(folder, privacy={"non_private": True}, rows=150)


@pytest.fixture
def stores(three: Institutions) -> Iterator[Stores]:
    with three.open(three.parties[0]) as stores:
        keep(stores, "0.4")
        yield stores


def keep(stores: Stores, fraction: str) -> None:
    """Keep so many rows from training."""
    (dataset,) = stores.datasets.all()
    stores.datasets.update(dataset, policy=dataset.policy, validation=fraction)


def ended(three: Institutions, manifest: Envelope) -> EndedRun:
    """A run as it would be fetched; it left a model that tells the classes of the tables apart."""
    run = fetch_run(three.lookup(manifest, three.world.agreement_envelope), manifest.hash)
    model = np.array([1, 1, 0], np.float32)
    result = RunResult(
        previous=manifest.hash,
        manifest=manifest.hash,
        status="completed",
        cause="",
        code="",
        rounds=3,
        refused={},
        model="ab" * 32,
        epsilon=[],
        created=format_time(now()),
    )
    return EndedRun(run, result, Aggregator.of(three, manifest).model, model)


def compared(stores: Stores, *runs: EndedRun, private: bool = False) -> Comparison:
    return compare(stores, runs, repeats=2, private=private, report=lambda text: None, draws=20)


def refusal(stores: Stores, *runs: EndedRun) -> str:
    with pytest.raises(AccordError) as caught:
        compared(stores, *runs)
    return caught.value.code


def test_runs_that_differ_in_privacy_share_one_training_alone(
    three: Institutions, stores: Stores
) -> None:
    head = stores.ledger.head
    private, exposed = (ended(three, three.manifest(**changes)) for changes in ({}, NONE))
    found = compared(stores, private, exposed)
    assert [(model.kind, model.privacy, model.trainings) for model in found.models] == [
        ("federated", "dp", 1),
        ("local", "none", 2),
        ("federated", "none", 1),
    ]
    first, alone, second = (model.name for model in found.models)
    assert [(item.question, item.model, item.other) for item in found.differences] == [
        ("privacy", second, first),
        ("joining", first, alone),
        ("joining", second, alone),
    ]
    assert found.training_rows + found.validation_rows == 150 and found.validation_rows > 30
    assert set(found.differences[0].metrics) == {"auc", "accuracy"}
    assert found.differences[0].metrics["auc"].value == 0  # the same model in this test
    text = _text(found)
    for number, model in enumerate(found.models, 1):
        assert f"\n{number}  {model.name}" in text
    assert "what privacy cost  3 less 1  +0.0000 [+0.000, +0.000]" in text
    assert "what joining gave  1 less 2" in text and "nothing was charged" in text
    assert stores.ledger.head == head


def test_noise_alone_is_trained_where_it_is_asked_for_and_other_constants_apart(
    three: Institutions, stores: Stores
) -> None:
    longer = three.manifest(rounds=2, site={"noise_multiplier": "9"})
    found = compared(stores, ended(three, three.manifest()), ended(three, longer), private=True)
    kinds = [(model.kind, model.privacy) for model in found.models]
    assert kinds == 2 * [("federated", "dp"), ("local", "none"), ("local", "dp")]
    assert len({model.name for model in found.models}) == 6
    asked = [item.question for item in found.differences]
    assert asked.count("joining") == 4 and asked.count("privacy") == 4


def test_training_alone_sees_no_validation_row(
    three: Institutions, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Encoded] = []
    real = alone.train_alone

    def spy(*arguments: Any) -> NDArray[np.float32]:
        trained.append(arguments[3])
        return real(*arguments)

    monkeypatch.setattr(alone, "train_alone", spy)
    found = compared(stores, ended(three, three.manifest()))
    (dataset,) = stores.datasets.all()
    rows = open_rows(dataset, frozenset())
    assert rows.validation is not None and found.validation_rows == rows.validation.rows
    assert len(trained) == 2
    for table in trained:
        assert np.array_equal(table.features, rows.train.features)


def test_what_cannot_be_compared_is_refused(three: Institutions, stores: Stores) -> None:
    run = ended(three, three.manifest())
    assert refusal(stores, run, run) == "run-repeated"
    other = ended(three, three.manifest(task={"name": "tabular-multiclass"} | _code(run)))
    assert refusal(stores, run, other) == "different-tasks"
    strange = ended(three, three.manifest(layout="ab" * 32))
    assert refusal(stores, strange) == "layout-does-not-follow"
    keep(stores, "0")
    assert refusal(stores, run) == "no-validation-rows"


def _code(run: EndedRun) -> dict[str, str]:
    code = run.run.manifest.task.model_dump()
    return {key: code[key] for key in ("distribution", "version", "code_hash")}
