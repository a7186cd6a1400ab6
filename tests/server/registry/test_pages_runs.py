"""The pages of runs: what a coordinator reads of one, and of many."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from accord_common.api.score_schemas import ScoreRequest
from accord_common.envelope import Envelope
from accord_common.errors import ConflictError, PolicyError
from accord_common.fields import new_id
from accord_server.registry.setup import initialise
from accord_server.registry.web.pace import Pace
from tests.server.registry.persons import Browser, join
from tests.server.registry.stack import Stack, complete, opened, run_id, settings_in
from tests.server.registry.test_pages import HTML, text_of
from tests.world import make_world, model_of


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, quick_accounts: None
) -> Iterator[Stack]:
    """A registry with a completed run, scored, and one that waits for consents."""
    settings = settings_in(tmp_path_factory.mktemp("run-pages") / "registry", certificates)
    invitation = asyncio.run(initialise(settings)).text
    with opened(settings, invitation, make_world(log_key=settings.read_log_key())) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        world, keys = stack.world, stack.offer()
        result = complete(stack, keys, stack.start(keys))
        coordinator = stack.client(world.coordinator)
        for round_, value in ((0, "0.71"), (1, "0.83")):
            coordinator.tell_score(
                coordinator.runs()[0].id, score(round_, **{"auc": value, "loss": "0.4"})
            )
        coordinator.post(world.evaluation(coordinator_manifest(stack), result, model_of(2)))
        stack.start(stack.offer(), title="Waiting <b>run</b>")
        yield stack


def coordinator_manifest(stack: Stack) -> Envelope:
    client = stack.client(stack.world.coordinator)
    return client.record(client.runs()[0].manifest_hash)


def score(round_: int, **metrics: str) -> ScoreRequest:
    return ScoreRequest(
        round=round_, model=model_of(round_ + 1), holdout="ee" * 32, rows=100, metrics=metrics
    )


@pytest.fixture(scope="module")
def coordinator(stack: Stack) -> Browser:
    return join(stack, stack.world.coordinator, "coordinator", "carla")


@pytest.fixture(scope="module")
def steward(stack: Stack) -> Browser:
    return join(stack, stack.world.hospitals[0], "steward", "stella")


def first(stack: Stack) -> str:
    return stack.client(stack.world.coordinator).runs()[0].id


def test_a_run_tells_what_happened_with_the_records_that_say_so(
    stack: Stack, coordinator: Browser
) -> None:
    html = coordinator.call("GET", f"/runs/{first(stack)}", headers=HTML).text
    (timeline,) = re.findall(r'<ol class="timeline">(.*?)</ol>', html, re.S)
    words = [line.strip() for line in re.findall(r"</svg>([^<]+)</span>", timeline)]
    assert words[0] == "scored" and words[1] == "completed" and words[-1] == "proposed"
    assert words.count("accepted") == 3 and "running" in words
    assert len(re.findall(r'href="/records/[0-9a-f]{64}"', timeline)) == 6


def test_curves_are_tables_first(stack: Stack, coordinator: Browser) -> None:
    html = coordinator.call("GET", f"/runs/{first(stack)}", headers=HTML).text
    figures = re.findall(r'<figure data-chart="\w+" aria-label="([^"]+)"(.*?)</figure>', html, re.S)
    drawn = {title: re.findall(r'data-value="([^"]*)"', body) for title, body in figures}
    assert drawn["auc"] == ["1", "0.71", "2", "0.83"]
    assert drawn["loss"] == ["1", "0.4", "2", "0.4"]
    spent = drawn["Epsilon spent, by round"]
    assert [spent[0], spent[4]] == ["1", "2"] and len(spent) == 8
    assert all(float(value) > 0 for value in spent[1:4])
    assert float(spent[5]) > float(spent[1])


def test_the_grid_says_who_took_part_and_is_filtered(stack: Stack, coordinator: Browser) -> None:
    run = first(stack)
    whole = coordinator.call("GET", f"/runs/{run}", headers=HTML).text
    assert whole.count("</svg>took part") == 8 and whole.count("</svg>dropped out") == 1
    troubled = coordinator.call("GET", f"/runs/{run}?show=trouble", headers=HTML).text
    assert troubled.count("</svg>took part") == 2 and troubled.count("</svg>dropped out") == 1
    older = coordinator.call("GET", f"/runs/{run}?attempt=2&level=info", headers=HTML).text
    assert older.count("</svg>took part") == 2 and "Newest rounds" in older
    assert 'href="?level=info#grid"' in older  # the other table stays where it is


def test_a_steward_reads_what_the_run_cost_the_own_people(
    stack: Stack, coordinator: Browser, steward: Browser
) -> None:
    own, other = stack.world.hospitals[:2]
    for browser, shown in ((coordinator, {own.name, other.name}), (steward, {own.name})):
        html = browser.call("GET", f"/runs/{first(stack)}", headers=HTML).text
        (part,) = re.findall(r'id="privacy">(.*?)By the signed result, all sites', html, re.S)
        rows = set(re.findall(r'<th scope="row" data-label="Site">(\S+)', part))
        assert rows >= shown and (other.name in rows) == (other.name in shown)
    assert "Poisson" not in html and "each row is drawn with probability 0.1" in html


def test_only_who_may_stop_a_run_is_asked(
    stack: Stack, coordinator: Browser, steward: Browser
) -> None:
    client = stack.client(stack.world.coordinator)
    waiting = next(run.id for run in client.runs() if run.state == "awaiting-consent")
    form = f'data-api="POST /v1/runs/{waiting}/stop"'
    assert form in coordinator.call("GET", f"/runs/{waiting}", headers=HTML).text
    assert form not in steward.call("GET", f"/runs/{waiting}", headers=HTML).text
    over = coordinator.call("GET", f"/runs/{first(stack)}", headers=HTML).text
    assert "/stop" not in over


def test_runs_are_found_by_title_and_shown_with_their_trend(
    stack: Stack, coordinator: Browser
) -> None:
    html = coordinator.call("GET", "/runs?title=FIRST", headers=HTML).text
    assert "First run" in html and "Waiting" not in html
    assert '<svg class="spark"' in html and "auc 0.83" in html
    assert "No run is like that" in text_of(coordinator, "/runs?title=%25")
    hostile = coordinator.call("GET", "/runs?title=%22%3E%3Cb%3E", headers=HTML).text
    assert 'value="&#34;&gt;&lt;b&gt;"' in hostile and "<b>" not in hostile
    assert "&lt;b&gt;run" in coordinator.call("GET", "/runs?title=wait", headers=HTML).text


def test_metrics_by_round_are_the_coordinators_word_about_models_that_were_left(
    stack: Stack,
) -> None:
    run, client = first(stack), stack.client(stack.world.coordinator)
    assert [one.metrics["auc"] for one in client.scores(run)] == ["0.71", "0.83"]
    client.tell_score(run, score(1, **{"auc": "0.84"}))  # again replaces it
    assert client.scores(run)[-1].metrics == {"auc": "0.84"}
    client.tell_score(run, score(1, **{"auc": "0.83", "loss": "0.4"}))
    with pytest.raises(ConflictError, match=r"\[wrong-model\]"):
        client.tell_score(run, score(2, accuracy="1"))
    with pytest.raises(PolicyError, match=r"\[wrong-role\]"):
        stack.client(stack.world.hospitals[0]).tell_score(run, score(1, accuracy="1"))
    assert run_id(stack, coordinator_manifest(stack)) == run


def test_runs_are_set_side_by_side_where_they_differ(
    stack: Stack, coordinator: Browser, steward: Browser
) -> None:
    one, other = [run.id for run in stack.client(stack.world.coordinator).runs()][:2]
    page = text_of(coordinator, f"/runs/compare?run={one}&run={other}")
    assert "0.98" in page and "They were told to do the same" in page
    html = coordinator.call("GET", f"/runs/compare?run={one}&run={other}", headers=HTML).text
    (figure,) = re.findall(r'aria-label="auc">(.*?)</figure>', html, re.S)
    assert re.findall(r'data-value="([^"]*)"', figure) == ["1", "0.71", "", "2", "0.83", ""]
    assert "&lt;b&gt;run" in html and "<b>run" not in html
    assert "private" in text_of(steward, f"/runs/compare?run={one}&run={other}")


def test_two_to_eight_runs_are_compared_and_no_others(stack: Stack, coordinator: Browser) -> None:
    one = first(stack)
    for query, words in (
        ("", "You marked 0"),
        (f"run={one}", "You marked 1"),
        (f"run={one}&run={one}", "named twice"),
        ("&".join(f"run={new_id()}" for _ in range(9)), "You marked 9"),
    ):
        answer = coordinator.call("GET", f"/runs/compare?{query}", headers=HTML)
        assert answer.status_code == 400 and words in answer.text, words
    unknown = coordinator.call("GET", f"/runs/compare?run={one}&run={new_id()}", headers=HTML)
    assert unknown.status_code == 404


def test_a_line_fits_its_box() -> None:
    assert Pace(trend=(1.0,)).points == ""
    assert Pace(trend=(2.0, 2.0)).points == "2.0,22.0 94.0,22.0"
    assert Pace(trend=(0.0, 1.0, 0.5)).points == "2.0,22.0 48.0,2.0 94.0,12.0"
