"""What `accord-node check` looks at: each question is asked, whatever the others answered.

Guarantees: nothing is changed, charged or sent beyond ordinary reads; a failure names its remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from accord_client import outbox
from accord_client.contact import endpoint_of
from accord_client.reconciling import behind
from accord_client.state import SERVED_STATES
from accord_client.stores import Stores, open_stores
from accord_client.wire import Wire
from accord_common.agreement import Agreement
from accord_common.delegating import check_not_revoked
from accord_common.enrolment import Delegation
from accord_common.errors import AccordError, AuthError, PolicyError, UsageError
from accord_common.fields import CLOCK_TOLERANCE_S, now, parse_time
from accord_common.home import Home
from accord_common.manifest import RunManifest
from accord_common.tls import trusting


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what to do where it is not well."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine(home: Home) -> Iterator[Check]:
    """Ask every question, in the order in which they build on each other."""
    yield _ask("registry", lambda: _registry(home))
    yield _ask("clock", lambda: _clock(home))
    yield _ask("membership", lambda: _membership(home))
    yield _ask("delegation", lambda: _delegation(home))
    for term in home.terms("accord-node renew"):
        if (trouble := term.trouble(now())) is not None:
            yield Check("expiry", now() < term.until, trouble, term.renew)
    try:
        with open_stores(home) as stores:
            yield from _local(stores)
    except AccordError as error:
        yield _failed("ledger", error)


def _local(stores: Stores) -> Iterator[Check]:
    keys = stores.keys
    yield _ask("ledger", lambda: f"every entry holds; head {stores.ledger.verify(keys)[:16]}")
    yield _ask("receipts", lambda: _receipts(stores))
    yield _ask("outbox", lambda: f"{outbox.verify(stores.outbox.path, keys)} lines hold")
    yield _ask("agreements", lambda: _agreements(stores))
    datasets = stores.datasets.all()
    if not datasets:
        yield Check("datasets", False, "none is registered", "accord-node dataset add FILE ...")
    for name, problem in stores.datasets.problems().items():
        if problem is None:
            yield Check("dataset", True, f"{name}: no change since it was checked is in sight")
        else:
            yield _failed("dataset", problem)
    for run in stores.state.runs():
        if run.decision == "accept" and run.state in SERVED_STATES:
            manifest = RunManifest.from_bytes(stores.state.record(run.manifest).payload)
            yield _ask("aggregator", partial(_aggregator, stores.home, manifest))


def _ask(name: str, question: Callable[[], str]) -> Check:
    try:
        return Check(name, True, question())
    except AccordError as error:
        return _failed(name, error)
    except OSError as error:
        return Check(name, False, f"[system-error] {error.filename}: {error.strerror}")


def _failed(name: str, error: AccordError) -> Check:
    return Check(name, False, f"[{error.code}] {error.message}", error.hint)


def _registry(home: Home) -> str:
    with home.registry() as registry:
        info = registry.info()
        return f"{registry.url} answers over the pinned CA; protocol {info.protocol}"


def _clock(home: Home) -> str:
    with home.registry() as registry:
        drift_s = (now() - registry.moment()).total_seconds()
    if abs(drift_s) > CLOCK_TOLERANCE_S:
        raise UsageError(
            "clock-skew",
            f"this clock is {drift_s:+.0f} s from the registry's, the bound is {CLOCK_TOLERANCE_S}",
            hint="Set the clock, best by NTP.",
        )
    return f"{drift_s:+.0f} s from the registry's"


def _membership(home: Home) -> str:
    with home.registry() as registry:
        partner = registry.partner(home.profile.party)
    if partner.identity_key != home.profile.identity_key:
        raise AuthError("identity-exchanged", "the registry lists this party with another key")
    if partner.status != "approved":
        raise PolicyError(
            "not-approved",
            f"{partner.name} is {partner.status}",
            hint="The coordinator must run: accord partner approve, or readmit",
        )
    return f"{partner.name} is {partner.status}"


def _delegation(home: Home) -> str:
    check_not_revoked(home)
    delegation = Delegation.from_bytes(home.delegation().payload)
    delegation.check_valid_at(now())
    if delegation.node_key != home.node_key().public:
        raise UsageError("node-key-exchanged", "node.pem is not the key that was delegated")
    days = (parse_time(delegation.valid_until) - now()).days
    return f"the node's keys may act until {delegation.valid_until} ({days} days)"


def _receipts(stores: Stores) -> str:
    if (error := behind(stores)) is not None:
        raise error
    return "none of this node's shows an entry that the ledger lacks"


def _agreements(stores: Stores) -> str:
    signed = stores.agreements.signed()
    ready = 0
    for hash_, envelope in signed.items():
        complete = envelope.signers == Agreement.from_bytes(envelope.payload).keys
        over = stores.agreements.withdrawn(hash_) or stores.agreements.successor(hash_)
        ready += complete and not over
    return f"{len(signed)} signed here, {ready} of them complete and in force"


def _aggregator(home: Home, manifest: RunManifest) -> str:
    endpoint = endpoint_of(manifest, home.ca_path)
    wire = Wire(endpoint, trusting(endpoint.ca_pem), dict)
    try:
        wire.connect()
    finally:
        wire.close()
    return f"{manifest.aggregator.address} shows the key that run {manifest.title!r} names"
