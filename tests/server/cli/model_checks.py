"""What becomes of a trained model: its origin, its card, its exports; `test_runs` has the runs."""

import json
from typing import Any

import onnx
import pytest
import torch
import yaml

from accord_server.coordinator.exporting import answers
from tests.server.cli.office import Office, accord


def continued(office: Office) -> tuple[str, str]:
    """A run that failed after a round, and the one that went on from it."""
    keys = office.offer()
    plan = office.plan(title="Half", rounds=2, epsilon=None, noise_multiplier=20, steps=1)
    first: str = office.ok("run", "start", plan)["run"]
    models = office.train(keys, office.manifest(first), fails_after=1)
    keys = office.offer()
    second: str = office.ok("run", "resume", first, "--yes")["run"]
    lineage_needs_a_result(office, second)
    office.train(keys, office.manifest(second), start=models[-1])
    return first, second


def lineage_leads_to_what_everybody_signed(office: Office, run: str) -> None:
    found: dict[str, Any] = office.ok("model", "lineage", run)
    assert found == office.ok("model", "lineage", found["model"])
    assert found == office.ok("model", "lineage", found["model"][:12])
    shown = office.ok("run", "show", run)["run"]
    assert (found["model"], found["manifest"]) == (shown["model"], shown["manifest_hash"])
    assert [line["round"] for line in found["rounds"]] == [1, 2]
    assert found["rounds"][0]["model_before"] == found["initial_model"]
    assert found["rounds"][1]["model_after"] == found["model"]
    assert found["agreement"]["hash"] == shown["agreement"]
    assert len(found["agreement"]["signed_by"]) == 5 and found["earlier"] == []
    assert [line["name"] for line in found["sites"]] == [f"hospital-{i}" for i in (1, 2, 3)]
    client = office.client(office.world.aggregator)
    for line in found["sites"]:
        assert client.record(line["consent"]).kind == "consent"
        assert (line["rounds"], line["epsilon"], line["size"]) == (2, "0.5", 200)
    for line in found["rounds"]:
        assert client.record(line["receipt"]).kind == "aggregator-receipt"
    assert found["evaluations"][0]["metrics"] == {"accuracy": "1", "auc": "1"}
    text = office.text("model", "lineage", run)
    for digits in (found["model"], found["result"], found["manifest"], shown["agreement"]):
        assert digits in text


def lineage_goes_back(office: Office, runs: tuple[str, str]) -> None:
    first, second = runs
    (line,) = office.ok("model", "lineage", second)["earlier"]
    assert (line["run"], line["rounds"]) == (first, 1)
    assert f"round 1 of run {first}" in office.text("model", "lineage", second)


def lineage_needs_a_result(office: Office, waiting: str) -> None:
    unknown = office.run("model", "lineage", "ab" * 32)
    assert (unknown.code, unknown.error["code"]) == (1, "unknown-model")
    early = office.run("model", "lineage", waiting)
    assert (early.code, early.error["code"]) == (1, "no-result")
    assert f"accord run watch {waiting}" in early.error["hint"]


def a_card_says_what_was_signed(office: Office, run: str) -> None:
    out, again = office.folder / "README.md", office.folder / "again.md"
    made = office.ok("model", "card", run, "--out", out)
    office.text("model", "card", run, "--out", again)
    text = out.read_text()
    assert text == again.read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    found = office.ok("model", "lineage", run)
    assert made["model"] == found["model"]
    assert front["license"] == "other"
    assert front["pipeline_tag"] == "tabular-classification"
    assert {"federated-learning", "differential-privacy"} <= set(front["tags"])
    (index,) = front["model-index"]
    (result,) = index["results"]
    assert {one["type"]: one["value"] for one in result["metrics"]} == {"auc": 1, "accuracy": 1}
    assert result["dataset"]["type"] == f"sha256-{found['evaluations'][0]['holdout']}"
    assert "DUO:0000007, disease specific research" in text
    assert "| hospital-2/tumours | 0.5 | 0.00001 | adding or removing one record | 2 |" in text
    for name in ("model", "result", "manifest"):
        assert f"`{found[name]}`" in text
    assert all(f"`{site['consent']}`" in text for site in found["sites"])
    taken = office.run("model", "card", run, "--out", out)
    assert (taken.code, taken.error["code"]) == (2, "bad-output")


def a_card_claims_no_unsigned_results(office: Office, runs: tuple[str, str]) -> None:
    out = office.folder / "continued.md"
    office.ok("model", "card", runs[1], "--out", out)
    text = out.read_text()
    assert "model-index" not in text and "Nobody signed an evaluation" in text
    assert f"goes on from `{runs[0]}`: what those rounds cost is not in these" in text


def exports_hold_the_released_model(office: Office, run: str) -> None:
    state, graph = office.folder / "first.pt", office.folder / "first.onnx"
    written = [
        json.loads(office.text("model", "export", run, "--format", form, "--out", out))
        for form, out in (("torch", state), ("onnx", graph))
    ]
    assert len({one["model"] for one in written}) == 1
    weights = torch.load(state, weights_only=True)
    assert weights["0.weight"].tolist()[0] == pytest.approx([0.2, 0.4])
    proto = onnx.load(graph)
    facts = {item.key: item.value for item in proto.metadata_props}
    assert (facts["run"], facts["model"]) == (run, written[0]["model"])
    assert answers(proto, torch.eye(2)).ravel().tolist() == pytest.approx([0.2, 0.4])
    again = accord("model", "export", run, "--format", "torch", "-o", state, "--home", office.home)
    assert again.code == 2 and "bad-output" in again.err
