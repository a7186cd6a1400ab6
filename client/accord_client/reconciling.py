"""Whether the ledger still holds what this node's own receipts say, and how it gets it back.

A ledger that was restored from an older copy would spend again what it has forgotten. The receipts
at the registry stand outside of the folder, each under this node's key and with its ledger entry;
those that wait in the node's own queue stand outside of the ledger's file.

Guarantees: from the moment that a receipt shows a gap, nothing is charged or answered
(`check_not_behind`), over restarts, until `reconcile` has charged it; a folder that was restored
from a backup begins frozen, and stays so until one comparison succeeded (`freeze_restored`). Only
signatures under this institution's own delegations can show a gap, later delegations that the
folder lacks among them. Charging it twice is possible, forgetting it is not.

Not covered: receipts that never reached the registry, or that it withholds; two copies that write
the very same entry within one second, which is paid for once, and whose receipts the registry
refuses.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from accord_client.secagg_memory import Begun
from accord_client.state import State
from accord_client.stores import Stores
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import RunView
from accord_common.enrolment import REVOCATION, verify_delegation, verify_revocation
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError, PolicyError, VerificationError
from accord_common.fields import now
from accord_common.receipts import CONSENT, NODE_RECEIPT, NodeReceipt

log = structlog.get_logger(__name__)

_BEHIND = "ledger-behind"  # in the node's memory; empty once it was reconciled
_RESTORED = "ledger-restored"  # of when the backup is; empty once the ledger was compared
_LEFT = "node-restored"  # the code of runs that a restored node has left


@dataclass(frozen=True, slots=True)
class Known:
    """One of this node's receipts, and its record hash."""

    receipt: NodeReceipt
    hash: str


@dataclass(frozen=True, slots=True)
class Chain:
    """This node's receipts of one run at the registry, oldest first, and the newest record."""

    run: str
    head: str
    receipts: tuple[Known, ...]


def behind(stores: Stores) -> PolicyError | None:
    """Why the ledger is frozen, for the steward; None where it is not."""
    told = stores.state.get(_BEHIND)
    if not told:
        made = stores.state.get(_RESTORED)
        if not made:
            return None
        return PolicyError(
            _RESTORED,
            f"this node was restored from a backup of {made} and has not compared its ledger with "
            "the registry's receipts yet",
            hint="It does so when it starts and reaches the registry: accord-node start",
        )
    entry, count = told.split()
    return PolicyError(
        "ledger-behind",
        f"this node's receipts and its ledger part at or before entry {entry} (from 0); the "
        f"ledger has {count} entries",
        hint="Was it restored from an older copy, or does a second copy of this node run? Stop "
        "node and copy, charge what is missing, and start it again: accord-node reconcile",
    )


def check_not_behind(stores: Stores) -> None:
    """Raise PolicyError, in words that may leave, while the ledger is frozen.

    Raises:
        PolicyError: `ledger-behind`, or `ledger-restored` before the first comparison.
    """
    if (frozen := behind(stores)) is None:
        return
    if frozen.code == _RESTORED:
        raise PolicyError(_RESTORED, "this node's ledger has yet to be compared", hint=frozen.hint)
    raise PolicyError(
        "ledger-behind",
        "this node's ledger lacks what its receipts show",
        hint="Stop the node, then: accord-node reconcile",
    )


def freeze_restored(memory: State, made: str, now: datetime) -> None:
    """Freeze what a backup of the time `made` gave back, and leave the runs that were under way.

    What a round of theirs had decided is not in a backup, so that this node cannot keep to it.
    """
    memory.put(_RESTORED, made)
    memory.leave(_LEFT, f"the node was restored from a backup of {made}", now)


def freeze(stores: Stores, receipt: NodeReceipt) -> None:
    """Charge and answer nothing from now on."""
    entry, count = receipt.ledger.sequence, stores.ledger.length
    stores.state.put(_BEHIND, f"{entry} {count}")
    log.error("ledger-behind", run=receipt.manifest, entry=entry, entries=count)


def compare(stores: Stores, registry: RegistryClient) -> None:
    """Freeze the ledger where a queued receipt, or any run's newest, shows an entry that it lacks.

    Raises:
        TransportError: the registry cannot be reached.
    """
    for known in _queued(stores):
        if not _holds(stores, known):
            freeze(stores, known.receipt)
    for view in registry.runs():
        compare_run(stores, registry, view)
    if stores.state.get(_RESTORED):
        stores.state.put(_RESTORED, "")
        log.info("restored-ledger-compared", behind=behind(stores) is not None)


def compare_run(stores: Stores, registry: RegistryClient, view: RunView) -> bool:
    """Likewise for one run; False where another copy's consent is there in the place of this one's.

    Such a run is left to the other copy.
    """
    if (head := head_of(stores, view)) is None:
        return True
    newest, own = registry.record(head), stores.state.run(view.id)
    if newest.kind == CONSENT and own is not None and (own.round, own.decision) == (-1, "accept"):
        if own.head != head:
            leave_to_other(stores, view.id)
            return False
    known = _own(stores, registry, newest)
    if known is not None and not _holds(stores, known):
        freeze(stores, known.receipt)
    return True


def leave_to_other(stores: Stores, run: str) -> None:
    """Have no part in a run that another copy of this node has answered."""
    stores.state.disown(
        run,
        "answered-elsewhere",
        "the registry has another consent of this institution: an older copy of this folder, or a "
        "second copy of this node, gave it",
        now(),
    )


