"""Withdrawals from agreements, and suspensions: what parties said, and what waits to be told.

What an institution declares of its datasets (`catalogue`) waits in the same queue.

    withdrawals/<agreement>.json          one party's word is enough, for ever
    suspensions/<suspension>.json         holds until that party's resumption
    suspensions/<resumption>.over.json    that resumption
    leaving/<number>-<record>.json        its own, in order, until the registry has it
    leaving/<number>-<record>.noted       that its outbox line is written
    leaving/<record>.refused              one that the registry refused for good

Guarantees: a statement counts only for an agreement that was signed here, and under the key that it
names for who speaks; one's own holds from the moment it is on disk, whether or not anybody can be
reached, for running rounds too; it waits on disk until the registry has taken it, and is said again
to a registry that shows it no more. A suspension that was undone does not count again, whoever
shows it.

Not covered: a registry that hides what others said.
"""

from collections.abc import Collection
from pathlib import Path

import structlog

from accord_client.agreements import Agreements
from accord_client.outbox import Kind, Outbox
from accord_common.agreement import (
    RESUMPTION,
    SUSPENSION,
    WITHDRAWAL,
    Agreement,
    Resumption,
    Suspension,
    Withdrawal,
)
from accord_common.api.client import RegistryClient
from accord_common.api.membership import SHUT_OUT
from accord_common.canonical import sha256_hex
from accord_common.catalogue import DATASET_ENTRY, DATASET_PROFILE
from accord_common.envelope import Envelope, sign
from accord_common.errors import (
    AccordError,
    AuthError,
    ConflictError,
    NotFoundError,
    TransportError,
    VerificationError,
)
from accord_common.files import replace_file
from accord_common.identity import SigningKey

KINDS: dict[str, type[Withdrawal | Suspension | Resumption]] = {
    WITHDRAWAL: Withdrawal,
    SUSPENSION: Suspension,
    RESUMPTION: Resumption,
}
_LINES: dict[str, Kind] = {
    WITHDRAWAL: "withdrawal",
    SUSPENSION: "suspension",
    RESUMPTION: "resumption",
    DATASET_ENTRY: "dataset-entry",
    DATASET_PROFILE: "dataset-profile",
}
_NOT_YET = "missing-predecessor"  # the registry has not every signature of the agreement

log = structlog.get_logger(__name__)


def keep(agreements: Agreements, envelope: Envelope) -> str | None:
    """Keep what a party of an own agreement said; returns that agreement's hash.

    None where it is kept already, or is not for this node: another agreement, another key.

    Raises:
        FormatError: the bytes are no such record.
    """
    kind = KINDS.get(envelope.kind)
    if kind is None:
        return None
    body = kind.from_bytes(envelope.payload)
    path = _place(agreements.folder, envelope, body)
    own = agreements.signed().get(body.agreement)
    if own is None or path.exists():
        return None
    try:
        party = Agreement.from_bytes(own.payload).party(body.party)
        envelope.verify([party.identity_key])
    except (NotFoundError, VerificationError):
        return None
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(path, envelope.to_bytes())
    return body.agreement


def withdrawn(agreements: Agreements, agreement_hash: str) -> bool:
    """Whether a party has withdrawn from an agreement."""
    return (agreements.folder / "withdrawals" / f"{agreement_hash}.json").exists()


def suspensions(agreements: Agreements, agreement_hash: str) -> dict[str, Suspension]:
    """Those that hold now, by record hash."""
    undone = _undone(agreements)
    return {
        name: body
        for name, body in _said(agreements, agreement_hash).items()
        if (name, body.party) not in undone
    }


def state(agreements: Agreements, agreement_hash: str) -> str:
    """`withdrawn` or `suspended`, as far as this node knows; empty where it is neither."""
    if withdrawn(agreements, agreement_hash):
        return "withdrawn"
    return "suspended" if suspensions(agreements, agreement_hash) else ""


def reasons(agreements: Agreements, agreement_hash: str) -> list[tuple[str, str]]:
    """Who ended or halts an agreement, by party id, and why."""
    said = [(body.party, body.reason) for body in suspensions(agreements, agreement_hash).values()]
    path = agreements.folder / "withdrawals" / f"{agreement_hash}.json"
    if path.exists():
        body = Withdrawal.from_bytes(Envelope.from_bytes(path.read_bytes()).payload)
        said.insert(0, (body.party, body.reason))
    return said


def say(agreements: Agreements, body: Withdrawal | Suspension | Resumption, key: SigningKey) -> str:
    """Sign, keep, and leave for the registry; durable and in force on return.

    Returns:
        The record's hash.
    """
    kind = next(name for name, type_ in KINDS.items() if isinstance(body, type_))
    envelope = sign(kind, body, key)
    # Told first: after a crash in between it is said again, and never kept without being told.
    leave(agreements.folder, envelope)
    keep(agreements, envelope)
    return envelope.hash


def leave(home: Path, envelope: Envelope) -> None:
    """Have a record wait for the registry, behind what waits already; durable on return."""
    folder = home / "leaving"
    folder.mkdir(mode=0o700, exist_ok=True)
    if any(path.stem.endswith(envelope.hash) for path in folder.glob("*.json")):
        return
    last = max((int(path.name.partition("-")[0]) for path in folder.glob("*.json")), default=0)
    replace_file(folder / f"{last + 1:06}-{envelope.hash}.json", envelope.to_bytes())


