"""Tasks are found among installed packages, and named by the code that they stand for."""

import hashlib
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from accord_client.training.train import LocalPlan, train_round
from accord_common import models
from accord_common.canonical import canonical_bytes
from accord_common.errors import AccordError
from accord_common.models.discovery import list_tasks, load_task, task_code
from accord_common.models.flat import initial_vector
from accord_common.models.scaffold import scaffold
from accord_common.models.tabular import BinaryClassification
from accord_common.schema import Schema
from accord_common.schema_file import from_document
from accord_common.tables import Encoded
from tests.common.test_pictures import schema as of_images
from tests.common.test_words import schema as of_texts

TABLE = from_document(
    {
        "name": "toy",
        "target": {"column": "y", "type": "binary"},
        "columns": [{"name": "a", "type": "number", "minimum": -1, "maximum": 1}],
    }
)


def declare(folder: Path, distribution: str, task: str, value: str) -> None:
    """Make `folder`, on sys.path, look as if a distribution were installed in it."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[accord.tasks]\n{task} = {value}\n")


def test_the_tasks_that_come_with_accord_are_found() -> None:
    assert {"tabular-binary", "tabular-multiclass"} <= set(list_tasks())
    assert isinstance(load_task("tabular-binary"), BinaryClassification)
    code = task_code("tabular-binary")
    assert code.distribution == "accord"
    folder = Path(models.__path__[0])
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*.py")
    }
    assert code.code_hash == hashlib.sha256(canonical_bytes(files)).hexdigest()


def test_naming_code_imports_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "outer" / "inner"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "task.py").write_text("raise RuntimeError('imported')\n")
    declare(tmp_path, "trap", "trap", "outer.inner.task:Trap")
    monkeypatch.syspath_prepend(tmp_path)
    before = task_code("trap")
    assert (before.distribution, before.version) == ("trap", "1.0")
    (package.parent / "beside.py").write_text("")  # outside the task's own folder
    assert task_code("trap") == before
    (package / "helper.py").write_text("")
    assert task_code("trap").code_hash != before.code_hash
    with pytest.raises(AccordError, match=r"bad-task.*imported"):
        load_task("trap")


def test_names_that_stand_for_nothing_or_two_things_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lone_task.py").write_text("")
    declare(tmp_path, "lone", "lone", "lone_task:Lone")
    declare(tmp_path, "gone", "gone", "lone_task.no.such:Gone")
    declare(tmp_path, "rival", "tabular-binary", "lone_task:Rival")
    declare(tmp_path, "wrong", "wrong", "accord_common.models.tabular:BinaryClassification")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AccordError, match=r"unknown-task.*Installed: .*tabular-multiclass"):
        load_task("nothing")
    for name in ("lone", "gone"):
        with pytest.raises(AccordError, match=r"bad-task.*not a module in an installed package"):
            task_code(name)
    with pytest.raises(AccordError, match=r"bad-task.*no Task named 'wrong'"):
        load_task("wrong")
    with pytest.raises(AccordError, match="ambiguous-task"):
        task_code("tabular-binary")


def test_a_scaffolded_task_installs_with_pip_and_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    files = scaffold("rare-events", source)
    assert source / "src" / "rare_events" / "task.py" in files
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(site), str(source)],
        check=True,
        timeout=120,
        env={"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PATH": ""},
    )
    monkeypatch.syspath_prepend(site)
    assert "rare-events" in list_tasks()
    wheel = task_code("rare-events")
    assert (wheel.distribution, wheel.version) == ("rare-events", "0.1.0")
    task = load_task("rare-events")
    module = task.build("logistic-regression", {}, TABLE)
    features = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    table = Encoded(features, (features[:, 0] > 0.5).astype(np.int64))
    plan = LocalPlan(20, "1", 50, "1", "0.01", "1")
    update = train_round(task, module, initial_vector(module, 0), table, plan)
    assert update[0] > 0.5  # the slope points the right way

    # The same files from an editable install have the same name.
    monkeypatch.syspath_prepend(source / "src")
    assert task_code("rare-events") == wheel


@pytest.mark.parametrize(
    ("kind", "contract", "architecture"),
    [("images", of_images(height=16, width=16), "cnn"), ("text", of_texts(), "gru")],
)
def test_a_scaffold_learns_from_each_kind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    contract: Schema,
    architecture: str,
) -> None:
    scaffold(f"own-{kind}", tmp_path, kind)
    monkeypatch.syspath_prepend(tmp_path / "src")
    module = import_module(f"own_{kind}.task")
    task = getattr(module, f"Own{kind.title()}")()
    parameters = dict(task.build(architecture, {}, contract).named_parameters())
    assert parameters["head.bias"].shape == (1,)
    with pytest.raises(AccordError, match="wrong-kind"):
        task.build(architecture, {}, TABLE)


def test_a_scaffold_overwrites_nothing_and_takes_only_names(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(AccordError, match="folder-not-empty"):
        scaffold("mine", tmp_path / "mine")
    for name in ("Mine", "my_task", "../up", "a" * 65, ""):
        with pytest.raises(AccordError, match="bad-task-name"):
            scaffold(name, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
