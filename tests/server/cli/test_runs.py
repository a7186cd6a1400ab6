"""The coordinator's day: plan, start, watch, evaluate, download, and every way it may end."""

import csv
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from accord_common.api import schemas
from accord_common.canonical import sha256_hex
from accord_common.manifest import RunManifest
from accord_common.receipts import EVALUATION, Evaluation
from tests.server.cli import model_checks
from tests.server.cli.office import Office, accord, spawn


@pytest.fixture(scope="module")
def holdout(office: Office) -> Path:
    path = office.folder / "public.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["radius", "texture", "malignant"])
        for index in range(40):
            writer.writerow([10 + index % 2 * 8, 15 + index % 2 * 8, index % 2])
    return path


def test_a_dry_run_says_allowed_and_what_it_costs(office: Office) -> None:
    view = office.ok("run", "plan", office.plan())
    assert view["allowed"] and view["dimension"] == 3
    assert all(float(site["epsilon"]) <= 1 for site in view["sites"])
    text = office.text("run", "plan", office.plan())
    assert "Allowed by the agreement" in text and "hospital-2/tumours" in text


def test_a_dry_run_that_is_forbidden_says_why_and_exits_with_3(office: Office) -> None:
    answer = office.run("run", "plan", office.plan(rounds=60, epsilon=2))
    assert answer.code == 3
    assert [reason["code"] for reason in answer.json["reasons"]] == ["too-many-rounds"]
    refused = office.run("run", "start", office.plan(rounds=60, epsilon=2))
    assert (refused.code, refused.out, refused.error["code"]) == (3, "", "too-many-rounds")


def test_a_start_needs_an_offer(office: Office) -> None:
    answer = office.run("run", "start", office.plan())
    assert (answer.code, answer.error["code"]) == (1, "no-offer")
    assert "accord aggregator start" in answer.error["hint"]


