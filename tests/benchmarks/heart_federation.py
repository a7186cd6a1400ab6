"""Four hospitals in one real federation, under terms that permit runs with and without privacy."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from accord_common.fields import now
from accord_common.home import Home
from accord_common.receipts import RunResult
from accord_server.coordinator import desk, documents, starting
from accord_server.coordinator.plan_file import PlanFile
from accord_server.coordinator.watching import log_lines
from accord_server.demo.federation import Federation, Share
from accord_server.demo.processes import Actor, Services
from tests.benchmarks.heart_data import PLAIN, STANDARD, Centre
from tests.benchmarks.heart_reference import ROUNDS

DELTA = 0.001  # below one over the largest site's rows
POLL_S = 0.05
CLIP = 20  # of a whole batch gradient without privacy; the largest seen is 9


@contextmanager
def running(centres: Sequence[Centre]) -> Iterator[Federation]:
    """Four hospitals, both forms of their tables registered, all processes up; gone at the end."""
    with tempfile.TemporaryDirectory(prefix="accord-") as name:
        logs = Path(name) / "logs"
        logs.mkdir()
        shares = [
            Share(centre.name, STANDARD.csv(centre), len(centre.train), "auto-within-agreement")
            for centre in centres
        ]
        with Services(logs) as services:
            federation = Federation(
                Path(name) / "parties",
                services,
                shares,
                yaml.safe_dump(STANDARD.document),
                dataset=STANDARD.schema.name,
            )
            federation.found()
            federation.enrol_all()
            for node, centre in zip(federation.nodes, centres, strict=True):
                _add_plain(federation, node, centre)
            federation.agree(_terms(federation))
            federation.start()
            yield federation


def complete(federation: Federation, plan: dict[str, Any]) -> tuple[RunResult, NDArray[np.float32]]:
    """Start a run, wait for its end, and verify its result; returns that and the model.

    The coordinator's desk is this process: thirty commands would spend minutes on imports.
    """
    home = Home.open(federation.coordinator.home / "accord")
    wanted = documents.decode(yaml.safe_dump(plan).encode(), PlanFile, "plan")
    key = home.identity(federation.coordinator.passphrase)
    with home.registry() as client:
        prepared = starting.prepare(client, wanted, now())
        starting.refuse_if_forbidden(prepared.view)
        while not client.offers():  # the aggregator has ended the run before, and not said so yet
            time.sleep(POLL_S)
        _, manifest = starting.start(client, prepared, key, now())
        for _ in log_lines(client, manifest.id, follow=True):
            pass  # returns when the run is over
        view = client.run(manifest.id)
        result = desk.verified_result(client, desk.verified_run(client, view))
        if result is None or result.result.status != "completed":
            raise RuntimeError(f"{view.title}: {view.state} [{view.code}] {view.cause}")
        model = client.get_blob(result.result.model or "")
    return result.result, np.frombuffer(model, "<f4")


def _add_plain(federation: Federation, node: Actor, centre: Centre) -> None:
    """Register the plain form too: another file about the same people, so the same budget."""
    (known,) = federation.at(node, "dataset", "list")
    table, schema = node.home / "plain.csv", node.home / "plain.yaml"
    table.write_text(PLAIN.csv(centre))
    schema.write_text(yaml.safe_dump(PLAIN.document))
    federation.at(
        node, "dataset", "add", table, "--schema", schema, "--name", PLAIN.schema.name,
        "--size", str(len(centre.train)), "--policy", "auto-within-agreement",
        "--population", known["population"],
    )  # fmt: skip


def _terms(federation: Federation) -> dict[str, Any]:
    return {
        "title": "Heart disease",
        "purpose": ["DUO:0000007"],
        "legal_basis": "public research data",
        "datasets": [
            {"owner": node.name, "name": form.schema.name}
            for node in federation.nodes
            for form in (STANDARD, PLAIN)
        ],
        "privacy": {
            "epsilon_cap": 100,
            "delta": DELTA,
            "min_noise_multiplier": 0.5,
            "max_clipping_norm": CLIP,
            "max_sampling_rate": 1,
            "non_private": True,
        },
        "tasks": [
            {
                "task": "tabular-binary",
                "objective": "tell who has heart disease",
                "architectures": ["logistic-regression"],
                "max_rounds": ROUNDS,
            }
        ],
    }
