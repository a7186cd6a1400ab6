"""The example notebook against a registry over TLS, cell by cell."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.registry.persons import on_sqlite
from tests.server.registry.stack import Stack, complete, free_port, serving

NOTEBOOK = Path(__file__).parents[3] / "deploy" / "notebooks" / "budgets.ipynb"


@on_sqlite
def test_the_example_notebook_runs(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = stack.offer()
    complete(stack, keys, stack.start(keys))
    port = free_port()
    settings = stack.settings.model_copy(update={"port": port, "url": f"https://127.0.0.1:{port}"})
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    monkeypatch.setenv("ACCORD_URL", settings.url)
    monkeypatch.setenv("ACCORD_CA", str(settings.ca))
    monkeypatch.setenv("ACCORD_TOKEN", stack.tokens[stack.world.coordinator.id])
    names: dict[str, Any] = {}
    with serving(settings):
        for cell in cells:
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert len(names["balances"]) == 3 and names["balances"]["left"].between(0, 3).all()
    assert set(names["charged"]["charges"]) == {3, 6}
    assert set(names["exceptions"]["code"]) == {"result-differs", "ledger-repeats"}
    assert set(names["recomputed"]["attempts"]) == {3}
