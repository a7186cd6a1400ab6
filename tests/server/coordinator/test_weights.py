"""Weights are what their hash names, and only what the manifest's architecture can hold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from accord_common.errors import AccordError
from accord_common.manifest import Architecture, RunManifest, model_hash
from accord_common.schema import Schema
from accord_server.coordinator.plan_file import PlanFile
from accord_server.coordinator.weights import Model, initial_weights, load_holdout, model_facts
from tests.world import SCHEMA, make_world

PLAN = PlanFile.model_validate(
    {
        "agreement": "Tumour screening",
        "task": "tabular-binary",
        "architecture": {"name": "mlp", "hidden": [3]},
        "rounds": 1,
        "epsilon": 1,
        "sampling_rate": 0.1,
        "steps": 1,
        "learning_rate": 0.5,
        "clipping_norm": 1,
    }
)


def no_blob(name: str) -> bytes:
    raise AssertionError(f"asked for {name}")


@pytest.fixture(scope="module")
def manifest() -> RunManifest:
    world = make_world()
    facts = model_facts(PLAN, SCHEMA)
    body = world.manifest_body(world.run_keys())
    architecture = Architecture(name="mlp", args={"hidden": [3]})
    changes = {
        "architecture": architecture,
        "layout": facts.layout,
        "dimension": facts.dimension,
    }
    return body.model_copy(update=changes)


def test_initial_weights_follow_from_the_public_seed() -> None:
    facts = model_facts(PLAN, SCHEMA)
    assert facts.dimension == 2 * 3 + 3 + 3 + 1
    (data,), named = initial_weights(PLAN, SCHEMA, facts)
    assert len(data) == 4 * facts.dimension and named.initial == model_hash(data)
    assert initial_weights(PLAN, SCHEMA, facts)[0] == [data]
    other = PLAN.model_copy(update={"seed": 1})
    assert initial_weights(other, SCHEMA, facts)[0] != [data]
    assert replace(named, initial=facts.initial) == facts


def test_an_export_names_its_tensors_and_where_it_comes_from(
    manifest: RunManifest, tmp_path: Path
) -> None:
    weights = np.arange(manifest.dimension, dtype="<f4").tobytes()
    out = tmp_path / "model.safetensors"
    Model(manifest, SCHEMA, no_blob).export(weights, out, {"agreement": "ab" * 32})
    with safe_open(out, framework="numpy") as file:
        header = file.metadata()
        arrays = [file.get_tensor(name) for name in file.keys()]
    assert sum(array.size for array in arrays) == manifest.dimension
    assert header["model"] == model_hash(weights) and header["agreement"] == "ab" * 32
    assert json.loads(header["arguments"]) == {"hidden": [3]}


def test_weights_of_another_size_are_refused(manifest: RunManifest, tmp_path: Path) -> None:
    with pytest.raises(AccordError, match="wrong-model-size"):
        Model(manifest, SCHEMA, no_blob).export(b"\0" * 8, tmp_path / "x.safetensors", {})
    assert not (tmp_path / "x.safetensors").exists()


def test_another_schema_or_layout_is_refused(manifest: RunManifest) -> None:
    with pytest.raises(AccordError, match="wrong-schema"):
        Model(manifest, Schema.model_validate(SCHEMA.model_dump() | {"minimum_rows": 21}), no_blob)
    with pytest.raises(AccordError, match="wrong-layout"):
        Model(manifest.model_copy(update={"layout": "ab" * 32}), SCHEMA, no_blob)


def test_public_rows_are_checked_like_private_ones(tmp_path: Path) -> None:
    with pytest.raises(AccordError, match="unreadable-file"):
        load_holdout(tmp_path / "absent.csv", SCHEMA)
    table = tmp_path / "rows.csv"
    table.write_text("radius,texture,malignant\n" + "99,1,0\n" * 30)
    with pytest.raises(AccordError, match="out-of-range"):
        load_holdout(table, SCHEMA)
    (tmp_path / "rows.txt").write_text("")
    with pytest.raises(AccordError, match="unknown-format"):
        load_holdout(tmp_path / "rows.txt", SCHEMA)
