"""What `accord-node check` looks at: each question is asked, whatever the others answered.

Guarantees: nothing is changed, charged or sent beyond ordinary reads; a failure names its layer and
its remedy. Registry and aggregators are reached on the way that the daemon takes.
"""

from __future__ import annotations

from collections.abc import Iterator

from accord_client import outbox
from accord_client.contact import endpoint_of
from accord_client.deciding import own_agreement
from accord_client.lock import running_pid
from accord_client.reconciling import behind
from accord_client.state import SERVED_STATES
from accord_client.stores import Stores, open_stores
from accord_client.witness import trouble
from accord_common.agreement import Agreement
from accord_common.checks.check import Check, ask, failed
from accord_common.checks.connection import walk
from accord_common.checks.party import folder_checks, registry_checks
from accord_common.errors import AccordError
from accord_common.fields import now
from accord_common.home import Home
from accord_common.log.checkpoint import Checkpoint
from accord_common.manifest import RunManifest
from accord_common.tls import trusting


def examine(home: Home) -> Iterator[Check]:
    """Ask every question, in the order in which they build on each other."""
    yield from registry_checks(home)
    yield from folder_checks(home)
    yield ask("daemon", "lock", lambda: _daemon(home))
    for term in home.terms("accord-node renew"):
        if (trouble := term.trouble(now())) is not None:
            ok = now() < term.until
            yield Check("expiry", "key", ok, trouble, "" if ok else "expired", term.renew)
    try:
        with open_stores(home) as stores:
            yield from _local(stores)
    except (AccordError, OSError) as error:
        yield failed("ledger", "state", error)


def _local(stores: Stores) -> Iterator[Check]:
    keys = stores.keys
    yield ask(
        "ledger", "state", lambda: f"every entry holds; head {stores.ledger.verify(keys)[:16]}"
    )
    yield ask("receipts", "state", lambda: _receipts(stores))
    yield ask("log", "state", lambda: _log(stores))
    yield ask("outbox", "state", lambda: f"{outbox.verify(stores.outbox.path, keys)} lines hold")
    yield ask("agreements", "state", lambda: _agreements(stores))
    datasets = stores.datasets.all()
    if not datasets:
        yield Check(
            "datasets", "data", False, "none is registered", "no-dataset",
            "accord-node dataset add FILE ...",
        )  # fmt: skip
    for name, problem in stores.datasets.problems().items():
        if problem is None:
            yield Check("dataset", "data", True, f"{name}: no change since its check is in sight")
        else:
            yield failed("dataset", "data", problem)
    for run in stores.state.runs():
        if run.decision == "accept" and run.state in SERVED_STATES:
            manifest = RunManifest.from_bytes(stores.state.record(run.manifest).payload)
            yield from _aggregator(stores.home, manifest)


def _daemon(home: Home) -> str:
    pid = running_pid(home.path)
    return "not running" if pid is None else f"running, process {pid}"


def _aggregator(home: Home, manifest: RunManifest) -> Iterator[Check]:
    try:
        at = endpoint_of(manifest, home)
        trusted = trusting(at.ca_pem)
    except (AccordError, OSError) as error:
        yield failed("aggregator", "setting", error)
        return
    yield from walk("aggregator", at.host, at.port, at.proxy, trusted, now(), at.tls_spki)


def _receipts(stores: Stores) -> str:
    if (error := behind(stores)) is not None:
        raise error
    return "none of this node's shows an entry that the ledger lacks"


def _log(stores: Stores) -> str:
    if (error := trouble(stores)) is not None:
        raise error
    seen = stores.heads.newest()
    if seen is None:
        return "the registry's has not been seen yet"
    head = Checkpoint.from_bytes(seen.payload)
    return f"the registry's has grown as it should; {head.size} records at {head.created}"


def _agreements(stores: Stores) -> str:
    signed = stores.agreements.signed()
    ready = 0
    for hash_, envelope in signed.items():
        complete = envelope.signers == Agreement.from_bytes(envelope.payload).keys
        over = own_agreement(stores, hash_, now())[1] is not None
        ready += complete and not over
    return f"{len(signed)} signed here, {ready} of them complete and in force"
