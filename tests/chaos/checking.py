"""What must hold of a run, whatever befell its processes."""

import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass

from accord_common.api.client import RegistryClient
from accord_common.api.schemas import FINAL_STATES, RunView
from accord_common.chain import fetch_result, fetch_run
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, NotFoundError
from accord_common.home import Home
from accord_common.receipts import RESULT, AggregatorReceipt
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor
from tests.chaos.ordering import PATIENCE_S, until
from tests.known.sums import check_sums, tables_of
from tests.recording.knowing import entries

Place = tuple[int, int]  # round, attempt


@dataclass(frozen=True)
class Cut:
    """An attempt that a death cut off, and whether it has cost these nodes."""

    place: Place
    nodes: tuple[Actor, ...]
    charged: bool


def office(federation: Federation) -> RegistryClient:
    """The coordinator's view of the registry."""
    return Home.open(federation.coordinator.home / "accord").registry()


def party_of(node: Actor) -> str:
    """A node's party id."""
    return Home.open(node.home / "accord").profile.party


def ended(federation: Federation, run: str, patience_s: float = PATIENCE_S) -> RunView:
    """Wait for a run's end; a registry that is away is asked again."""

    def final() -> bool:
        try:
            views.append(client.run(run))
        except AccordError:
            return False
        return views[-1].state in FINAL_STATES

    views: list[RunView] = []
    with office(federation) as client:
        until(final, f"the end of run {run}", patience_s)
    return views[-1]


def audited(federation: Federation, run: str) -> tuple[AggregatorReceipt, ...]:
    """The receipts of a run, verified from its result to its manifest; every sum is exact.

    The sites send known vectors.
    """
    with office(federation) as client:

        def lookup(record_hash: str) -> Envelope:
            try:
                return client.record(record_hash)
            except NotFoundError:
                return client.agreement(record_hash).envelope

        verified = fetch_run(lookup, client.run(run).manifest_hash)
        (result,) = client.records(kind=RESULT, run=run)
        receipts = fetch_result(lookup, result.envelope.hash, verified).receipts
        initial = client.get_blob(verified.manifest.initial_model)
    check_sums(verified.manifest, initial, receipts, tables_of(federation))
    return receipts


def newest_attempt(federation: Federation, run: str) -> Place:
    """The attempt that the aggregator opened last."""
    path = federation.aggregator.home / "accord" / "runs" / run / "journal"
    whole = path.read_bytes().split(b"\n")[:-1]  # the last may be in the making
    newest = [line for line in map(json.loads, whole) if line["type"] == "opened"][-1]
    return newest["round"], newest["attempt"]


def check_completed(federation: Federation, run: str, cuts: Collection[Cut] = ()) -> int:
    """Assert that a run is completed, paid for as its receipts say, and forgotten where it must be.

    Of every attempt there is one receipt; a completed round is charged once at each node; no node
    is charged twice for anything, nor for an attempt in which it had no part.

    Returns:
        How many attempts it took.
    """
    view = ended(federation, run)
    assert (view.state, view.round) == ("completed", view.rounds), view
    receipts = audited(federation, run)
    done = [receipt.round for receipt in receipts if receipt.outcome == "completed"]
    assert done == list(range(view.rounds))
    assert receipts[-1].model_after == view.model
    for node in federation.nodes:
        _check_paid(node, view.manifest_hash, receipts)
        _check_forgotten(federation, node, run)
    for cut in cuts:
        for node in cut.nodes:
            paid = (*cut.place,) in charged(node, view.manifest_hash)
            assert paid == cut.charged, f"{node.name}, round and attempt {cut.place}"
    folder = federation.aggregator.home / "accord" / "runs" / run
    assert not [path for path in folder.rglob("*") if path.suffix in (".sum", ".part")]
    return len(receipts)


def charged(node: Actor, manifest_hash: str) -> Mapping[Place, int]:
    """The attempts of a run that a node's ledger was charged for, and how often."""
    found: dict[Place, int] = {}
    for entry, _ in entries(node):
        if entry.spend.run == manifest_hash:
            place = entry.spend.round, entry.spend.attempt
            found[place] = found.get(place, 0) + 1
    return found


def _check_paid(node: Actor, manifest_hash: str, receipts: Collection[AggregatorReceipt]) -> None:
    party, paid = party_of(node), charged(node, manifest_hash)
    assert set(paid.values()) <= {1}, f"{node.name} paid twice: {paid}"
    opened = {(r.round, r.attempt) for r in receipts if party in {*r.cohort, *r.lost}}
    summed = {
        (r.round, r.attempt) for r in receipts if r.outcome == "completed" and party in r.cohort
    }
    assert summed <= paid.keys() <= opened, f"{node.name}: {paid.keys()} of {opened}"


def _check_forgotten(federation: Federation, node: Actor, run: str) -> None:
    """Soon after the end a node knows it, has posted everything, and keeps no secret of the run."""

    def settled() -> bool:
        folder = node.home / "accord"
        with closing(sqlite3.connect(folder / "node.db")) as state:
            ((status,),) = state.execute("SELECT state FROM runs WHERE id = ?", (run,))
            ((queued,),) = state.execute("SELECT count(*) FROM queue")
        with closing(sqlite3.connect(folder / "rounds.db")) as rounds:
            kept = rounds.execute("SELECT sealed FROM rounds WHERE run = ?", (run,)).fetchall()
        return (status, queued, kept) == ("completed", 0, [(b"",)])

    until(settled, f"{node.name} to be done with run {run}")
