"""The README's walk-through runs as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from accord_server.demo.data import make_tables

README = Path(__file__).parents[2] / "README.md"


def walk_through() -> str:
    """Every shell block of the section, in order."""
    section = README.read_text().split("## The demonstration by hand")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """What an earlier demonstration left of tables: all that the walk-through takes from it."""
    tables = make_tables()
    parties = tmp_path / ".accord-demo" / "parties"
    for site, table in tables.sites.items():
        folder = parties / site.lower().replace(" ", "-")
        folder.mkdir(parents=True)
        (folder / "tumours.csv").write_text(table)
        (folder / "tumours.yaml").write_text(tables.schema)
    (parties / "university").mkdir()
    (parties / "university" / "holdout.csv").write_text(tables.holdout)
    (parties / "university" / "schema.yaml").write_text(tables.schema)
    return tmp_path


@pytest.mark.soak(sample=0, full=1)
def test_the_walk_through_runs_as_written(demo: Path) -> None:
    walk = demo / "walk"
    walk.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    output = walk / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", walk_through()],
            cwd=walk,
            env={"PATH": path, "HOME": str(demo), "OLDPWD": str(demo), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(240)
        finally:
            subprocess.run(["pkill", "-s", str(process.pid)], check=False)
    told = output.read_text()
    assert status == 0, told[-3000:]
    assert "completed after 8 rounds" in told
    assert "(signed)" in told
    assert (walk / "model.safetensors").exists()


def test_the_readme_names_no_make_target_that_is_missing() -> None:
    targets = set(re.findall(r"^([a-z]+):", README.with_name("Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README.read_text(), re.MULTILINE)) <= targets


def test_the_readmes_yaml_is_yaml() -> None:
    for body in re.findall(r"<<'(TERMS|PLAN)'\n(.*?)\n\1", walk_through(), re.DOTALL):
        assert isinstance(yaml.safe_load(body[1]), dict)
