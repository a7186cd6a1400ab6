"""The demonstration from first key to last receipt, and one refusal.

Hospitals enrol, sign, and train one model; then the coordinator asks for a second run that no
budget can pay, and the nodes refuse it. Everything happens through the console scripts
(`federation`); this module only decides the order and tells it.
"""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from accord_common.errors import ConflictError, UsageError
from accord_server.demo import scoring, separation
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Lines, Services, failure
from accord_server.demo.scenario import Scenario

MARKER = ".accord-demo-folder"  # only a folder that this module made is ever cleared
REFUSAL = "budget-exceeded"


@dataclass
class Outcome:
    """What the demonstration ends with; `to_json` has the promised fields."""

    nodes: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    by_site: dict[str, dict[str, float]] = field(default_factory=dict)
    epsilon: dict[str, float] = field(default_factory=dict)
    setup_s: float = 0.0
    rounds_s: list[float] = field(default_factory=list)
    refusal: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--format json` ends with."""
        return {
            "status": "completed",
            "rounds": len(self.rounds_s),
            "nodes": self.nodes,
            "metrics": self.metrics,
            "by_site": self.by_site,
            "epsilon": self.epsilon,
            "seconds": {"setup": self.setup_s, "rounds": self.rounds_s},
            "refusal": {"code": self.refusal},
        }


@contextmanager
def demonstration(
    folder: Path, scenario: Scenario, *, reset: bool, report: Callable[[str], None]
) -> Iterator[tuple[Federation, Outcome]]:
    """Play the whole demonstration; everything still runs while the block is open, then stops.

    Raises:
        UsageError: `demo-exists`, `not-a-demo`.
        CommandFailed: with the code of the verb that failed.
    """
    prepare(folder, reset=reset)
    started = time.monotonic()
    apart = separation.find(len(scenario.shares), folder)
    how = "each hospital as its own user" if apart.uids else f"one user ({apart.reason})"
    report(f"processes start below {folder}, {how}")
    with _stop_on_signals(), Services(folder / "logs") as services:
        federation = Federation(
            folder / "parties",
            services,
            scenario.shares,
            scenario.schema,
            apart,
            report,
            dataset=scenario.dataset,
        )
        federation.found()
        federation.enrol_all()
        federation.publish("HMB")  # medical research, which covers the run's purpose
        datasets = [{"owner": node.name, "name": scenario.dataset} for node in federation.nodes]
        federation.agree({**scenario.terms, "datasets": datasets})
        holdout = federation.coordinator.home / "holdout.csv"
        holdout.write_text(scenario.holdout)
        (federation.coordinator.home / "schema.yaml").write_text(scenario.schema)
        outcome = Outcome(nodes=len(federation.nodes))
        federation.start_aggregator()
        with ThreadPoolExecutor(1) as stewards:  # who start their nodes while the run is planned
            nodes = stewards.submit(federation.start_nodes)
            run = federation.start_run({**scenario.plan, "agreement": federation.agreement})
            nodes.result()
        federation.approve(run)
        outcome.setup_s = round(time.monotonic() - started, 2)
        report(f"run {run} is approved by all; {outcome.setup_s:.0f} s so far")
        _train(federation, run, outcome)
        if scenario.tests:
            outcome.by_site = _score(federation, scenario, run)
        _refuse(federation, scenario, outcome)
        yield federation, outcome


def prepare(folder: Path, *, reset: bool) -> None:
    """Make the demonstration's folder; `reset` clears an earlier one.

    Raises:
        UsageError: `demo-exists` without reset, `not-a-demo` for a folder that is something else.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise UsageError("not-a-demo", f"{folder} holds something else; it is left alone")
        if not reset:
            raise UsageError(
                "demo-exists", f"{folder} holds an earlier demonstration", hint="Add --reset."
            )
        shutil.rmtree(folder)
    (folder / "logs").mkdir(parents=True)
    (folder / MARKER).touch()
    folder.chmod(0o711)  # institutions pass through to their own folders, and see no other's names


def _train(federation: Federation, run: str, outcome: Outcome) -> None:
    """Follow the run to its end."""
    report = federation.report
    home = federation.coordinator.home
    end = _follow(
        federation,
        run,
        "--holdout",
        home / "holdout.csv",
        "--schema",
        home / "schema.yaml",
        on_round=lambda update: _tell_round(update, outcome, report),
    )
    if end["state"] != "completed":
        raise ConflictError("demo-failed", f"the run {end['state']}: {end['cause']}")
    outcome.metrics = {name: round(value, 4) for name, value in end["metrics"].items()}
    outcome.epsilon = {site: float(value) for site, value in end["epsilon"].items()}


def _score(federation: Federation, scenario: Scenario, run: str) -> dict[str, dict[str, float]]:
    """Score the model on each institution's part of the hold-out."""
    file = federation.coordinator.home / "model.safetensors"
    federation.office("model", "download", run, "--out", file)
    plan = scenario.plan
    return scoring.by_site(
        file, plan["task"], plan["architecture"], scenario.schema, scenario.tests
    )


def _tell_round(update: dict[str, Any], outcome: Outcome, report: Callable[[str], None]) -> None:
    if update["outcome"] != "completed":
        report(f"round {update['round']}, attempt {update['attempt']} lost {update['lost']}")
        return
    outcome.rounds_s.append(round(update["seconds"], 3))
    spent = max((float(value) for value in update["epsilon"].values()), default=0.0)
    metrics = "  ".join(f"{name} {value:.3f}" for name, value in update["metrics"].items())
    metrics = metrics or "not scored: the next was quicker"
    report(
        f"round {update['round']}/{update['rounds']}  {metrics}  epsilon {spent:.2f}  "
        f"{update['seconds']:.2f} s"
    )


def _refuse(federation: Federation, scenario: Scenario, outcome: Outcome) -> None:
    """Ask for a second run that the budget cannot pay; every node must refuse it."""
    report = federation.report
    report(f"now a second run like it: {scenario.cap} was agreed, most of it is spent")
    plan = {**scenario.plan, "title": "One run too many", "agreement": federation.agreement}
    end = _follow(federation, federation.start_run(plan, "--anyway"))
    if (end["state"], end["code"]) != ("refused", REFUSAL):
        raise ConflictError("demo-failed", f"the nodes should have refused with {REFUSAL}")
    outcome.refusal = end["code"]
    report(f"refused by {', '.join(end['refused_by'])} [{end['code']}]: {end['cause']}")


def _follow(
    federation: Federation,
    run: str,
    *options: str | Path,
    on_round: Callable[[dict[str, Any]], None] = lambda update: None,
) -> dict[str, Any]:
    """Watch a run to its end; return the last update."""
    home = federation.coordinator.home / "accord"
    lines: Lines = federation.services.follow(
        federation.coordinator, "run", "watch", run, *options, "--home", home
    )
    end: dict[str, Any] | None = None
    for update in lines:
        if update["event"] == "round":
            on_round(update)
        elif update["event"] == "end":
            end = update
    status, stderr = lines.status()
    if end is None:
        raise failure(federation.coordinator, ("run", "watch"), status, stderr)
    return end


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    """Let SIGTERM, and a terminal that is closed, unwind as Ctrl-C does: nothing is left behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a shell's & ignores the first
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