def chains(stores: Stores, registry: RegistryClient) -> list[Chain]:
    """Everything that the registry holds of this node's receipts, run by run."""
    found = []
    for view in registry.runs():
        if (head := head_of(stores, view)) is None:
            continue
        receipts, after = [], 0
        while page := registry.records(after, kind=NODE_RECEIPT, run=view.id):
            receipts += [known for item in page if (known := _own(stores, registry, item.envelope))]
            if page[-1].sequence <= after:
                raise VerificationError("bad-answer", "the registry lists records out of order")
            after = page[-1].sequence
        found.append(Chain(view.id, head, tuple(receipts)))
    return found


def missing(stores: Stores, found: list[Chain]) -> list[Known]:
    """The receipts, also queued ones, whose entries the ledger lacks, in the order of spending."""
    posted = [known for chain in found for known in chain.receipts]
    each = {known.hash: known for known in posted + _queued(stores)}
    lacking = [known for known in each.values() if not _holds(stores, known)]
    return sorted(lacking, key=lambda known: known.receipt.ledger.sequence)


def parted(stores: Stores, found: list[Chain]) -> int:
    """How many queued receipts the registry would refuse, though the ledger lacks nothing.

    A folder whose `node.db` alone is older goes on from a receipt that is no longer the newest.
    """
    heads = {chain.run: chain.head for chain in found}
    posted = {known.hash for chain in found for known in chain.receipts}
    astray: set[str] = set()
    count, after = 0, 0
    while (item := stores.state.next_queued(after)) is not None:
        after = item.position
        if item.envelope.kind != NODE_RECEIPT or item.run not in heads:
            continue
        receipt = NodeReceipt.from_bytes(item.envelope.payload)
        if item.envelope.hash not in posted:
            if receipt.previous != heads[item.run]:
                astray.add(item.run)
            heads[item.run] = item.envelope.hash
            count += item.run in astray
    return count


def reconcile(stores: Stores, found: list[Chain], clock: Callable[[], datetime]) -> int:
    """Charge the gap, go on from the registry's heads, and thaw; returns how much was charged.

    Shares of rounds under way are dropped: the folder may be a copy from before they were used.
    Repeating it, also after a crash, charges nothing twice. The caller holds `lock.only_daemon`.
    """
    for run in stores.state.runs():
        _drop_shares(stores, run.id)
    for chain in found:
        places = [(known.receipt.round, known.receipt.attempt) for known in chain.receipts]
        stores.state.rechain(
            chain.run, chain.head, max(places, default=(-1, -1)), _again(stores, chain)
        )
    # After the queue was signed anew: a spend is charged under its receipt's hash.
    charged = sum(
        stores.ledger.recharge(known.receipt.ledger, known.hash, clock)
        for known in missing(stores, found)
    )
    stores.state.put(_BEHIND, "")
    return charged


def _again(stores: Stores, chain: Chain) -> Callable[[Envelope, str], Envelope | None]:
    posted = {known.hash for known in chain.receipts}  # not the bare head: these are charged

    def follow(envelope: Envelope, head: str) -> Envelope | None:
        if envelope.hash in posted or envelope.kind != NODE_RECEIPT:
            return None  # the registry has it; it takes one consent a run
        receipt = NodeReceipt.from_bytes(envelope.payload)
        return sign(NODE_RECEIPT, receipt.model_copy(update={"previous": head}), stores.key)

    return follow


def _drop_shares(stores: Stores, run: str) -> None:
    kept = stores.rounds.kept(run)
    if kept is not None:
        begun = Begun.from_bytes(kept).model_copy(update={"shares": None})
        stores.rounds.keep(run, begun.to_bytes(), replaces=kept)
        stores.rounds.flush()


def _queued(stores: Stores) -> list[Known]:
    """The receipts that the registry has yet to get."""
    found, after = [], 0
    while (item := stores.state.next_queued(after)) is not None:
        after = item.position
        if item.envelope.kind == NODE_RECEIPT:
            found.append(Known(NodeReceipt.from_bytes(item.envelope.payload), item.envelope.hash))
    return found


def _holds(stores: Stores, known: Known) -> bool:
    return stores.ledger.holds(known.receipt.ledger, known.hash)


def answered_elsewhere(stores: Stores, view: RunView) -> bool:
    """Whether the registry has this institution's consent to a run that is undecided here.

    The folder is an older copy, or a second copy of this node is at work: two must not serve one
    run.
    """
    known = stores.state.run(view.id)
    return (known is None or known.decision == "ask") and head_of(stores, view) is not None


def head_of(stores: Stores, view: RunView) -> str | None:
    """The newest record of this node's that the registry has of a run."""
    return next((site.head for site in view.consents if site.party == stores.party), None)


def _own(stores: Stores, registry: RegistryClient, envelope: Envelope) -> Known | None:
    """The receipt in an envelope that this institution's node signed; None for anything else."""
    if envelope.kind != NODE_RECEIPT or len(envelope.signers) != 1:
        return None
    (signer,) = envelope.signers
    if signer not in stores.keys and not _delegated_later(stores, registry, signer):
        return None
    with suppress(VerificationError):
        envelope.verify([signer])
        return Known(NodeReceipt.from_bytes(envelope.payload), envelope.hash)
    return None


def _delegated_later(stores: Stores, registry: RegistryClient, signer: str) -> bool:
    """Whether a delegation that this folder lacks names a key: the folder is older than it."""
    profile = stores.home.profile
    known = registry.partner(profile.party)
    envelope = known.delegation if known.revoked is None else registry.record(known.revoked)
    own = {"identity_key": profile.identity_key, "party": profile.party}
    while envelope is not None:
        try:
            if envelope.kind == REVOCATION:
                previous: str | None = verify_revocation(envelope, **own).previous
            else:
                given = verify_delegation(envelope, **own)
                if given.node_key == signer:
                    return True
                previous = given.previous
        except AccordError:
            return False  # the registry's word alone
        envelope = None if previous is None else registry.record(previous)
    return False
