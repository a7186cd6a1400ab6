"""This node as a witness of the registry's log: what it saw, and whether that still holds.

Guarantees: each checkpoint that is taken over grew from the one before, by a proof, under the log
key of the agreements that this institution signed; the newest is kept, and every one that a consent
or receipt of this node carries. Where a checkpoint is of fewer records (`log-rolled-back`), of
another history (`log-forked`), or under another key (`wrong-log-key`), the node gives no consent
(`check_log`), over restarts, until its steward accepts the log as it is (`accept`); both
checkpoints are in a file of the folder `evidence`, for an auditor. A fork, or another key, also
ends its part in runs under way; a registry that was restored from a backup does not.

Not covered: a registry that shows this node, and nobody else, one consistent lie; peers' heads
(`accord_common.log.peers`) and the log itself, which carries this node's, are for that.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import structlog

from accord_client.contact import REGISTRY_GRACE_S
from accord_client.stores import Stores
from accord_common.agreement import Agreement
from accord_common.api.client import RegistryClient
from accord_common.envelope import Envelope
from accord_common.errors import (
    FormatError,
    PolicyError,
    UsageError,
    VerificationError,
)
from accord_common.fields import format_time, now
from accord_common.files import replace_file
from accord_common.log.checkpoint import Checkpoint, Head, same_tree, verify_checkpoint
from accord_common.log.peers import FORKED, Fork, Peers

ROLLED_BACK = "log-rolled-back"
WRONG_KEY = "wrong-log-key"
UNPROVEN = "log-unproven"
EVIDENCE = "evidence"  # the folder

_BROKEN = "log-broken"  # in the node's memory; empty once the steward accepted the log

log = structlog.get_logger(__name__)


class Broken(TypedDict):
    """Why the log is not believed, since when, and where the evidence is."""

    code: str
    message: str
    since: str
    evidence: str


def follow(stores: Stores, registry: RegistryClient) -> None:
    """Ask for the registry's checkpoint, and join it to the newest that is kept.

    Raises:
        TransportError: the registry cannot be reached; nothing is concluded.
    """
    if broken(stores) is not None:
        return
    envelope, before = registry.tree.checkpoint(), stores.heads.newest()
    kept = [] if before is None else [before]
    try:
        found = verify_checkpoint(envelope)
        _check_key(stores, found, before)
    except (FormatError, VerificationError) as error:
        _break(stores, WRONG_KEY, error.message, [*kept, envelope])
        return
    if before is None:
        stores.heads.keep(envelope)
        return
    old = Checkpoint.from_bytes(before.payload)
    if found.size < old.size:
        why = f"the registry's log has {found.size} records; this node has seen {old.size}"
        _break(stores, ROLLED_BACK, why, [before, envelope])
        return
    try:
        proof: list[str] = []
        if found.size > old.size:
            proof = registry.tree.consistency(old.size, found.size)
        same_tree(old, found, proof)
    except (FormatError, UsageError, VerificationError) as error:
        _break(stores, FORKED, error.message, [before, envelope])
        return
    if found.size > old.size:
        stores.heads.keep(envelope)


@dataclass(frozen=True, slots=True)
class RunWitness:
    """What one run's nodes show each other of the log that its agreement names."""

    stores: Stores
    peers: Peers
    waits: Callable[[], None]

    @classmethod
    def of(cls, stores: Stores, agreement: str, waits: Callable[[], None]) -> "RunWitness":
        """For a run under an agreement, by hash; `waits` is called when a head is to be joined."""
        envelope = stores.agreements.signed().get(agreement)
        log_key = "" if envelope is None else Agreement.from_bytes(envelope.payload).log_key

        def forked(fork: Fork) -> None:
            if broken(stores) is None:
                _break(stores, FORKED, fork.why, fork.evidence)

        peers = Peers(log_key, lambda: newest(stores, log_key), forked, time.monotonic)
        return cls(stores, peers, waits)

    def carried(self) -> Head | None:
        """The newest head that this node has seen, for a record of its own; kept for good."""
        head = newest(self.stores, self.peers.log)
        if head is not None:
            self.stores.heads.tell(head.size)
        return head

    def shown(self, cohort: Sequence[Envelope]) -> None:
        """Take the heads in the verified advertisements of U1; one that is no head is left out."""
        for envelope in cohort:
            try:
                if self.peers.show(envelope):
                    self.waits()
            except VerificationError as error:
                log.warning(error.code, detail=error.message)

    def check(self) -> None:
        """Raise where the run may not go on: a log that was only set back stops no run.

        Raises:
            PolicyError: `log-forked`, `wrong-log-key`; `log-unproven` where a peer's head could not
                be joined for as long as the registry may be silent.
        """
        found = broken(self.stores)
        if found is not None and found["code"] != ROLLED_BACK:
            check_log(self.stores)
        if self.peers.waiting_s() > REGISTRY_GRACE_S:
            raise PolicyError(
                UNPROVEN,
                f"the registry has not proved for {REGISTRY_GRACE_S:.0f} s that another node's log "
                "is this one's",
            )