def test_a_run_from_plan_to_signed_metrics_and_model(
    office: Office, holdout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = office.offer()
    started = office.ok("run", "start", office.plan(title="First"))
    assert started["sites"] and started["commands"]["steward"] == (
        f"accord-node approve {started['run']}"
    )
    run, manifest = started["run"], office.manifest(started["run"])
    assert manifest.hash == started["manifest"]
    models = office.train(keys, manifest)

    watched = office.run("run", "watch", run[-12:], "--holdout", holdout)
    assert watched.code == 0, watched.err
    events = [line["event"] for line in watched.lines]
    assert events.count("consent") == 3 and events.count("round") == 2
    rounds = [line for line in watched.lines if line["event"] == "round"]
    assert [(line["round"], line["rounds"]) for line in rounds] == [(1, 2), (2, 2)]
    assert rounds[-1]["metrics"] == {"auc": 1.0, "accuracy": 1.0}
    for site in ("hospital-1", "hospital-2", "hospital-3"):  # also told after the end
        assert 0 < float(rounds[0]["epsilon"][site]) < float(rounds[1]["epsilon"][site])
    assert {"event": "log", "message": "the aggregator begins"}.items() <= next(
        line for line in watched.lines if line["event"] == "log"
    ).items()
    end = watched.lines[-1]
    assert (end["event"], end["state"], end["rounds"]) == ("end", "completed", 2)
    assert end["epsilon"] == {f"hospital-{i}": "0.5" for i in (1, 2, 3)}
    assert end["model"] == sha256_hex(models[-1])

    record = office.client(office.world.aggregator).record(end["evaluation"])
    record.verify([office.world.coordinator.identity.public])
    evaluation = Evaluation.from_bytes(record.payload)
    assert record.kind == EVALUATION and evaluation.rows == 40
    assert evaluation.holdout == sha256_hex(holdout.read_bytes())

    shown = office.ok("run", "show", run)
    assert shown["verified"][-1] == "result" and shown["run"]["metrics"]["auc"] == "1"
    assert "completed" in office.text("run", "show", run)

    (model,) = [item for item in office.ok("model", "list") if item["run"] == run]
    assert model["model"] == end["model"]
    out = office.folder / "first.safetensors"
    saved = office.ok("model", "download", run, "--out", out)
    assert saved["model"] == end["model"] and out.stat().st_mode & 0o077 == 0
    arrays = load_file(out)
    flat = np.concatenate([arrays[name].ravel() for name in ("0.weight", "0.bias")])
    assert flat.tobytes() == models[-1]
    again = office.run("model", "download", run, "--out", out)
    assert (again.code, again.error["code"]) == (2, "bad-output")

    rows = office.ok("budget", "show", "--run", run)
    assert {row["name"] for row in rows} == {f"hospital-{i}/tumours" for i in (1, 2, 3)}
    assert office.ok("budget", "show", "--dataset", "hospital-1/tumours", "--run", run) == [
        row for row in rows if row["name"] == "hospital-1/tumours"
    ]
    assert "cap" in office.text("budget", "show")
    for by, cell in (("dataset", "left"), ("institution", "overlap"), ("agreement", "overlap")):
        assert cell in office.text("budget", "show", "--by", by)
        told = accord("budget", "show", "--by", by, "--format", "csv", "--home", office.home)
        assert len(told.out.splitlines()) == 1 + len(office.ok("budget", "show", "--by", by))
    spends = office.ok("budget", "show", "--by", "round", "--run", run)
    assert [row["number"] for row in spends] == [1, 1, 1, 2, 2, 2]
    differs = office.run("budget", "recompute", run)
    assert (differs.code, differs.error["code"]) == (5, "budget-differs")  # it says epsilon 0.5
    assert {(row["attempts"], row["told"]) for row in differs.json} == {(2, 2)}
    assert {row["code"] for row in office.ok("audit", "exceptions", "--run", run)} == {
        "result-differs"
    }
    assert "epsilon 0.5" in office.text("audit", "exceptions", "--code", "result-differs")
    together = office.ok("budget", "total", "--run", run)
    alone = [Decimal(one["spent"]["filter"]) for one in together["populations"]]
    assert len(alone) == 3 and all(one > 0 for one in alone)
    assert Decimal(together["disjoint"]["filter"]) == max(alone)
    assert Decimal(together["overlapping"]["filter"]) == sum(alone)
    assert together["overlapping"]["delta"] == "0.00003" != together["disjoint"]["delta"]
    assert "the greatest" in office.text("budget", "total")
    lines = office.ok("run", "logs", run)
    assert "run completed" in [line["message"] for line in lines]
    monkeypatch.setattr(schemas, "MAX_PAGE", 2)
    assert office.ok("run", "logs", run) == lines  # in several pages
    late = office.run("run", "watch", run, "--no-sign").lines
    wanted = [line["message"] for line in lines if line["party"] is not None]
    assert [line["message"] for line in late if line["event"] == "log"] == wanted
    monkeypatch.undo()
    followed = office.run("run", "logs", run, "--follow")
    assert [line["message"] for line in followed.lines] == [line["message"] for line in lines]


def test_a_watch_tells_each_thing_as_it_happens(office: Office) -> None:
    """The watcher is a process; the next step is taken only after it told the one before."""
    keys = office.offer()
    run = office.ok("run", "start", office.plan(title="Second", epsilon="0.5"))["run"]
    options = ("--no-sign", "--home", office.home, "--format", "json")
    told: list[dict[str, object]] = []
    with spawn("run", "watch", run, *options, log=office.folder / "watch.log") as watcher:
        assert watcher.stdout is not None

        def until(event: str, count: int = 1) -> None:
            while count:
                assert watcher.stdout is not None
                told.append(json.loads(watcher.stdout.readline()))
                count -= told[-1]["event"] == event

        until("state")
        manifest = office.manifest(run)
        heads = office.consent(manifest)
        until("consent", 3)
        office.train(keys, manifest, heads)
        until("round", 2)
        until("end")
        assert watcher.stdout.read() == ""
    assert watcher.returncode == 0
    states = [line["state"] for line in told if "state" in line]
    assert states[0] == "awaiting-consent" and states[-1] == "completed"
    assert len([line for line in told if line["event"] == "consent"]) == 3


def test_spending_of_earlier_runs_is_planned_with(office: Office) -> None:
    """Runs after the first: its receipts (sampling rate .1, noise 2) show as spent."""
    sites = office.ok("run", "plan", office.plan())["sites"]
    assert all(float(site["spent"]) > 0 for site in sites)
    answer = office.run("run", "plan", office.plan(epsilon="2.99"))
    assert answer.code == 3
    assert {reason["code"] for reason in answer.json["reasons"]} == {"budget-exceeded"}


def test_a_refusal_ends_the_watch_with_3_and_names_site_and_code(office: Office) -> None:
    office.offer()
    plan = office.plan(title="Too much", epsilon="2.99")
    options = ("--anyway", "--wait", "--home", office.home, "--format", "json")
    with spawn("run", "start", plan, *options, log=office.folder / "start.log") as starter:
        assert starter.stdout is not None
        run = json.loads(starter.stdout.readline())
        assert run["event"] == "started"
        office.consent(office.manifest(run["run"]), refusal="budget-exceeded")
        assert json.loads(starter.stdout.read().splitlines()[-1])["state"] == "refused"
    assert starter.returncode == 3
    watched = office.run("run", "watch", run["run"], "--no-sign")
    assert watched.code == 3
    end = watched.lines[-1]
    assert (end["state"], end["code"]) == ("refused", "budget-exceeded")
    assert end["refused_by"] == ["hospital-1"]
    assert watched.error["code"] == "run-refused" and "hospital-1" in watched.error["message"]
    plain = accord("run", "watch", run["run"], "--home", office.home)
    assert (
        "hospital-1 refuses [budget-exceeded]" in plain.out and "error [run-refused]" in plain.err
    )


def test_a_run_that_nobody_leads_yet_can_be_stopped(office: Office) -> None:
    keys = office.offer()
    run = office.ok("run", "start", office.plan(title="Mistake"))["run"]
    ask = ("run", "stop", run, "--reason", "wrong learning rate")
    asked = office.ok(*ask, "--no-wait")
    assert (asked["state"], asked["standing"]["code"]) == ("awaiting-consent", "stopping")
    assert "asked to stop: wrong learning rate" in office.text(*ask, "--no-wait")
    manifest = office.manifest(run)
    end = {"status": "stopped", "code": "stop-requested", "cause": asked["stop_requested"]}
    result = office.world.result(keys, manifest, manifest.hash, None, rounds=0, **end)
    office.client(office.world.aggregator).post(result)
    assert office.ok(*ask)["state"] == "stopped"  # waited for, and again
    assert "0 of 2 rounds are complete" in office.text(*ask)


def test_a_run_that_is_over_is_neither_stopped_nor_gone_on_with(office: Office) -> None:
    (run,) = [item["id"] for item in office.ok("run", "list") if item["title"] == "First"]
    answer = office.run("run", "stop", run, "--reason", "too late")
    assert (answer.code, answer.error["code"]) == (1, "run-over")
    assert "is completed" in answer.error["message"]
    answer = office.run("run", "resume", run, "--yes")
    assert (answer.code, answer.error["code"]) == (1, "nothing-remains")
    assert "accord model download" in answer.error["hint"]


def test_a_failed_run_goes_on_as_another(office: Office) -> None:
    keys = office.offer()
    plan = office.plan(title="Long", rounds=3, epsilon=None, noise_multiplier=4, steps=1)
    run = office.ok("run", "start", plan)["run"]
    early = office.run("run", "resume", run, "--yes")
    assert (early.code, early.error["code"]) == (1, "run-not-over")
    assert "no answer from hospital-1" in early.error["message"]
    models = office.train(keys, office.manifest(run), fails_after=1)

    again = office.offer()
    unsure = office.run("run", "resume", run)
    assert (unsure.code, unsure.error["code"]) == (2, "not-confirmed")
    said = accord("run", "resume", run, "--home", office.home).err
    assert "1 of 3 rounds" in said and "1 attempts were charged, and stay so" in said
    assert "this asks for 2 more rounds, at most 3 attempts" in said
    assert "hospital-1/tumours: " in said and "moments" not in said
    resumed = office.ok("run", "resume", run[-12:], "--yes")
    told = resumed["continues"]
    assert told == {
        "run": run,
        "rounds": 3,
        "completed": 1,
        "attempts": 1,
        "asked_rounds": 2,
        "asked_attempts": 3,  # of 4, one is used up
        "model": sha256_hex(models[1]),
        "moments_lost": False,
    }
    assert resumed["title"] == "Long, from round 2"
    old, new = (
        RunManifest.from_bytes(office.manifest(item).payload) for item in (run, resumed["run"])
    )
    same = set(RunManifest.model_fields) - {
        *("id", "title", "created", "initial_model", "rounds", "max_attempts_total"),
        *("aggregator", "task"),
    }
    assert all(getattr(old, name) == getattr(new, name) for name in same)
    assert (new.initial_model, new.rounds, new.max_attempts_total) == (told["model"], 2, 3)
    shown = office.ok("run", "show", resumed["run"])["run"]
    assert shown["continues"] == {"run": run, "rounds": 1}
    assert f"goes on   from run {run}, round 1" in office.text("run", "show", resumed["run"])
    assert again.offer.hash == new.aggregator.offer
    office.consent(office.manifest(resumed["run"]), refusal="steward-refused")
    refused = office.run("run", "resume", resumed["run"], "--yes")
    assert (refused.code, refused.error["code"]) == (1, "nothing-remains")
    assert "accord run start" in refused.error["hint"]


def test_runs_are_listed_and_found_by_part_of_their_id(office: Office) -> None:
    runs = office.ok("run", "list")
    assert {"First", "Too much", "Mistake"} <= {run["title"] for run in runs}
    assert "Too much" in office.text("run", "list")
    unknown = office.run("run", "show", "ffffff")
    assert (unknown.code, unknown.error["code"]) == (1, "unknown-run")
    ambiguous = office.run("run", "show", "0")
    assert ambiguous.error["code"] == "ambiguous-run"


def test_runs_are_compared_by_their_signed_records(office: Office, holdout: Path) -> None:
    runs = {run["title"]: run["id"] for run in office.ok("run", "list")}
    first, second, refused = runs["First"], runs["Second"], runs["Too much"]
    assert office.run("run", "watch", second, "--holdout", holdout).code == 0  # signs its metrics
    answer = office.ok("run", "compare", first[-12:], second)
    assert [run["title"] for run in answer["runs"]] == ["First", "Second"]
    for run in answer["runs"]:
        assert (run["state"], run["privacy"], run["rounds"]) == ("completed", "dp", 2)
        assert (run["smallest_cohort"], run["largest_cohort"], run["sites"]) == (3, 3, 3)
        assert run["holdout"] == sha256_hex(holdout.read_bytes())
        assert [spend["epsilon"] for spend in run["epsilon"]] == ["0.5"] * 3
    assert answer["gains"] == {"accuracy": [0, 0], "auc": [0, 0]}
    assert [row["field"] for row in answer["configuration"]] == ["noise_multiplier"]
    assert answer["warnings"] == answer["privacy_cost"] == []
    text = office.text("run", "compare", first, second)
    assert f"A  {first}  First" in text and "epsilon hospital-1" in text
    assert [one["code"] for one in office.ok("run", "compare", first, refused)["warnings"]] == [
        "not-completed"
    ]
    for wrong in ([first], [first, first[-12:]], [first] * 9):
        failed = office.run("run", "compare", *wrong)
        assert (failed.code, failed.error["code"]) == (2, "bad-comparison")


def test_rows_under_another_schema_are_refused(office: Office, tmp_path: Path) -> None:
    run = office.ok("run", "list")[0]["id"]
    other = tmp_path / "other.yaml"
    other.write_text(
        "name: other\ntarget: {column: y, type: binary}\n"
        "columns: [{name: x, type: number, minimum: 0, maximum: 1}]\n"
    )
    rows = tmp_path / "rows.csv"
    rows.write_text("x,y\n")
    options = ("--holdout", rows, "--schema", other, "--no-sign")
    answer = office.run("run", "watch", run, *options)
    assert (answer.code, answer.error["code"]) == (5, "wrong-schema")


def test_a_model_is_traced_described_and_exported(office: Office) -> None:
    (run,) = [one["id"] for one in office.ok("run", "list") if one["title"] == "First"]
    model_checks.lineage_leads_to_what_everybody_signed(office, run)
    model_checks.a_card_says_what_was_signed(office, run)
    model_checks.exports_hold_the_released_model(office, run)
