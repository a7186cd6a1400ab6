"""Find tasks by name among the installed packages: entry-point group `accord.tasks`.

Guarantees: nothing is imported but by `load_task`; a node runs only what its institution installed.
Importing this module does not load torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from accord_common.canonical import Json, canonical_bytes, sha256_hex
from accord_common.errors import ConflictError, NotFoundError, UsageError

if TYPE_CHECKING:
    from accord_common.models.task import Task

GROUP = "accord.tasks"


@dataclass(frozen=True, slots=True)
class TaskCode:
    """Which installed code a task name stands for."""

    distribution: str
    version: str
    code_hash: str


def list_tasks() -> list[str]:
    """Names of all installed tasks, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_task(name: str) -> Task:
    """Import a task and make its instance.

    Raises:
        NotFoundError: `unknown-task`.
        ConflictError: `ambiguous-task` where two packages claim the name.
        UsageError: `bad-task` where the code does not load, or is no such task.
    """
    from accord_common.models.task import Task

    entry = _entry(name)
    try:
        task = entry.load()()
    except Exception as error:  # somebody's own code: any failure of it means the same
        raise UsageError("bad-task", f"{entry.value} does not load: {error!r}") from error
    if not isinstance(task, Task) or task.name != name:
        raise UsageError("bad-task", f"{entry.value} is no Task named {name!r}")
    return task


def task_code(name: str) -> TaskCode:
    """Name the code of a task without importing any of it.

    `code_hash` is the SHA-256 of the canonical JSON {relative path: SHA-256 of the file} over every
    *.py file in the directory of the module that holds the task, folders below it included. It is
    the same for an editable and a wheel install. A wheel's own hash would not do: pip keeps it only
    for installs from a file or address, not from an index. Not covered: what the code imports from
    elsewhere.

    Raises:
        NotFoundError: `unknown-task`.
        ConflictError: `ambiguous-task`.
        UsageError: `bad-task` where the task's module is not part of a package.
    """
    entry = _entry(name)
    if entry.dist is None:
        raise UsageError("bad-task", f"{entry.value} belongs to no distribution")
    folder = _folder(entry)
    files: Json = {
        path.relative_to(folder).as_posix(): sha256_hex(path.read_bytes())
        for path in sorted(folder.rglob("*.py"))
    }
    return TaskCode(entry.dist.name, entry.dist.version, sha256_hex(canonical_bytes(files)))


def _entry(name: str) -> EntryPoint:
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if not found:
        raise NotFoundError(
            "unknown-task",
            f"no installed package offers the task {name!r}",
            hint=f"Installed: {', '.join(list_tasks()) or 'none'}. Install its package with pip.",
        )
    if len(found) > 1:
        raise ConflictError("ambiguous-task", f"{name!r} is offered by {', '.join(sorted(found))}")
    return next(iter(found.values()))


def _folder(entry: EntryPoint) -> Path:
    """Return the folder of the task's module, found without importing the packages above it."""
    top, *parts = entry.module.split(".")
    spec = find_spec(top)  # imports nothing: a top-level name has no package above it
    for part in parts:
        path = None if spec is None else spec.submodule_search_locations
        spec = None if path is None else PathFinder.find_spec(f"{top}.{part}", path)
        top = f"{top}.{part}"
    lone_file = not parts and spec is not None and spec.submodule_search_locations is None
    if spec is None or spec.origin is None or lone_file:
        raise UsageError(
            "bad-task",
            f"{entry.module} is not a module in an installed package",
            hint="Put the task's module into a package (a folder with __init__.py).",
        )
    return Path(spec.origin).parent
