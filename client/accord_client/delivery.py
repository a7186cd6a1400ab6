"""From the queue to the registry: consents and receipts, in the order they were made.

Guarantees: each record has its outbox line before it is sent, and leaves the queue only when the
registry has it or has refused it for good; records are idempotent by hash, so sending one again
after a crash changes nothing. A receipt that the registry refuses with `forked-chain` freezes the
ledger (`reconciling`), and receipts wait while it is frozen.
"""

import structlog

from accord_client.outbox import Kind, Place
from accord_client.reconciling import behind, freeze
from accord_client.stores import Stores
from accord_common.api.client import RegistryClient
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
    taken = 0
    while (item := stores.state.next_queued()) is not None:
        kind: Kind = "consent" if item.envelope.kind == CONSENT else "node-receipt"
        if kind == "node-receipt" and behind(stores) is not None:
            break
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
                freeze(stores, NodeReceipt.from_bytes(item.envelope.payload))
                break
            if type(error) is AccordError:  # an internal error of the registry's: it may pass
                raise TransportError(error.code, error.message, hint=error.hint) from error
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
