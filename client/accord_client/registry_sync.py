"""What the node takes over from the registry into its own store, once verified.

Guarantees: only signatures are taken over, for records that this institution signed itself (an
agreement's other signatures) or that a party of such an agreement signed (a withdrawal); each
withdrawal is looked at once.
"""

import structlog

from accord_client.stores import Stores
from accord_common.agreement import WITHDRAWAL, Agreement
from accord_common.api.client import RegistryClient
from accord_common.errors import AccordError, NotFoundError, TransportError

log = structlog.get_logger(__name__)

_CURSOR = "withdrawals-seen"  # the registry's sequence number of the newest one looked at


def refresh(stores: Stores, registry: RegistryClient) -> None:
    """Complete own agreements and take over withdrawals.

    Raises:
        TransportError: the registry cannot be reached.
    """
    for agreement_hash, envelope in stores.agreements.signed().items():
        if envelope.signers != Agreement.from_bytes(envelope.payload).keys:
            _complete(stores, registry, agreement_hash)
    after = int(stores.state.get(_CURSOR) or 0)
    while page := registry.records(after, kind=WITHDRAWAL):
        for view in page:
            try:
                withdrawn = stores.agreements.withdraw(view.envelope)
            except AccordError as error:
                log.warning("bad-withdrawal", code=error.code, detail=error.message)
                continue
            if withdrawn is not None:
                log.warning("agreement-withdrawn", agreement=withdrawn)
        after = page[-1].sequence
        stores.state.put(_CURSOR, str(after))


def _complete(stores: Stores, registry: RegistryClient, agreement_hash: str) -> None:
    try:
        view = registry.agreement(agreement_hash)
        if not view.missing:
            stores.agreements.complete(view.envelope)
            log.info("agreement-complete", agreement=agreement_hash)
    except TransportError:
        raise
    except NotFoundError:
        return  # signed here, not posted yet
    except AccordError as error:
        log.warning("agreement-not-taken", code=error.code, detail=error.message)
