"""From the queue to the registry: consents and receipts, in the order they were made.

What the institution says about agreements goes first (`halts`).

Guarantees: each record has its outbox line before it is sent, and leaves the queue only when the
registry has it or has refused it for good; records are idempotent by hash, so sending one again
after a crash changes nothing. What a registry lacks that was restored from a backup it gets again,
oldest first (`recall`); a receipt waits until its run has an aggregator there again.

No receipt leaves whose entry the ledger lacks: that freezes the ledger (`reconciling`), and
receipts wait while it is frozen. `forked-chain` is the registry's bare word: it freezes only where
the chain's head proves it under this node's key. Otherwise the run's receipts wait, and are sent
again at the next delivery; what other runs have queued goes on. A consent that the registry has
otherwise was given by another copy of this node, which then has the run to itself.
"""

import structlog

from accord_client.halts import post_waiting, waiting
from accord_client.outbox import Kind, Place
from accord_client.reconciling import behind, compare_run, freeze, head_of, leave_to_other
from accord_client.sending import Queued
from accord_client.stores import Stores
from accord_common.api.client import RegistryClient
from accord_common.api.membership import SHUT_OUT
from accord_common.api.schemas import RunView
from accord_common.canonical import sha256_hex
from accord_common.errors import AccordError, AuthError, TransportError
from accord_common.receipts import CONSENT, NodeReceipt

log = structlog.get_logger(__name__)


def deliver(stores: Stores, registry: RegistryClient) -> int:
    """Post everything queued; returns how many records the registry took.

    Raises:
        TransportError: the registry cannot be reached; what is left stays queued.
        AuthError: the registry does not know this node's token; likewise.
    """
    taken, position = post_waiting(stores.agreements, stores.outbox, registry), 0
    forked: set[str] = set()  # runs whose receipts wait
    recalled: set[str] = set()
    while (item := stores.state.next_queued(position)) is not None:
        position = item.position
        kind: Kind = "consent" if item.envelope.kind == CONSENT else "node-receipt"
        if kind == "node-receipt" and (item.run in forked or not _may_leave(stores, item)):
            continue
        if not item.noted:
            data = item.envelope.to_bytes()
            place = Place(item.run, item.round, item.attempt)
            stores.outbox.append(kind, "registry", sha256_hex(data), len(data), place)
            stores.state.note(item.position)
        held = False
        try:
            registry.post(item.envelope)
            held = True
        except (TransportError, AuthError):
            raise
        except AccordError as error:
            if error.code == "missing-predecessor" and item.run not in recalled:
                recalled.add(item.run)
                if _recall(stores, item.run, None):
                    position = 0
                    continue
            if kind == "node-receipt" and error.code == "run-not-running":
                forked.add(item.run)
                log.warning("receipt-waits", run=item.run, code=error.code, detail=error.message)
                continue
            if kind == "node-receipt" and error.code == "forked-chain":
                forked.add(item.run)
                _look_at_head(stores, registry, item, error)
                continue
            # An internal error of the registry's, or a door that the coordinator opens again.
            if type(error) is AccordError or error.code in SHUT_OUT:
                raise TransportError(error.code, error.message, hint=error.hint) from error
            if kind == "consent" and error.code == "forked-chain":
                leave_to_other(stores, item.run)
            log.warning(
                "registry-refused-record",
                kind=kind,
                record=item.envelope.hash,
                run=item.run,
                code=error.code,
                detail=error.message,
            )
        stores.state.posted(item, taken=held)
        taken += held
    return taken


def waits(stores: Stores) -> bool:
    """Whether the registry has yet to get something."""
    return bool(stores.state.queued() or waiting(stores.agreements))


def recall(stores: Stores, registry: RegistryClient, view: RunView) -> None:
    """Queue again what this node had posted of a run and the registry shows no more.

    Raises:
        TransportError: the registry cannot be reached.
    """
    if not _lacks(stores, view) or not _lacks(stores, view := registry.run(view.id)):
        return  # the inbox may be older than the newest delivery
    _recall(stores, view.id, head_of(stores, view))


def _lacks(stores: Stores, view: RunView) -> bool:
    known = stores.state.run(view.id)
    ours = None if known is None else known.head
    return ours not in (None, head_of(stores, view)) and not stores.state.waits(view.id)


def _recall(stores: Stores, run: str, head: str | None) -> int:
    again = stores.state.recall(run, head)
    if again:
        hint = "Was it restored from a backup? This node sends them again."
        log.warning("registry-lost-records", run=run, records=again, hint=hint)
    return again


def _may_leave(stores: Stores, item: Queued) -> bool:
    receipt = NodeReceipt.from_bytes(item.envelope.payload)
    if behind(stores) is None and not stores.ledger.holds(receipt.ledger, item.envelope.hash):
        freeze(stores, receipt)
    return behind(stores) is None


def _look_at_head(
    stores: Stores, registry: RegistryClient, item: Queued, refused: AccordError
) -> None:
    """Freeze where the registry can show a receipt of this node's that the ledger lacks."""
    why = refused
    try:
        compare_run(stores, registry, registry.run(item.run))
    except (TransportError, AuthError):
        raise
    except AccordError as error:
        why = error
    log.warning("receipt-waits", run=item.run, code=why.code, detail=why.message)
