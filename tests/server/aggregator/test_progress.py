"""What the engine says of a run while it drives it, and that nodes cannot make up series."""

from pathlib import Path

from prometheus_client import generate_latest

from accord_common import wire
from accord_server.aggregator.progress import STAGES, Progress
from tests.e2e.monitoring import Seen
from tests.simulator import Answer, SimNode, simulate


def told(progress: Progress) -> Seen:
    seen = Seen()
    seen.take(generate_latest(progress.registry).decode())
    return seen


def test_stages_are_told_in_order_and_nothing_is_left_of_a_run(tmp_path: Path) -> None:
    simulation = simulate(tmp_path)
    stages: list[tuple[int, str]] = []

    def look(node: SimNode, request: wire.Request, answer: Answer) -> Answer:
        progress = simulation.progress
        assert progress.driven is not None and progress.driven.run == simulation.run.manifest.id
        assert set(progress.driven.connected()) == set(progress.driven.names)
        assert progress.stage in progress.driven.allowed_s
        if stages[-1:] != [(progress.round, progress.stage)]:
            stages.append((progress.round, progress.stage))
        return answer

    asked = ("advertise", "share", "train", "confirm", "unmask")
    first = next(iter(simulation.nodes.values()))
    first.faults = {(what, round_, 0): look for what in asked for round_ in range(3)}
    simulation.drive()
    assert stages[:5] == [(0, stage) for stage in STAGES[:5]]
    assert [place for place in stages if place[1] == "unmask"] == [(r, "unmask") for r in range(3)]
    assert simulation.progress.driven is None
    seen = told(simulation.progress)
    assert dict(_by(seen, "accord_aggregator_attempts_total")) == {"completed": 3, "aborted": 0}
    assert [value for _, value in seen.numbers["accord_aggregator_round_seconds_count"]] == [3]


def test_a_nodes_word_makes_no_series() -> None:
    progress = Progress()
    for number in range(100):
        progress.refused(f"made-up-{number}")
    progress.refused("budget-exceeded")
    found = {
        at["code"]: value
        for at, value in told(progress).numbers["accord_aggregator_refusals_total"]
    }
    assert found == {"other": 100, "budget-exceeded": 1}


def _by(seen: Seen, name: str) -> list[tuple[str, float]]:
    return [(at["outcome"], value) for at, value in seen.numbers[name]]
