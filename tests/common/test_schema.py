"""The schema record and the file that a person writes."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accord_common.canonical import canonical_bytes
from accord_common.errors import AccordError
from accord_common.schema import TableSchema, from_bytes
from accord_common.schema_file import from_document, load

YAML = """
name: clinic
target: {column: ill, type: binary}
identifier: patient
columns:
  - {name: age, type: integer, minimum: 0, maximum: 120}
  - {name: dose, type: number, minimum: 0.1, maximum: 1e-0, centre: .5, scale: 0.20}
  - {name: stage, type: category, categories: [1, 2, IV]}
"""


def document() -> dict[str, Any]:
    return {
        "name": "clinic",
        "target": {"column": "ill", "type": "binary"},
        "columns": [
            {"name": "age", "type": "integer", "minimum": 0, "maximum": 120},
            {"name": "stage", "type": "category", "categories": ["I", "II", "III"]},
        ],
    }


def test_a_file_becomes_a_record_with_defaults_spelled_out(tmp_path: Path) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text(YAML)
    schema = load(path)
    assert schema.to_json() == {
        "name": "clinic",
        "kind": "table",
        "target": {"column": "ill", "type": "binary", "classes": ["0", "1"]},
        "identifier": "patient",
        "ignored": [],
        "minimum_rows": 20,
        "columns": [
            {
                "name": "age",
                "type": "integer",
                "minimum": "0",
                "maximum": "120",
                "centre": "60",
                "scale": "60",
            },
            {
                "name": "dose",
                "type": "number",
                "minimum": "0.1",
                "maximum": "1",
                "centre": "0.5",
                "scale": "0.2",
            },
            {"name": "stage", "type": "category", "categories": ["1", "2", "IV"]},
        ],
    }
    assert isinstance(schema, TableSchema)
    assert schema.features == ("age", "dose", "stage=2", "stage=IV")
    assert from_bytes(schema.to_bytes()) == schema


def test_yaml_and_json_that_mean_the_same_have_one_hash(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(YAML)
    schema = load(tmp_path / "a.yaml")
    (tmp_path / "a.json").write_text(json.dumps(schema.to_json(), indent=2))
    assert load(tmp_path / "a.json").hash == schema.hash


def test_the_hash_covers_every_constant() -> None:
    base = from_document(document())
    for column, field, value in [(0, "maximum", 121), (0, "centre", 59), (0, "name", "years")]:
        changed = document()
        changed["columns"][column][field] = value
        assert from_document(changed).hash != base.hash


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["columns", 0, "maximum"], 0, "column 'age'.*minimum 0 is not below maximum 0"),
        (["columns", 0, "minimum"], "low", "column 'age', minimum.*decimal"),
        (["columns", 0, "minimum"], float("nan"), "column 'age', minimum.*decimal"),
        (["columns", 0, "scale"], 0, "column 'age'.*scale 0 is not above 0"),
        (["columns", 0, "type"], "date", "column 'age'.*'number', 'integer', 'category'"),
        (["columns", 0, "name"], None, "column number 1, name"),
        (["columns", 0, "nullable"], True, "column 'age', nullable.*not permitted"),
        (["columns", 1, "categories"], ["I", "I"], "column 'stage'.*'I' is named twice"),
        (["columns", 1, "categories"], [True, False], "column 'stage', categories, 0.*string"),
        (["columns", 1, "name"], "age", "column 'age' is named twice"),
        (["columns"], "age", "columns: .*list"),
        (["columns"], [3], "column number 1"),
        (["target", "column"], "age", "column 'age' is named twice"),
        (["target", "classes"], ["a", "b", "c"], "target: a binary target has 2 classes, not 3"),
        (["identifier"], "stage", "column 'stage' is named twice"),
        (["minimum_rows"], 0, "minimum_rows"),
        (["sort"], "age", "sort: Extra"),
    ],
)
def test_each_mistake_is_named(path: list[str | int], value: object, message: str) -> None:
    changed = copy.deepcopy(document())
    place: Any = changed
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(AccordError, match=rf"bad-schema\] .*{message}"):
        from_document(changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "'name' is given twice, the second time in line 2"),
        ("name: [", "not YAML"),
        ("- 1\n", "not a mapping"),
        ("", "not a mapping"),
        ("a: !!python/object:os.system {}\n", "not YAML"),
        ("x" * (2 << 20), "over 1048576 bytes"),
    ],
)
def test_files_that_are_no_schema_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text(text)
    with pytest.raises(AccordError, match=rf"bad-schema\].*{message}"):
        load(path)
    with pytest.raises(AccordError, match="unreadable-file"):
        load(tmp_path / "absent.yaml")


def test_importing_the_schema_loads_neither_torch_nor_pandas() -> None:
    code = (
        "import sys, accord_common.schema_file as s; "
        "sys.exit(bool({'torch', 'pandas', 'pandera'} & sys.modules.keys()))"
    )
    root = Path(str(sys.modules["accord_common"].__file__)).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


IMAGES = {
    "name": "chest",
    "kind": "images",
    "height": 64,
    "width": 48,
    "channels": 3,
    "target": {"type": "binary"},
}
TEXT = {"name": "notes", "kind": "text", "target": {"type": "classes", "classes": ["a", "b", "c"]}}


def test_images_and_texts_have_defaults_spelled_out() -> None:
    images = from_document(IMAGES)
    assert images.to_json() == {
        **IMAGES,
        "target": {"column": "label", "type": "binary", "classes": ["0", "1"]},
        "resize": "refuse",
        "centre": ["0.5", "0.5", "0.5"],
        "scale": ["0.5", "0.5", "0.5"],
        "identifier": None,
        "ignored": [],
        "minimum_rows": 20,
    }
    text = from_document(TEXT)
    assert text.to_json() == {
        **TEXT,
        "target": {"column": "label", "type": "classes", "classes": ["a", "b", "c"]},
        "column": "text",
        "words": "casefold-sha256",
        "buckets": 4096,
        "length": 64,
        "identifier": None,
        "ignored": [],
        "minimum_rows": 20,
    }
    for schema in (images, text):
        assert from_bytes(schema.to_bytes()) == schema
        assert from_document(json.loads(json.dumps(schema.to_json()))).hash == schema.hash


@pytest.mark.parametrize(
    ("document", "changes"),
    [
        (IMAGES, {"height": 63}),
        (IMAGES, {"resize": "stretch"}),
        (IMAGES, {"centre": [0.5, 0.5, 0.4]}),
        (IMAGES, {"scale": [0.5, 0.5, 0.4]}),
        (IMAGES, {"identifier": "patient"}),
        (IMAGES, {"target": {"type": "binary", "classes": ["1", "0"]}}),
        (TEXT, {"buckets": 2048}),
        (TEXT, {"length": 63}),
        (TEXT, {"column": "note"}),
    ],
)
def test_the_hash_covers_every_constant_of_the_other_kinds(
    document: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert from_document(document | changes).hash != from_document(document).hash


@pytest.mark.parametrize(
    ("document", "changes", "message"),
    [
        (IMAGES, {"kind": "video"}, "kind: 'video' is none of table, images, text"),
        (IMAGES, {"kind": ["images"]}, "kind"),
        (IMAGES, {"height": 0}, "height"),
        (IMAGES, {"width": 1025}, "width"),
        (IMAGES, {"channels": 2}, "channels"),
        (IMAGES, {"resize": "crop"}, "resize"),
        (IMAGES, {"centre": [0.5]}, "centre has 1 numbers for 3 channels"),
        (IMAGES, {"scale": [1, 1, 0]}, "scale 0 is not above 0"),
        (IMAGES, {"scale": 1}, "scale"),
        (IMAGES, {"identifier": "file"}, "column 'file' is named twice"),
        (IMAGES, {"columns": []}, "columns: Extra"),
        (TEXT, {"buckets": 1000}, "buckets 1000 is no power of 2"),
        (TEXT, {"buckets": 1 << 21}, "buckets"),
        (TEXT, {"length": 0}, "length"),
        (TEXT, {"length": 4097}, "length"),
        (TEXT, {"words": "bytes"}, "words"),
        (TEXT, {"column": "label"}, "column 'label' is named twice"),
        (TEXT, {"ignored": ["text"]}, "column 'text' is named twice"),
        (TEXT, {"target": {"type": "classes"}}, "target, classes"),
    ],
)
def test_each_mistake_in_the_other_kinds_is_named(
    document: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(AccordError, match=rf"bad-schema\] .*{message}"):
        from_document(document | changes)


def test_the_schemas_of_the_readme_are_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    kinds = []
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        (tmp_path / "schema.yaml").write_text(block)
        kinds.append(load(tmp_path / "schema.yaml").kind)
    assert kinds == ["images", "text"]


def test_signed_bytes_of_no_kind_are_refused() -> None:
    body = from_document(document()).to_json()
    assert isinstance(body, dict)
    for wrong in (body | {"kind": "video"}, {k: v for k, v in body.items() if k != "kind"}):
        with pytest.raises(AccordError, match="bad-record"):
            from_bytes(canonical_bytes(wrong))
    with pytest.raises(AccordError, match="not-canonical"):
        from_bytes(from_document(TEXT).to_bytes() + b" ")
