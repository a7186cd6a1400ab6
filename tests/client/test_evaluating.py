"""One model on a node's own rows: whose it is, what it scores, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest
from safetensors.numpy import save_file

from accord_client import evaluating
from accord_client.cli.evaluate import _text
from accord_client.datasets import LocalDataset
from accord_client.evaluating import Candidate, Evaluated
from accord_client.stores import Stores
from accord_common.api.client import RegistryClient
from accord_common.chain import VerifiedRun, fetch_run
from accord_common.errors import AccordError, PolicyError
from accord_common.fields import format_time, now
from accord_common.manifest import model_hash
from accord_common.receipts import RunResult
from tests.client.institutions import Institutions, make_institutions

MODEL = np.array([1, 1, -65], np.float32)  # what the tables' labels are made by
REGISTRY = create_autospec(RegistryClient)  # nothing is asked of it: records come from the test


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Institutions:
    return make_institutions(tmp_path_factory.mktemp("three"), rows=80)


@pytest.fixture
def stores(three: Institutions) -> Iterator[Stores]:
    with three.open(three.parties[0]) as stores:
        (dataset,) = stores.datasets.all()
        stores.datasets.update(dataset, policy=dataset.policy, validation="0.4")
        yield stores


@pytest.fixture
def ended(three: Institutions, monkeypatch: pytest.MonkeyPatch) -> Callable[..., VerifiedRun]:
    """Make a run that ended with MODEL, as it would be verified, and its model fetched."""

    def end(**changes: Any) -> VerifiedRun:
        manifest = three.manifest(**changes)
        run = fetch_run(three.lookup(manifest, three.world.agreement_envelope), manifest.hash)
        result = RunResult(
            previous=manifest.hash,
            manifest=manifest.hash,
            status="completed",
            cause="",
            code="",
            rounds=3,
            refused={},
            model=model_hash(MODEL.tobytes()),
            epsilon=[],
            created=format_time(now()),
        )
        monkeypatch.setattr(evaluating, "verified_end", lambda *_: (run, result))
        monkeypatch.setattr(evaluating, "fetch_vector", lambda *_: MODEL)
        return run

    return end


def written(folder: Path, run: VerifiedRun | None, vector: np.ndarray[Any, Any] = MODEL) -> Path:
    """A file as `accord model download` writes it."""
    file = folder / "model.safetensors"
    facts = {} if run is None else {"run": run.manifest.id}
    arrays = {"0.weight": vector[:2].reshape(1, 2).copy(), "0.bias": vector[2:].copy()}
    save_file(arrays, file, facts)
    return file


def dataset_of(stores: Stores) -> LocalDataset:
    (dataset,) = stores.datasets.all()
    return dataset


def scored(stores: Stores, candidate: Candidate) -> Evaluated:
    return evaluating.evaluate(stores.datasets, dataset_of(stores), candidate, draws=20)


def refusal(stores: Stores, model: str | Path) -> str:
    with pytest.raises(AccordError) as caught:
        evaluating.of_run(stores, REGISTRY, dataset_of(stores).table, str(model))
    return caught.value.code


def test_a_runs_file_and_the_run_itself_score_alike(
    stores: Stores, ended: Callable[..., VerifiedRun], tmp_path: Path
) -> None:
    run, table = ended(), dataset_of(stores).table
    file, head = written(tmp_path, run), stores.ledger.head
    by_file = scored(stores, evaluating.of_run(stores, REGISTRY, table, str(file)))
    by_run = scored(stores, evaluating.of_run(stores, REGISTRY, table, run.manifest.id))
    assert by_file == by_run
    assert by_file.verified and by_file.model == model_hash(MODEL.tobytes())
    auc = by_file.metrics["auc"]
    assert auc.low <= auc.value <= auc.high and auc.value > 0.9 and by_file.validation_rows > 15
    assert f"of run {run.manifest.id}, verified" in _text(by_file)
    assert stores.ledger.head == head


def test_a_file_that_is_not_the_runs_model_is_refused(
    stores: Stores, ended: Callable[..., VerifiedRun], tmp_path: Path
) -> None:
    run = ended()
    assert refusal(stores, written(tmp_path, run, MODEL + 1)) == "wrong-model"
    assert refusal(stores, written(tmp_path, None)) == "unknown-run-of-file"
    assert refusal(stores, tmp_path / "other.safetensors") == "no-such-file"
    pickled = tmp_path / "model.pt"
    pickled.write_bytes(b"\x80\x04.")
    assert refusal(stores, pickled) == "not-weights"
    ended(schema_hash="ab" * 32)
    assert refusal(stores, written(tmp_path, run)) == "wrong-schema"


def test_a_run_under_an_agreement_of_others_is_refused(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unsigned(*_: object) -> None:
        raise PolicyError("agreement-not-signed", "this node did not sign it")

    monkeypatch.setattr(evaluating, "verified_end", unsigned)
    assert refusal(stores, "0192f0c1") == "agreement-not-signed"


def test_a_file_of_anybodys_is_scored_as_what_it_is_named_and_unverified(
    stores: Stores, tmp_path: Path
) -> None:
    table, file = dataset_of(stores).table, written(tmp_path, None)
    named = ("tabular-binary", "logistic-regression")
    found = scored(stores, evaluating.of_file(file, table, *named, {}))
    assert (found.verified, found.run, found.model) == (False, None, None)
    assert "NOT VERIFIED" in _text(found)
    with pytest.raises(AccordError, match=r"\[bad-arrays\]"):
        evaluating.of_file(file, table, "tabular-binary", "mlp", {"hidden": [2]})


def test_without_validation_rows_nothing_is_scored(stores: Stores, tmp_path: Path) -> None:
    dataset = dataset_of(stores)
    stores.datasets.update(dataset, policy=dataset.policy, validation="0")
    file = written(tmp_path, None)
    candidate = evaluating.of_file(file, dataset.table, "tabular-binary", "logistic-regression", {})
    with pytest.raises(AccordError, match=r"\[no-validation-rows\]"):
        scored(stores, candidate)
