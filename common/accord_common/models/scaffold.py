"""Write an institution's own task as an installable package: what `accord task new` does.

Guarantees: the package installs with plain pip, its test passes, and nodes find the task by name.
Nothing that exists is overwritten.
"""

import re
from pathlib import Path

from accord_common.errors import UsageError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")  # a Slug, as manifests name tasks
MAX_NAME = 64
# What is learnt from, and the architectures for it as the task's code writes them.
KINDS = {
    "table": '"logistic-regression", "mlp"',
    "images": '"cnn", "logistic-regression", "mlp"',
    "text": '"embedding-mean", "gru"',
}

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
description = "A task for Accord."
requires-python = ">=3.11"
dependencies = ["accord[node]"]

[project.entry-points."accord.tasks"]
{name} = "{package}.task:{cls}"

[tool.setuptools.packages.find]
where = ["src"]
"""

_TASK = '''\
"""What {name} learns: change loss and metrics here, then raise the version in pyproject.toml.

Nodes run this code only where their institution installed it, and a run names its hash, so every
institution of a run needs the same files.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from accord_common.models.task import Task
from accord_common.schema import Schema


class {cls}(Task):
    """Two classes, one logit; an error on the second class weighs more."""

    name: ClassVar[str] = "{name}"
    objective: ClassVar[str] = "binary-classification"
    kinds: ClassVar[frozenset[str]] = frozenset({{"{kind}"}})
    targets: ClassVar[frozenset[str]] = frozenset({{"binary"}})
    architectures: ClassVar[frozenset[str]] = frozenset({{{architectures}}})

    weight = 2.0  # how much more

    def outputs(self, schema: Schema) -> int:
        """One logit."""
        return 1

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's loss, (B,); row i's loss must depend on row i alone."""
        losses = functional.binary_cross_entropy_with_logits(
            logits[:, 0], labels.to(logits.dtype), reduction="none"
        )
        return losses * (1 + (self.weight - 1) * labels)

    def metrics(
        self, logits: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> dict[str, float]:
        """Score public rows: how many of the second class are found, how many alarms are right."""
        found = logits[:, 0] > 0
        hits = int(np.sum(found & (labels == 1)))
        return {{
            "recall": hits / max(1, int(labels.sum())),
            "precision": hits / max(1, int(found.sum())),
        }}
'''

_TEST = '''\
"""Loss and metrics of {name}, and that nodes will find it. Run with pytest."""

import numpy as np
import torch

from accord_common.models.discovery import load_task


def test_each_row_has_its_own_loss() -> None:
    task = load_task("{name}")
    logits, labels = torch.tensor([[0.3], [-2.0], [1.5]]), torch.tensor([0, 1, 1])
    losses = task.losses(logits, labels)
    assert losses.shape == (3,)
    alone = [task.losses(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert torch.allclose(losses, torch.cat(alone))


def test_metrics_are_numbers_between_0_and_1() -> None:
    task = load_task("{name}")
    logits = np.array([[2.0], [-1.0], [0.5]], np.float32)
    metrics = task.metrics(logits, np.array([1, 1, 0]))
    assert metrics and all(0 <= value <= 1 for value in metrics.values())
'''

_README = """\
# {name}

A task for Accord. Each institution of a run installs it next to its node:

    pip install .
    accord-node try {name} --dataset DATASET

Code: `src/{package}/task.py`; its test: `pytest`.
"""


def scaffold(name: str, folder: Path, kind: str = "table") -> list[Path]:
    """Write the package `name` into `folder`, which is made, and return the files.

    Args:
        name: of the task.
        folder: new or empty.
        kind: of the schemas that the task takes, a key of `KINDS`.

    Raises:
        UsageError: `bad-task-name`, or `folder-not-empty`.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise UsageError(
            "bad-task-name",
            f"{name!r} is not a name",
            hint=f"Use lower-case words joined by hyphens, at most {MAX_NAME} characters.",
        )
    if folder.exists() and any(folder.iterdir()):
        raise UsageError("folder-not-empty", f"{folder} holds files; nothing was written")
    package = name.replace("-", "_")
    words = {
        "name": name,
        "package": package,
        "cls": name.title().replace("-", ""),
        "kind": kind,
        "architectures": KINDS[kind],
    }
    files = {
        folder / "pyproject.toml": _PYPROJECT,
        folder / "README.md": _README,
        folder / "src" / package / "__init__.py": '"""The task {name}."""\n',
        folder / "src" / package / "task.py": _TASK,
        folder / "tests" / f"test_{package}.py": _TEST,
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(**words), encoding="utf-8")
    return list(files)
