"""What the node takes over from the registry into its own store, once verified, and gives back.

Guarantees: only signatures are taken over, for records that this institution signed itself (an
agreement's other signatures, its own catalogue) or that a party of such an agreement signed
(`halts`). How far it has looked is the caller's to remember, and not for long: a registry that once
numbers a record too high hides what lies below from whoever goes on from there. Each look from the
beginning says again what this institution said and the registry shows no more, and finds what
another copy of this folder said.
"""

from collections.abc import Mapping

import structlog

from accord_client import halts
from accord_client.agreements import Agreements
from accord_client.catalogue import Catalogue
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
        after: the registry's sequence number of the newest record looked at, by kind; empty to
            look from the beginning.

    Returns:
        `after`, for the next time.

    Raises:
        TransportError: the registry cannot be reached.
        FormatError: `bad-answer` where it lists records out of order.
    """
    for agreement_hash, envelope in stores.agreements.signed().items():
        if envelope.signers != Agreement.from_bytes(envelope.payload).keys:
            _complete(stores, registry, agreement_hash)
    shown: set[str] = set()
    seen = take_halts(stores.agreements, registry, after or {}, shown)
    if not after:
        if again := halts.say_again(stores.agreements, shown):
            hint = "Was it restored from a backup? This node sends them again."
            log.warning("registry-lost-statements", records=again, hint=hint)
        _catch_up(stores, registry)
    return seen


def take_halts(
    agreements: Agreements,
    registry: RegistryClient,
    after: Mapping[str, int],
    shown: set[str] | None = None,
) -> dict[str, int]:
    """Take over withdrawals, suspensions and resumptions alone; as `refresh`.

    Their hashes are added to `shown`.
    """
    found = set[str]() if shown is None else shown
    return {
        kind: _take(agreements, registry, kind, after.get(kind, 0), found) for kind in halts.KINDS
    }


def _catch_up(stores: Stores, registry: RegistryClient) -> None:
    """Bring each dataset's catalogue entries, here and at the registry, to the newest of both."""
    own = Catalogue(stores.home)
    for dataset in stores.datasets.all():
        try:
            own.catch_up(dataset, registry)
        except TransportError:
            raise
        except AccordError as error:
            log.warning(
                "catalogue-not-compared",
                dataset=dataset.name,
                code=error.code,
                detail=error.message,
            )


def _take(
    agreements: Agreements, registry: RegistryClient, kind: str, after: int, shown: set[str]
) -> int:
    while page := registry.records(after, kind=kind):
        for view in page:
            if view.sequence <= after:
                raise FormatError("bad-answer", f"record {view.sequence} comes after {after}")
            after = view.sequence
            shown.add(view.hash)
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
