"""From the queue to the registry: consents and receipts, in the order they were made.

What the institution says about agreements goes first (`halts`).

Guarantees: each record has its outbox line before it is sent, and leaves the queue only when the
registry has it or has refused it for good; records are idempotent by hash, so sending one again
after a crash changes nothing. No receipt leaves whose entry the ledger lacks: that freezes the
ledger (`reconciling`), and receipts wait while it is frozen. `forked-chain` is the registry's bare
word: it freezes only where the chain's head proves it under this node's key. Otherwise the run's
receipts wait, and are sent again at the next delivery; what other runs have queued goes on. A
consent that the registry has otherwise was given by another copy of this node, which then has the
run to itself.
"""

import structlog

from accord_client.halts import post_waiting, waiting
from accord_client.outbox import Kind, Place
from accord_client.reconciling import behind, compare_run, freeze
from accord_client.state import Queued
from accord_client.stores import Stores
from accord_common.api.client import RegistryClient
from accord_common.canonical import sha256_hex
from accord_common.errors import AccordError, AuthError, TransportError
from accord_common.fields import now
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
        try:
            registry.post(item.envelope)
            taken += 1
        except (TransportError, AuthError):
            raise
        except AccordError as error:
            if kind == "node-receipt" and error.code == "forked-chain":
                forked.add(item.run)
                _look_at_head(stores, registry, item, error)
                continue
            if type(error) is AccordError:  # an internal error of the registry's: it may pass
                raise TransportError(error.code, error.message, hint=error.hint) from error
            if kind == "consent" and error.code == "forked-chain":
                stores.state.disown(
                    item.run,
                    "answered-elsewhere",
                    "the registry has another consent of this institution: an older copy of this "
                    "folder, or a second copy of this node, gave it",
                    now(),
                )
            log.warning(
                "registry-refused-record",
                kind=kind,
                record=item.envelope.hash,
                run=item.run,
                code=error.code,
                detail=error.message,
            )
        stores.state.posted(item.position)
    return taken


def waits(stores: Stores) -> bool:
    """Whether the registry has yet to get something."""
    return bool(stores.state.queued() or waiting(stores.agreements))


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