def own_suspension(agreements: Agreements, agreement_hash: str) -> str:
    """Return the hash of this institution's own that holds; ConflictError `not-suspended`."""
    for name, body in suspensions(agreements, agreement_hash).items():
        if body.party == agreements.party:
            return name
    raise ConflictError(
        "not-suspended",
        f"this institution does not suspend agreement {agreement_hash[:16]}",
        hint="Only who suspended it resumes it: accord-node agreement show tells who.",
    )


def newest_resumption(agreements: Agreements, agreement_hash: str) -> str | None:
    """What a new suspension of this institution's follows; ConflictError `already-suspended`."""
    said, undone = _said(agreements, agreement_hash), _undone(agreements)
    own = {name: body for name, body in said.items() if body.party == agreements.party}
    if own.keys() & suspensions(agreements, agreement_hash).keys():
        raise ConflictError(
            "already-suspended",
            "this institution suspends the agreement already",
            hint="accord-node agreement resume",
        )
    followed = {body.previous for body in own.values()}
    heads = {undone[name, body.party] for name, body in own.items()} - followed
    return min(heads, default=None)


def waiting(agreements: Agreements) -> list[Path]:
    """The institution's own statements that the registry has yet to get, oldest first."""
    return sorted((agreements.folder / "leaving").glob("*.json"))


def say_again(agreements: Agreements, shown: Collection[str]) -> int:
    """Leave the institution's own statements that a registry shows no more, for it to get again.

    It was restored from an older backup, say. What it refused for good is not said again.

    Args:
        agreements: the node's.
        shown: hashes of all statements that the registry shows this node.

    Returns:
        How many there are.
    """
    folder = agreements.folder
    lost: dict[str, tuple[Envelope, str | None]] = {}
    for path in (*folder.glob("withdrawals/*.json"), *folder.glob("suspensions/*.json")):
        envelope = Envelope.from_bytes(path.read_bytes())
        body = KINDS[envelope.kind].from_bytes(envelope.payload)
        if body.party != agreements.party or envelope.hash in shown:
            continue
        if not _refused(folder, envelope).exists():
            lost[envelope.hash] = envelope, _predecessor(body)
    again = len(lost)
    while lost:  # each behind the one that it follows
        for name in sorted(name for name, (_, before) in lost.items() if before not in lost):
            leave(folder, lost.pop(name)[0])
    return again


def post_waiting(agreements: Agreements, outbox: Outbox, registry: RegistryClient) -> int:
    """Post what waits, its outbox line first, once; returns how many the registry took.

    What it refuses for good is dropped and marked, and holds here all the same.

    Raises:
        TransportError: the registry cannot be reached; what is left waits on.
        AuthError: the registry does not know this node's token; likewise.
    """
    taken = 0
    for path in waiting(agreements):
        data = path.read_bytes()
        envelope = Envelope.from_bytes(data)
        keep(agreements, envelope)
        kind, noted = envelope.kind, path.with_suffix(".noted")
        if not noted.exists():  # a line for what leaves, not for each time it is tried
            outbox.append(_LINES[kind], "registry", sha256_hex(data), len(data))
            noted.touch(mode=0o600)
        try:
            registry.post(envelope)
            taken += 1
        except (TransportError, AuthError):
            raise
        except AccordError as error:
            if error.code == _NOT_YET or error.code in SHUT_OUT:
                continue
            if type(error) is AccordError:  # an internal error of the registry's: it may pass
                raise TransportError(error.code, error.message, hint=error.hint) from error
            log.warning("registry-refused-record", kind=kind, code=error.code, detail=error.message)
            _refused(agreements.folder, envelope).touch(mode=0o600)
        noted.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return taken


def _refused(folder: Path, envelope: Envelope) -> Path:
    return folder / "leaving" / f"{envelope.hash}.refused"


def _predecessor(body: Withdrawal | Suspension | Resumption) -> str | None:
    match body:
        case Withdrawal():
            return None
        case Suspension():
            return body.previous
        case Resumption():
            return body.suspension


def _place(folder: Path, envelope: Envelope, body: Withdrawal | Suspension | Resumption) -> Path:
    match body:
        case Withdrawal():
            return folder / "withdrawals" / f"{body.agreement}.json"
        case Suspension():
            return folder / "suspensions" / f"{envelope.hash}.json"
        case Resumption():
            return folder / "suspensions" / f"{envelope.hash}.over.json"


def _said(agreements: Agreements, agreement_hash: str) -> dict[str, Suspension]:
    """Every suspension of an agreement there ever was."""
    found = {}
    for path in sorted((agreements.folder / "suspensions").glob("*.json")):
        if not path.name.endswith(".over.json"):
            body = Suspension.from_bytes(Envelope.from_bytes(path.read_bytes()).payload)
            if body.agreement == agreement_hash:
                found[path.stem] = body
    return found


def _undone(agreements: Agreements) -> dict[tuple[str, str], str]:
    """Suspension and party -> that party's resumption; another's undoes nothing."""
    found = {}
    for path in (agreements.folder / "suspensions").glob("*.over.json"):
        body = Resumption.from_bytes(Envelope.from_bytes(path.read_bytes()).payload)
        found[body.suspension, body.party] = path.name.removesuffix(".over.json")
    return found
