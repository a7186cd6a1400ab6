"""Weights are what their hash names, and only what the manifest's architecture can hold."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from accord_common.canonical import Json, canonical_bytes, sha256_hex
from accord_common.errors import AccordError
from accord_common.manifest import Architecture, RunManifest, model_hash
from accord_common.models.discovery import load_task
from accord_common.models.flat import get_vector, layout_of
from accord_common.schema import TableSchema
from accord_server.coordinator.plan_file import PlanFile
from accord_server.coordinator.weights import (
    Model,
    initial_weights,
    load_holdout,
    model_facts,
    read_base,
)
from tests.common.test_pictures import schema as of_images
from tests.common.test_words import schema as of_texts
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
    other = TableSchema.model_validate(SCHEMA.model_dump() | {"minimum_rows": 21})
    with pytest.raises(AccordError, match="wrong-schema"):
        Model(manifest, other, no_blob)
    with pytest.raises(AccordError, match="wrong-layout"):
        Model(manifest.model_copy(update={"layout": "ab" * 32}), SCHEMA, no_blob)


def test_public_rows_are_checked_like_private_ones(tmp_path: Path) -> None:
    with pytest.raises(AccordError, match="unreadable-file"):
        load_holdout(tmp_path / "absent.csv", SCHEMA)
    table = tmp_path / "rows.csv"
    table.write_text("radius,texture,malignant\n" + "99,1,0\n" * 30)
    with pytest.raises(AccordError, match="out-of-range"):
        load_holdout(table, SCHEMA)
    (tmp_path / "rows.json").write_text("")
    with pytest.raises(AccordError, match="unknown-format"):
        load_holdout(tmp_path / "rows.json", SCHEMA)


def test_public_pictures_and_texts_are_rows_too(tmp_path: Path) -> None:
    lines = tmp_path / "rows.txt"
    lines.write_text("1 how far\n")
    assert load_holdout(lines, of_texts()).file_hash == sha256_hex(lines.read_bytes())
    picture = tmp_path / "chest" / "1" / "a.png"
    picture.parent.mkdir(parents=True)
    Image.new("L", (8, 6)).save(picture)
    found = load_holdout(tmp_path / "chest", of_images(minimum_rows=1))
    row: Json = ["1/a.png", "1", None, sha256_hex(picture.read_bytes())]
    assert found.table.rows == 1 and found.file_hash == sha256_hex(canonical_bytes(row))
    with pytest.raises(AccordError, match="too-few-rows"):
        load_holdout(tmp_path / "chest", of_images())


def adapting(**adapt: Any) -> PlanFile:
    return PlanFile.model_validate(PLAN.model_dump() | {"adapt": adapt})


@pytest.mark.parametrize(
    ("adapt", "dimension"),
    [
        ({"freeze": ["0"]}, 4),
        ({"lora": {"rank": 2, "layers": ["0"]}}, 2 * (2 + 3) + 4),
        ({"freeze": ["2"], "lora": {"rank": 1, "layers": ["0"]}}, 5),
    ],
)
def test_an_adapted_run_is_scored_and_exported_as_the_whole_model(
    tmp_path: Path, adapt: dict[str, Any], dimension: int
) -> None:
    plan, world = adapting(**adapt), make_world()
    facts = model_facts(plan, SCHEMA)
    (base, start), named = initial_weights(plan, SCHEMA, facts)
    assert (facts.dimension, len(start), len(base)) == (dimension, 4 * dimension, 4 * 13)
    assert named.adaptation is not None and named.adaptation.base == model_hash(base)
    body = world.manifest_body(
        world.run_keys(),
        architecture={"name": "mlp", "args": {"hidden": [3]}},
        layout=named.layout,
        dimension=named.dimension,
        initial_model=named.initial,
        adaptation=named.adaptation.model_dump(),
    )
    plain = manifest_of_all(base)
    rows = tmp_path / "rows.csv"
    rows.write_text("radius,texture,malignant\n" + "14,19,0\n30,40,1\n" * 10)
    holdout = load_holdout(rows, SCHEMA)
    model = Model(body, SCHEMA, {model_hash(base): base}.__getitem__)
    assert model.score(start, holdout) == Model(plain, SCHEMA, no_blob).score(base, holdout)

    out = tmp_path / "model.safetensors"
    moved = np.frombuffer(start, "<f4") + np.float32(0.5)
    model.export(moved.tobytes(), out, {})
    again = adapting(base=str(out), **adapt)
    whole = read_base(
        out, layout_of(load_task("tabular-binary").build("mlp", {"hidden": [3]}, SCHEMA))
    )
    assert initial_weights(again, SCHEMA, model_facts(again, SCHEMA))[0][0] == whole.tobytes()
    after = Model(plain, SCHEMA, no_blob).score(whole.tobytes(), holdout)
    assert after == model.score(moved.tobytes(), holdout)
    assert get_vector(model.whole(moved.tobytes())).tobytes() == whole.tobytes()


def manifest_of_all(base: bytes) -> RunManifest:
    """A run of the same architecture that trains everything."""
    world, facts = make_world(), model_facts(PLAN, SCHEMA)
    return world.manifest_body(
        world.run_keys(),
        architecture={"name": "mlp", "args": {"hidden": [3]}},
        layout=facts.layout,
        dimension=facts.dimension,
        initial_model=model_hash(base),
    )


@pytest.mark.parametrize(
    ("adapt", "code"),
    [
        ({"freeze": ["9"]}, "unknown-layer"),
        ({"freeze": ["0", "2"]}, "nothing-to-train"),
        ({"lora": {"rank": 9, "layers": ["0"]}}, "rank-out-of-range"),
        ({"lora": {"rank": 1, "layers": ["1"]}}, "not-linear"),
        ({"freeze": ["no such name"]}, "bad-plan"),
        ({"freeze": ["0"], "base": "absent.safetensors"}, "bad-base"),
    ],
)
def test_a_plan_that_cannot_be_adapted_is_refused_before_anything_is_made(
    adapt: dict[str, Any], code: str
) -> None:
    with pytest.raises(AccordError) as caught:
        model_facts(adapting(**adapt), SCHEMA)
    assert caught.value.code == code


def test_a_base_must_hold_the_architectures_arrays_and_numbers(tmp_path: Path) -> None:
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (1, 3), "2.bias": (1,)}
    good = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    path = tmp_path / "base.safetensors"
    for arrays in (
        {name: good[name] for name in list(good)[1:]},
        good | {"2.bias": np.ones(2, np.float32)},
        good | {"2.bias": np.ones(1, np.float64)},
        good | {"2.bias": np.full(1, np.nan, np.float32)},
    ):
        save_file(arrays, path)
        with pytest.raises(AccordError, match="bad-base"):
            model_facts(adapting(freeze=["0"], base=str(path)), SCHEMA)
    path.write_bytes(b"\x80\x04pickled")
    with pytest.raises(AccordError, match="bad-base"):
        model_facts(adapting(freeze=["0"], base=str(path)), SCHEMA)
    save_file(good, path)
    assert model_facts(adapting(freeze=["0"], base=str(path)), SCHEMA).dimension == 4


def test_an_adaptation_that_adapts_nothing_is_no_plan() -> None:
    nothing: list[dict[str, Any]] = [{}, {"base": "x"}, {"freeze": []}]
    for adapt in (*nothing, {"lora": {"rank": 1, "layers": []}}):
        with pytest.raises(ValueError):
            adapting(**adapt)
