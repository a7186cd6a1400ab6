"""Real federations for end-to-end tests and benchmarks: real processes over synthetic tables.

Unless a test asks otherwise, runs within the agreement need no steward's word, so a run begins once
its coordinator has started it: five stewards at two cores take 20 s to say yes, each time.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from accord_server.demo.federation import Federation, Share
from accord_server.demo.processes import Actor, Services
from tests.chaos.ordering import make_mortal
from tests.forked import fork_verbs
from tests.known import installing

FEATURES = 10
ROWS, SIZE = 120, 200


def synthetic_table(seed: int, features: int = FEATURES, rows: int = ROWS) -> str:
    """A separable binary problem as CSV text."""
    random = np.random.default_rng(seed)
    values = random.uniform(-1, 1, (rows, features))
    labels = (values[:, 0] + values[:, 1] + 0.2 * random.normal(size=rows) > 0).astype(int)
    header = ",".join([*(f"x{index}" for index in range(features)), "sick"])
    lines = [
        ",".join([*(f"{value:.6f}" for value in row), str(label)])
        for row, label in zip(values, labels, strict=True)
    ]
    return "\n".join([header, *lines]) + "\n"


def synthetic_schema(features: int = FEATURES) -> str:
    """The schema of `synthetic_table`."""
    columns = [
        {
            "name": f"x{index}",
            "type": "number",
            "minimum": -1,
            "maximum": 1,
            "centre": 0,
            "scale": 1,
        }
        for index in range(features)
    ]
    target = {"column": "sick", "type": "binary"}
    text: str = yaml.safe_dump({"name": "synthetic", "target": target, "columns": columns})
    return text


def terms(**changes: Any) -> dict[str, Any]:
    """Agreement terms with room for long runs; datasets are added by `agreed`."""
    return {
        "title": "Test study",
        "purpose": ["DUO:0000007"],
        "legal_basis": "synthetic data",
        "privacy": {
            "epsilon_cap": "50",
            "delta": "0.00001",
            "min_noise_multiplier": "0.5",
            "max_clipping_norm": "1",
            "max_sampling_rate": "0.5",
        },
        "tasks": [
            {
                "task": task,
                "objective": "test",
                "architectures": ["logistic-regression", "mlp"],
                "max_rounds": 1000,
            }
            for task in ("tabular-binary", installing.TASK)
        ],
        **changes,
    }


def plan(federation: Federation, **changes: Any) -> dict[str, Any]:
    """A short, cheap run."""
    return {
        "agreement": federation.agreement,
        "task": "tabular-binary",
        "architecture": "logistic-regression",
        "rounds": 3,
        "spare_attempts": 5,
        "noise_multiplier": "4",
        "sampling_rate": "0.1",
        "steps": 1,
        "learning_rate": "0.5",
        "clipping_norm": "1",
        "deadlines": {"advertise_s": 20, "update_s": 60, "rejoin_s": 20},
        **changes,
    }


@contextmanager
def running(
    folder: Path,
    nodes: int = 3,
    *,
    known: bool = False,
    mortal: bool = False,
    debug: bool = False,
    policy: str = "auto-within-agreement",
    watched: bool = False,
    settings: Mapping[str, int] | None = None,
    **changes: Any,
) -> Iterator[Federation]:
    """A federation with a signed agreement and all processes up; all gone at the end.

    Args:
        folder: made, for everything.
        nodes: how many sites.
        known: install the task `known-vectors` for those who load tasks; runs may then name it.
        mortal: have `known`'s task, and processes that die where `chaos.ordering` says.
        debug: have every process log each step.
        policy: who decides on runs, at every site.
        watched: have all processes tell Prometheus.
        settings: of the registry, in place of its defaults.
        changes: of the agreement's terms.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True)
    shares = [
        Share(f"Site {index}", synthetic_table(index), SIZE, policy) for index in range(nodes)
    ]
    with Services(logs) as services:
        federation = Federation(
            folder / "parties", services, shares, synthetic_schema(), watched=watched
        )
        if settings:
            given = [f"ACCORD_REGISTRY_{name.upper()}={value}" for name, value in settings.items()]
            federation.registry = replace(
                federation.registry, wrap=lambda command: ["env", *given, *command]
            )
        if known or mortal:
            _install_known(federation, folder / "installed")
        if mortal:
            make_mortal(federation, folder / "installed")
        if debug:
            _debug(federation)
        fork_verbs(federation)
        federation.found()
        federation.enrol_all()
        datasets = [{"owner": node.name, "name": "tumours"} for node in federation.nodes]
        federation.agree({**terms(**changes), "datasets": datasets})
        federation.start()
        yield federation


@contextmanager
def temporary(
    nodes: int = 3,
    *,
    known: bool = False,
    mortal: bool = False,
    watched: bool = False,
    **changes: Any,
) -> Iterator[Federation]:
    """The same in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="accord-") as name:
        folder = Path(name) / "federation"
        with running(
            folder, nodes, known=known, mortal=mortal, watched=watched, **changes
        ) as federation:
            yield federation


def _debug(federation: Federation) -> None:
    def told(actor: Actor) -> Actor:
        return replace(actor, wrap=lambda command: ["env", "ACCORD_DEBUG=1", *actor.wrap(command)])

    federation.registry, federation.coordinator = (
        told(federation.registry),
        told(federation.coordinator),
    )
    federation.aggregator, federation.nodes = (
        told(federation.aggregator),
        [*map(told, federation.nodes)],
    )


def _install_known(federation: Federation, packages: Path) -> None:
    installing.install(packages)
    federation.coordinator = installing.having(federation.coordinator, packages)
    federation.nodes = [installing.having(node, packages) for node in federation.nodes]


def follow(federation: Federation, run: str, *options: str | Path) -> list[dict[str, Any]]:
    """Watch a run to its end; returns every update."""
    home = federation.coordinator.home / "accord"
    lines = federation.services.follow(
        federation.coordinator, "run", "watch", run, *options, "--home", home
    )
    updates = list(lines)
    status, stderr = lines.status()
    if not updates:
        raise AssertionError(f"run watch ended with {status}: {stderr}")
    return updates


def complete(federation: Federation, **changes: Any) -> list[dict[str, Any]]:
    """Start a run and watch it to its end."""
    return follow(federation, federation.start_run(plan(federation, **changes)))
