"""What the node takes over from the registry into its own store, once verified.

Guarantees: only signatures are taken over, for records that this institution signed itself (an
agreement's other signatures) or that a party of such an agreement signed (`halts`). How far
it has looked is the caller's to remember, and not for long: a registry that once numbers a record
too high hides what lies below from whoever goes on from there.
"""

from collections.abc import Mapping

import structlog

from accord_client import halts
from accord_client.agreements import Agreements
from accord_client.stores import Stores
from accord_common.agreement import RESUMPTION, SUSPENSION, WITHDRAWAL, Agreement
from accord_common.api.client import RegistryClient
from accord_common.errors import AccordError, FormatError, NotFoundError, TransportError

_DONE = {WITHDRAWAL: "withdrawn", SUSPENSION: "suspended", RESUMPTION: "resumed"}

log = structlog.get_logger(__name__)


def refresh(
    stores: Stores, registry: RegistryClient, after: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Complete own agreements; take over withdrawals, suspensions and resumptions.

    Args:
        stores: the node's open folder.
        registry: an authenticated client.
        after: the registry's sequence number of the newest record looked at, by kind.

    Returns:
        `after`, for the next time.

    Raises:
        TransportError: the registry cannot be reached.
        FormatError: `bad-answer` where it lists records out of order.
    """
    for agreement_hash, envelope in stores.agreements.signed().items():
        if envelope.signers != Agreement.from_bytes(envelope.payload).keys:
            _complete(stores, registry, agreement_hash)
    return take_halts(stores.agreements, registry, after or {})


def take_halts(
    agreements: Agreements, registry: RegistryClient, after: Mapping[str, int]
) -> dict[str, int]:
    """Take over withdrawals, suspensions and resumptions alone; as `refresh`."""
    return {kind: _take(agreements, registry, kind, after.get(kind, 0)) for kind in halts.KINDS}


def _take(agreements: Agreements, registry: RegistryClient, kind: str, after: int) -> int:
    while page := registry.records(after, kind=kind):
        for view in page:
            if view.sequence <= after:
                raise FormatError("bad-answer", f"record {view.sequence} comes after {after}")
            after = view.sequence
            try:
                agreement = halts.keep(agreements, view.envelope)
            except AccordError as error:
                log.warning("bad-record", kind=kind, code=error.code, detail=error.message)
                continue
            if agreement is not None:
                log.warning(f"agreement-{_DONE[view.envelope.kind]}", agreement=agreement)
    return after


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