def newest(stores: Stores, log_key: str) -> Head | None:
    """The newest head that is kept, if it is of the log with this key."""
    envelope = stores.heads.newest()
    if envelope is None or Checkpoint.from_bytes(envelope.payload).log != log_key:
        return None
    return Head.of(envelope)


def broken(stores: Stores) -> Broken | None:
    """Why the log is not believed; None where it is."""
    noted = stores.state.get(_BROKEN)
    if not noted:
        return None
    found: Broken = json.loads(noted)
    return found


def trouble(stores: Stores) -> PolicyError | None:
    """The same for the steward, with what to do."""
    found = broken(stores)
    if found is None:
        return None
    return PolicyError(
        found["code"],
        f"{found['message']} (since {found['since']})",
        hint=f"Give {found['evidence']} to an auditor. The node gives no consent until you have "
        "cleared this up with the registry's operator: accord-node log accept",
    )


def check_log(stores: Stores) -> None:
    """Raise PolicyError, in words that may leave, while the log is not believed.

    Raises:
        PolicyError: `log-forked`, `log-rolled-back`, `wrong-log-key`.
    """
    if (found := broken(stores)) is not None:
        raise PolicyError(
            found["code"], "the registry's log is not the one that this node has seen"
        )


def accept(stores: Stores, registry: RegistryClient) -> Checkpoint:
    """Take the registry's log as it is for a new beginning; the evidence stays.

    Raises:
        VerificationError: `wrong-log-key`, or it is not signed.
    """
    envelope = registry.tree.checkpoint()
    found = verify_checkpoint(envelope)
    _check_key(stores, found, None)
    stores.heads.forget()
    stores.heads.keep(envelope)
    stores.state.put(_BROKEN, "")
    return found


def _check_key(stores: Stores, found: Checkpoint, before: Envelope | None) -> None:
    """The log key is that of every agreement signed here; before the first, that of before."""
    signed = stores.agreements.signed().values()
    wanted = {Agreement.from_bytes(envelope.payload).log_key for envelope in signed}
    if not wanted and before is not None:
        wanted = {Checkpoint.from_bytes(before.payload).log}
    if wanted and found.log not in wanted:
        raise VerificationError(
            WRONG_KEY, f"the registry signs with the log key {found.log[:16]}, agreed is another"
        )


def _break(stores: Stores, code: str, why: str, evidence: Sequence[Envelope]) -> None:
    """Remember that the log is not believed; what shows it is on the disk first."""
    moment = format_time(now())
    path = _write(stores.home.path, code, moment, evidence)
    told = Broken(code=code, message=why, since=moment, evidence=str(path))
    stores.state.put(_BROKEN, json.dumps(told))
    log.error(code, detail=why, evidence=str(path), hint="accord-node check")


def _write(home: Path, code: str, moment: str, evidence: Sequence[Envelope]) -> Path:
    folder = home / EVIDENCE
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{code}-{moment.replace(':', '')}.jsonl"
    replace_file(path, b"".join(envelope.to_bytes() + b"\n" for envelope in evidence))
    return path
