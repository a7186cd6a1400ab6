"""Renewing what an institution delegated, exchanging its daemon's keys, and taking them back.

Guarantees: a new delegation and its keys are on disk before the registry hears of them, and in
force here once it has them; a process that dies in between is made good by the next `renew` or the
next opening of the folder. A revocation needs nothing but the identity key: no token, no node key.

Not covered: runs. Whoever exchanges keys sees to it that none is under way (`accord-node renew`).
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from accord_common.api.client import RegistryClient
from accord_common.cli import Format
from accord_common.enrolment import REVOCATION, Delegation, Revocation, verify_revocation
from accord_common.envelope import Envelope, sign
from accord_common.errors import (
    AccordError,
    AuthError,
    ConflictError,
    PolicyError,
    TransportError,
)
from accord_common.fields import Hash, format_time
from accord_common.files import make_folder, replace_file, write_secret
from accord_common.home import NEXT, POSTED, Home, delegate, install_next
from accord_common.identity import FlowerKey, SigningKey


@dataclass(frozen=True, slots=True)
class Head:
    """The newest of a party's delegations and revocations at the registry, and which it is."""

    hash: Hash
    revoked: bool


@dataclass(frozen=True, slots=True)
class Renewed:
    """What is in force now; `posted` is false where only the next enrolment can bring it."""

    delegation: Delegation
    hash: Hash
    rotated: bool
    posted: bool


def is_exchanging(home: Home) -> bool:
    """Whether an exchange of keys was cut off, which the next `renew` goes on with."""
    return (home.path / NEXT / "node.pem").exists()


def head_of(home: Home, registry: RegistryClient) -> Head:
    """What the registry has newest; the folder's own where the registry knows no token of it."""
    try:
        partner = registry.partner(home.profile.party)
    except AuthError:
        revocation = home.revocation()
        own = home.delegation() if revocation is None else revocation
        return Head(own.hash, revocation is not None)
    if partner.revoked is not None:
        return Head(partner.revoked, True)
    newest = home.delegation() if partner.delegation is None else partner.delegation
    return Head(newest.hash, False)


def renew(
    home: Home,
    registry: RegistryClient,
    passphrase: str,
    *,
    rotate_key: bool,
    before_rotating: Callable[[], None],
    moment: datetime,
) -> Renewed:
    """Delegate the daemon's keys anew, or new ones; go on with a renewal that was cut off.

    Args:
        home: the party's folder.
        registry: the party's, authenticated where it can be.
        passphrase: of the identity key.
        rotate_key: make new keys; the old ones end as the registry hears of it.
        before_rotating: raises where keys may not be exchanged now.
        moment: this party's time.

    Raises:
        UsageError: `wrong-passphrase`.
        PolicyError: `key-revoked` where a revoked key would be delegated again.
        ConflictError: `older-home` where the registry has a delegation that this folder lacks. One
            that this folder had before is followed: the registry was restored from a backup.
        TransportError: nothing changed, or the next call goes on.
    """
    coming = home.path / NEXT
    _drop_overtaken(home, coming)
    if not (coming / "delegation.json").exists():
        identity = home.identity(passphrase)
        head = head_of(home, registry)
        if rotate_key:
            before_rotating()
        elif head.revoked:
            raise PolicyError(
                "key-revoked",
                "the institution has revoked these keys",
                hint="Make new ones: add --rotate-key.",
            )
        elif head.hash not in {known.hash for known in home.delegations()}:
            raise ConflictError(
                "older-home",
                "the registry has a newer delegation than this folder, which may be an older copy",
                hint="Find the present folder, or make new keys here: --rotate-key.",
            )
        _prepare(home, identity, coming, head.hash, rotate_key=rotate_key, moment=moment)
    envelope = Envelope.from_bytes((coming / "delegation.json").read_bytes())
    try:
        posted = _post(home, registry, envelope)
    except TransportError:
        raise
    except AccordError:  # refused for good: the keys in it are nobody's
        shutil.rmtree(coming)
        raise
    replace_file(coming / POSTED, b"")
    rotated = is_exchanging(home)
    install_next(home.path)
    return Renewed(Delegation.from_bytes(envelope.payload), envelope.hash, rotated, posted)


