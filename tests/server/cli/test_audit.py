"""An auditor at the console: what is taken from a registry is checked in a folder of its own."""

import shutil
from pathlib import Path

import pytest

from accord_common.chain import fetch_run
from accord_common.costs import spent
from accord_common.envelope import Envelope
from tests.server.cli.office import Office, accord


@pytest.fixture(scope="module")
def run(office: Office) -> str:
    """A run that was trained to its end, with its true cost."""
    keys = office.offer()
    run: str = office.ok("run", "start", office.plan())["run"]
    manifest = office.manifest(run)
    verified = fetch_run(office.client(office.world.aggregator).record, manifest.hash)
    attempts = {actor.id: 2 for actor in office.world.hospitals}
    office.epsilon = [row.model_dump() for row in spent(verified, attempts)]
    office.train(keys, manifest)
    return run


def agreement_of(office: Office) -> str:
    (found,) = office.ok("agreement", "list")
    named: str = found["hash"]
    return named


def test_a_run_is_taken_away_and_verified_from_the_file_alone(
    office: Office, run: str, tmp_path: Path
) -> None:
    agreement, elsewhere = agreement_of(office), tmp_path / "elsewhere"
    elsewhere.mkdir()
    for subject, name in ((run, "run"), (run[-6:], "tail"), (agreement, "agreement")):
        told = office.text("audit", "bundle", subject, "-o", tmp_path / name)
        assert "--trust AGREEMENT-HASH" in told
        shutil.move(tmp_path / name, elsewhere / name)
        answer = accord("audit", "verify", elsewhere / name, "--trust", agreement)
        assert (answer.code, answer.err) == (0, ""), answer.err
        assert run in answer.out and answer.out.rstrip().endswith("authenticated")
    assert (elsewhere / "run").read_bytes() == (elsewhere / "tail").read_bytes()
    unknown = office.run("audit", "bundle", "ab" * 32, "-o", tmp_path / "x")
    assert (unknown.code, unknown.error["code"]) == (1, "unknown-record")
    both = office.run("audit", "bundle", run, "--all", "-o", tmp_path / "x")
    assert (both.code, both.error["code"]) == (2, "no-subject")


def test_a_checkpoint_that_was_kept_and_one_record(
    office: Office, run: str, tmp_path: Path
) -> None:
    agreement, kept = agreement_of(office), tmp_path / "kept.jsonl"
    shown = office.text("audit", "checkpoint", "-o", kept)
    assert "log key" in shown
    office.offer()
    office.text("audit", "checkpoint", "-o", kept)
    assert len(kept.read_bytes().splitlines()) == 2
    office.text("audit", "bundle", "--all", "-o", tmp_path / "all")
    arguments = ("--trust", agreement, "--checkpoint", kept)
    assert accord("audit", "verify", tmp_path / "all", *arguments).code == 0
    office.text("audit", "bundle", run, "-o", tmp_path / "part")
    apart = accord("audit", "verify", tmp_path / "part", *arguments)
    assert apart.code == 5 and "[unproven-checkpoint]" in apart.err
    office.text("audit", "bundle", run, "-o", tmp_path / "part", "--checkpoint", kept)
    assert accord("audit", "verify", tmp_path / "part", *arguments).code == 0
    alone = accord("audit", "verify", kept)
    assert alone.code == 5 and "BUNDLE --checkpoint" in alone.err
    record = office.manifest(run).hash
    office.text("audit", "proof", record, "-o", tmp_path / "proof")
    answer = accord("audit", "verify", tmp_path / "proof", "--trust", agreement)
    assert answer.code == 0 and record in answer.out
    assert Envelope.from_bytes(kept.read_bytes().splitlines()[0]).kind == "checkpoint"


def test_a_registrys_folder_on_its_machine(office: Office, run: str) -> None:
    agreement, folder = agreement_of(office), office.folder / "registry"
    answer = accord("audit", "verify", folder, "--trust", agreement, "--format", "json")
    assert (answer.code, answer.err) == (0, ""), answer.err
    assert answer.json["verdict"] == "authenticated"
    assert accord("audit", "verify", folder).code == 5
    foreign = accord("audit", "verify", folder, "--trust", "ab" * 32)
    assert foreign.code == 5 and "no --trust names or leads to" in foreign.err
