"""The first page: what waits for the steward, what runs, what is halted, how the node is.

Guarantees: everything is read from the node's own files; what the registry says comes beside it, in
the `Board`.
"""

import os
from dataclasses import dataclass
from datetime import datetime

from accord_client import halts
from accord_client.balances import strictest_delta
from accord_client.contact import REGISTRY_SEEN, Trouble, trouble_of
from accord_client.lock import running_pid
from accord_client.queueing import waiting
from accord_client.reconciling import behind
from accord_client.state import Run
from accord_client.steward.board import Board, Offered
from accord_client.steward.funds import Fund, funds
from accord_client.steward.proofs import Proofs
from accord_client.stores import Stores
from accord_client.witness import trouble as log_trouble
from accord_common.agreement import Agreement
from accord_common.api.schemas import FINAL_STATES
from accord_common.checks.party import NEEDED_BYTES
from accord_common.errors import AccordError
from accord_common.fields import CLOCK_TOLERANCE_S
from accord_common.manifest import RunManifest
from accord_common.privacy import words
from accord_common.privacy.accounting import Tally
from accord_common.privacy.filter import Cap, RdpFilter

SILENT_S = 120.0  # the daemon asks the registry every 30 s at least


@dataclass(frozen=True, slots=True)
class Going:
    """An accepted run that is not over; `epsilon` is what it has charged by now."""

    run: Run
    rounds: int
    epsilon: str
    trouble: Trouble | None


@dataclass(frozen=True, slots=True)
class Halted:
    """An agreement that is suspended or was withdrawn from, and who said so, why."""

    hash: str
    title: str
    state: str
    reasons: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Ending:
    """A key or certificate; `soon` within the time that is warned of."""

    what: str
    until: datetime
    renew: str
    soon: bool
    over: bool


@dataclass(frozen=True, slots=True)
class Health:
    """How the node is; each field is one line of the page."""

    pid: int | None
    registry: str | None
    seen: datetime | None
    silent: bool
    queued: int
    endings: list[Ending]
    free_bytes: int
    short_of_disk: bool
    clock_s: float | None
    clock_off: bool
    datasets: dict[str, AccordError | None]
    frozen: list[AccordError]
    proofs: Proofs

    @property
    def well(self) -> bool:
        """Whether nothing asks for anybody."""
        failing = self.pid is None or self.silent or self.short_of_disk or self.clock_off
        failing = failing or bool(self.frozen) or self.proofs.broken
        return not (
            failing
            or any(one.soon for one in self.endings)
            or any(self.datasets.values())
            or not self.datasets
        )


@dataclass(frozen=True, slots=True)
class Home:
    """See the module."""

    asked: list[Offered]
    queue: list[tuple[Run, int]]
    going: list[Going]
    halted: list[Halted]
    funds: list[Fund]
    health: Health


def read_home(stores: Stores, board: Board, proofs: Proofs, now: datetime) -> Home:
    """Read it all; `board` and `proofs` are what was found beside the page."""
    return Home(
        asked=asked(stores, board),
        queue=queue(stores),
        going=[
            _going(stores, run)
            for run in stores.state.runs()
            if run.decision == "accept" and run.state not in FINAL_STATES
        ],
        halted=_halted(stores),
        funds=funds(stores, now),
        health=_health(stores, board, proofs, now),
    )


def asked(stores: Stores, board: Board) -> list[Offered]:
    """Runs that wait for the steward: by the own files, then those that only the registry names."""
    places = waiting(stores)
    known = {run.id: run for run in stores.state.runs()}
    own = [
        Offered(run.id, run.title)
        for run in known.values()
        if run.decision == "ask" and run.state == "awaiting-consent" and run.id not in places
    ]
    return [*own, *(run for run in board.runs if run.id not in known)]


def queue(stores: Stores) -> list[tuple[Run, int]]:
    """Runs whose dataset is in another one, and their places, from 1."""
    places = waiting(stores)
    return [(run, places[run.id]) for run in stores.state.runs() if run.id in places]


def _going(stores: Stores, run: Run) -> Going:
    manifest = RunManifest.from_bytes(stores.state.record(run.manifest).payload)
    found = [entry.spend for entry, _ in stores.ledger.entries(run=run.manifest)]
    cost = words.figure(0.0)
    if found:
        delta = strictest_delta(stores, found[0].population)
        rule = RdpFilter(Cap(epsilon="0", delta=delta, non_private=True), stores.ledger.orders)
        tally = Tally.of(found)
        cost = words.UNBOUNDED if tally.non_private else words.figure(rule.epsilon(tally))
    trouble = trouble_of(stores, run.id) if run.state == "running" else None
    return Going(run, manifest.rounds, cost, trouble)


def _halted(stores: Stores) -> list[Halted]:
    found = []
    for hash_, envelope in stores.agreements.signed().items():
        if state := halts.state(stores.agreements, hash_):
            terms = Agreement.from_bytes(envelope.payload)
            said = [
                (terms.party(party).name, why)
                for party, why in halts.reasons(stores.agreements, hash_)
            ]
            found.append(Halted(hash_, terms.title, state, said))
    return found


def _health(stores: Stores, board: Board, proofs: Proofs, now: datetime) -> Health:
    disk = os.statvfs(stores.home.path)
    free, seen = disk.f_bavail * disk.f_frsize, stores.state.moment(REGISTRY_SEEN)
    drift = board.drift_s
    return Health(
        pid=running_pid(stores.home.path),
        registry=stores.home.profile.registry_url,
        seen=seen,
        silent=seen is None or (now - seen).total_seconds() > SILENT_S,
        queued=stores.state.queued() + len(halts.waiting(stores.agreements)),
        endings=[
            Ending(
                term.what, term.until, term.renew, term.trouble(now) is not None, term.until <= now
            )
            for term in stores.home.terms("accord-node renew")
        ],
        free_bytes=free,
        short_of_disk=free < NEEDED_BYTES,
        clock_s=drift,
        clock_off=drift is not None and abs(drift) > CLOCK_TOLERANCE_S,
        datasets=stores.datasets.problems(),
        frozen=[error for error in (behind(stores), log_trouble(stores)) if error is not None],
        proofs=proofs,
    )