def revoke(
    home: Home, registry: RegistryClient, passphrase: str, reason: str, moment: datetime
) -> Envelope:
    """Take back everything that was delegated so far; the registry ends its tokens too.

    Raises:
        UsageError: `wrong-passphrase`.
        TransportError: the registry cannot be reached; nothing was revoked.
    """
    head = head_of(home, registry)
    if head.revoked:
        if (own := home.revocation()) is None:
            return registry.record(head.hash)
        registry.revoke(own)  # a registry that was set back to a backup may lack it
        return own
    body = Revocation(
        previous=head.hash, party=home.profile.party, reason=reason, created=format_time(moment)
    )
    envelope = sign(REVOCATION, body, home.identity(passphrase))
    registry.revoke(envelope)
    replace_file(home.path / "revocation.json", envelope.to_bytes())
    return envelope


def describe(done: Renewed, enroll: str, format_: Format) -> tuple[dict[str, object], Format, str]:
    """What a verb says of a renewal; `enroll` is what brings an unposted one to the registry."""
    until = done.delegation.valid_until
    what = "New keys" if done.rotated else "The same keys"
    text = f"{what} may act until {until}."
    if not done.posted:
        text += f"\nThe registry has it with the next enrolment: {enroll}"
    elif done.rotated:
        text += "\nThe old ones are refused from now on. Start the daemon again."
    answer: dict[str, object] = {
        "delegation": done.hash,
        "node_key": done.delegation.node_key,
        "valid_until": until,
        "rotated": done.rotated,
        "posted": done.posted,
    }
    return answer, format_, text


def check_not_revoked(home: Home) -> None:
    """Raise PolicyError `key-revoked` where this folder knows that its keys were revoked."""
    if (envelope := home.revocation()) is None:
        return
    profile = home.profile
    told = verify_revocation(envelope, identity_key=profile.identity_key, party=profile.party)
    raise PolicyError(
        "key-revoked",
        f"the institution revoked this folder's keys at {told.created}: {told.reason}",
        hint="Make new ones with renew --rotate-key, then enroll with a new invitation.",
    )


def _prepare(
    home: Home,
    identity: SigningKey,
    coming: Path,
    previous: Hash,
    *,
    rotate_key: bool,
    moment: datetime,
) -> None:
    present = Delegation.from_bytes(home.delegation().payload)
    node = SigningKey.generate() if rotate_key else None
    flower = FlowerKey.generate() if rotate_key and present.flower_key is not None else None
    envelope = delegate(
        home.profile.party,
        identity,
        node_key=present.node_key if node is None else node.public,
        flower_key=present.flower_key if flower is None else flower.public,
        previous=previous,
        moment=moment,
    )

    def fill(folder: Path) -> None:
        if node is not None:
            write_secret(folder / "node.pem", node.to_pem())
        if flower is not None:
            write_secret(folder / "flower.pem", flower.to_pem())
        write_secret(folder / "delegation.json", envelope.to_bytes())

    make_folder(coming, fill)


def _drop_overtaken(home: Home, coming: Path) -> None:
    """Forget a renewal that was begun before its keys, or its predecessor's, were revoked."""
    revocation, path = home.revocation(), coming / "delegation.json"
    if revocation is None or not path.exists():
        return
    begun = Delegation.from_bytes(Envelope.from_bytes(path.read_bytes()).payload)
    if begun.previous != revocation.hash:
        shutil.rmtree(coming)


def _post(home: Home, registry: RegistryClient, envelope: Envelope) -> bool:
    """Bring it to the registry; False where only an enrolment can, after a revocation."""
    try:
        registry.post(envelope)
    except AuthError:
        if home.revocation() is None:
            raise
        return False
    return True
