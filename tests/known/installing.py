"""Install the task `known-vectors` for processes; the test's own process stays as it is."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from accord_server.demo.processes import Actor

TASK = "known-vectors"
PACKAGE = "known_vectors"


def install(folder: Path) -> None:
    """Make `folder` a place where pip might have installed the task."""
    shutil.copytree(
        Path(__file__).parent / "package",
        folder / PACKAGE,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    info = folder / f"{PACKAGE}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {TASK}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[accord.tasks]\n{TASK} = {PACKAGE}.task:KnownVectors\n"
    )


def having(actor: Actor, *folders: Path) -> Actor:
    """The same actor, whose commands also find what is installed in `folders`."""
    found = f"PYTHONPATH={os.pathsep.join(map(str, folders))}"
    return replace(actor, wrap=lambda command: ["env", found, *command])
