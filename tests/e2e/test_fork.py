"""A registry that lies with its own key: two logs, an older one, one that it wrote anew.

Real processes, one federation in order: the registry is stopped and goes on from an older copy of
its folder; a copy is written anew without one of its records; and a copy goes on beside the
registry, under one log key, while a run is under way. Nodes say which log they saw; an auditor
needs one file, and for the first what somebody kept.
"""

import re
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accord_common.api.client import RegistryClient
from accord_common.enrolment import ENROLMENT, Enrolment
from accord_common.envelope import Envelope
from accord_common.home import Home
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor
from tests import federations
from tests.chaos.ordering import until
from tests.e2e.killing import kill_at
from tests.e2e.terminal import say

pytestmark = pytest.mark.soak(sample=0, full=1)

FORKED, ROLLED_BACK = "log-forked", "log-rolled-back"
CODES = re.compile(r"\[([a-z-]+)\]")


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with federations.temporary() as federation:
        yield federation


def office(federation: Federation) -> RegistryClient:
    return Home.open(federation.coordinator.home / "accord").registry()


def folder(federation: Federation) -> Path:
    return federation.registry.home / "registry"


def another(federation: Federation, copy: Path) -> str:
    """Start a second registry on a copy of the first one's folder; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    liar = replace(
        federation.registry,
        name="Other registry",
        wrap=lambda command: ["env", f"ACCORD_REGISTRY_PORT={port}", *command],
    )
    federation.services.start(liar, "registry", "start", "--home", copy)
    return f"https://127.0.0.1:{port}"


def lead(path: Path, url: str) -> None:
    """Where a party finds the registry from its next start on: as if its name led there."""
    home = Home.open(path)
    home.joined(url, home.ca_path.read_bytes(), (home.path / "token").read_text())


def broken(federation: Federation, node: Actor) -> dict[str, Any]:
    """What `accord-node log show` says of the log."""
    found: dict[str, Any] = federation.at(node, "log", "show")["broken"] or {}
    return found


def test_a_registry_that_was_set_back_waits_for_every_steward(
    federation: Federation, tmp_path: Path
) -> None:
    desk, node, trust = federation.coordinator, federation.nodes[0], federation.agreement
    join_late(federation)
    assert federations.complete(federation)[-1]["state"] == "completed"
    federation.services.kill(federation.registry)
    older = folder(federation).with_name("older")
    shutil.copytree(folder(federation), older)
    federation.start_registry()
    assert federations.complete(federation)[-1]["state"] == "completed"
    kept, seen = tmp_path / "kept.jsonl", tmp_path / "seen.jsonl"
    say(desk, "audit", "checkpoint", "-o", kept).ok()
    say(node, "log", "export", seen).ok()
    say(desk, "audit", "bundle", "--all", "-o", tmp_path / "honest").ok()
    verify(desk, tmp_path / "honest", trust, kept, seen).ok()

    federation.services.kill(federation.registry)
    shutil.rmtree(folder(federation))
    older.rename(folder(federation))
    federation.start_registry()
    until(lambda: broken(federation, node).get("code") == ROLLED_BACK, "the node to see it")
    run = federation.start_run(federations.plan(federation))
    told = say(node, "status").ok()
    assert ROLLED_BACK in told and "accord-node log accept" in say(node, "check").out
    say(desk, "audit", "bundle", "--all", "-o", tmp_path / "older").ok()
    verify(desk, tmp_path / "older", trust).ok()  # by itself it is a log like any other
    for file in (kept, seen):
        found = verify(desk, tmp_path / "older", trust, file)
        assert found.code == 5 and f"[{ROLLED_BACK}]" in found.out, found
    found = verify(federation.registry, folder(federation), trust, kept)
    assert found.code == 5 and f"[{ROLLED_BACK}]" in found.err, found
    assert "awaiting-consent" in say(desk, "run", "show", run).ok(), "no node has consented"
    for site in federation.nodes:
        evidence = broken(federation, site)["evidence"]
        assert "Goes on from" in say(site, "log", "accept", "--yes").ok()
        assert Path(evidence).exists()
    assert federations.follow(federation, run)[-1]["state"] == "completed"


def test_a_log_that_was_written_anew_is_refuted_by_what_nodes_signed(
    federation: Federation, tmp_path: Path
) -> None:
    desk, trust = federation.coordinator, federation.agreement
    federation.services.kill(federation.registry)
    anew = folder(federation).with_name("anew")
    shutil.copytree(folder(federation), anew)
    federation.start_registry()
    rewrite(anew)
    federation.registry.run("registry", "rebuild", "--home", anew)
    reader = desk.home / "reader"
    shutil.copytree(desk.home / "accord", reader)
    lead(reader, another(federation, anew))
    say(desk, "audit", "bundle", "--all", "-o", tmp_path / "anew", "--home", reader).ok()
    for evidence in (tmp_path / "anew", anew):
        found = verify(desk if evidence != anew else federation.registry, evidence, trust)
        assert found.code == 5 and f"[{FORKED}]" in found.err, found
        assert "what Site" in found.err or "signed in record" in found.err, found
    run = federation.office("run", "list")[0]["id"]
    say(desk, "audit", "bundle", run, "-o", tmp_path / "part", "--home", reader).ok()
    found = verify(desk, tmp_path / "part", trust)
    assert found.code == 5 and f"[{FORKED}]" in found.err, found


def test_two_logs_under_one_name_end_the_run_that_hears_of_both(
    federation: Federation, tmp_path: Path
) -> None:
    desk, first, trust = federation.coordinator, federation.nodes[0], federation.agreement
    patient = {"advertise_s": 60, "update_s": 60, "rejoin_s": 600}
    run = federation.start_run(
        federations.plan(
            federation, rounds=900, spare_attempts=50, noise_multiplier="60", deadlines=patient
        )
    )
    with office(federation) as client:
        until(lambda: client.run(run).round >= 2, "two rounds")
    kill_at(federation, run, "update", first)
    federation.services.kill(federation.registry)
    copy = folder(federation).with_name("other")
    shutil.copytree(folder(federation), copy)
    federation.start_registry()
    lead(first.home / "accord", another(federation, copy))
    federation.start_node(first)

    end = federations.follow(federation, run)[-1]
    # Heard of between rounds, or by nodes that then refuse what would unmask one.
    assert end["state"] == "failed" and FORKED in (end["code"], *CODES.findall(end["cause"])), end[
        "cause"
    ]
    assert f"[{FORKED}]" in say(desk, "run", "show", run).ok()
    say(desk, "audit", "bundle", "--all", "-o", tmp_path / "all").ok()
    witnesses = [
        site for site in federation.nodes if broken(federation, site).get("code") == FORKED
    ]
    assert witnesses, "a node has the evidence"
    for site in witnesses:
        assert FORKED in say(site, "status").ok()
        told = broken(federation, site)
        found = verify(desk, tmp_path / "all", trust, Path(told["evidence"]))
        # Whose registry denies a head, or proves it of another tree, may hold two of one log.
        denied = told["message"].startswith("the registry: ")
        assert (found.code == 5 and f"[{FORKED}]" in found.err) or denied, (told, found)


def verify(actor: Actor, bundle: Path, trust: str, *checkpoints: Path) -> Any:
    kept = [word for file in checkpoints for word in ("--checkpoint", file)]
    return say(actor, "audit", "verify", bundle, "--trust", trust, *kept)


def join_late(federation: Federation) -> None:
    """Somebody of whom no agreement speaks, and whom the registry will deny."""
    invited = federation.office("partner", "invite", "--role", "auditor", "--name", "Witness")
    home = federation.registry.home / "witness"
    federation.registry.run(
        "init", "--name", "Witness", "--role", "auditor", "--jurisdiction", "DE", "--home", home
    )
    federation.registry.run("enroll", invited["invitation"], "--home", home)


def rewrite(home: Path) -> None:
    """Have a registry's log never have heard of the party that enrolled last.

    What it signs from then on it signs with its true key.
    """
    with closing(sqlite3.connect(home / "registry.db")) as db, db:
        guards = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            db.execute(f"DROP TRIGGER {name}")
        rows = db.execute(
            "SELECT kind, hash, envelope, leaf, run, received FROM records ORDER BY sequence"
        ).fetchall()
        enrolled = [Envelope.from_bytes(row[2]) for row in rows if row[0] == ENROLMENT]
        party = Enrolment.from_bytes(enrolled[-1].payload).party.encode()
        left = [row for row in rows if party not in Envelope.from_bytes(row[2]).payload]
        assert len(left) == len(rows) - 2, "its enrolment, and its delegation"
        for table, column in db.execute(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
            " WHERE m.type = 'table' AND c.name IN ('party', 'id')"
        ).fetchall():
            db.execute(
                f"DELETE FROM {table} WHERE replace({column}, '-', '') = ?",
                (party.decode().replace("-", ""),),
            )
        db.execute("DELETE FROM records")
        places = ((place, *row) for place, row in enumerate(left, start=1))
        db.executemany(
            "INSERT INTO records (sequence, kind, hash, envelope, leaf, run, received)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            places,
        )
        db.execute("DELETE FROM checkpoints")
        for _, guard in guards:
            db.execute(guard)
