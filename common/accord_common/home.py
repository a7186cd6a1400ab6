"""One party's folder: who it is, its keys, the registry it joined.

    identity.key     institution key, sealed by a passphrase
    node.pem         the daemon's signing key           0600
    flower.pem       the node's P-384 key               0600, data holders only
    delegation.json  the institution's word for the two keys above
    delegations/     its earlier ones: whose keys may have signed what this folder keeps
    revocation.json  the institution's word that none of them holds any more
    next/            a delegation, and its keys, on the way to the registry (`delegating`)
    profile.json     party id, name, role, registry
    ca.pem, token    pinned at enrolment                token 0600
    network.json     proxy and further authorities, if any

Guarantees: the folder is made with mode 0700 and whole or not at all; a folder that others can read
is refused; a delegation that the registry has is in force here with the next opening, whenever the
process that renewed it died.
"""

import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from accord_common.agreement import Country, Role
from accord_common.api.client import RegistryClient
from accord_common.enrolment import DELEGATION, Delegation, verify_delegation
from accord_common.envelope import Envelope, sign
from accord_common.errors import FormatError, UsageError
from accord_common.expiry import ROTATE_CA, Term, of_certificates, of_delegation
from accord_common.fields import (
    FlowerPublicKey,
    Hash,
    Id,
    Name,
    PublicKey,
    Record,
    format_time,
    new_id,
    now,
)
from accord_common.files import make_folder, replace_file, write_secret
from accord_common.identity import FlowerKey, SigningKey
from accord_common.network.settings import FILE_NAME as NETWORK_FILE
from accord_common.network.settings import Network
from accord_common.sealed_key import seal, unseal
from accord_common.sentences import Sentence
from accord_common.trust import is_stale, refresh

DELEGATION_DAYS = 365
NEXT, POSTED = "next", "posted"


class Profile(Record):
    """Who the folder's owner is."""

    party: Id
    name: Name
    role: Role
    jurisdiction: Country
    contact: Name
    identity_key: PublicKey
    registry_url: str | None


@dataclass(frozen=True, slots=True)
class Home:
    """An opened folder."""

    path: Path
    profile: Profile

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        name: str,
        role: Role,
        jurisdiction: str,
        contact: str,
        passphrase: str,
    ) -> "Home":
        """Make keys and profile in a new folder.

        Raises:
            UsageError: `home-exists`, `short-passphrase`.
            FormatError: `bad-record` for a wrong name, country or contact.
        """
        require_new(path)
        identity, node = SigningKey.generate(), SigningKey.generate()
        sealed = seal(identity, passphrase)
        flower = FlowerKey.generate() if role == "data-holder" else None
        profile = Profile.from_json(
            {
                "party": new_id(),
                "name": name,
                "role": role,
                "jurisdiction": jurisdiction,
                "contact": contact,
                "identity_key": identity.public,
                "registry_url": None,
            }
        )

        def fill(folder: Path) -> None:
            write_secret(folder / "identity.key", sealed)
            write_secret(folder / "node.pem", node.to_pem())
            if flower is not None:
                write_secret(folder / "flower.pem", flower.to_pem())
            delegation = delegate(
                profile.party,
                identity,
                node_key=node.public,
                flower_key=None if flower is None else flower.public,
                previous=None,
                moment=now(),
            )
            write_secret(folder / "delegation.json", delegation.to_bytes())
            write_secret(folder / "profile.json", profile.to_bytes())

        make_folder(path, fill)
        return cls(path, profile)

    @classmethod
    def open(cls, path: Path) -> "Home":
        """Open a folder.

        Raises:
            UsageError: `no-home`, `exposed-home` where others may read it.
            FormatError: the profile is damaged.
        """
        profile = path / "profile.json"
        try:
            data = profile.read_bytes()
        except OSError as error:
            raise UsageError(
                "no-home",
                f"{path} holds no profile: {error.strerror}",
                hint="Run init first, or name the right folder with --home.",
            ) from error
        if mode := path.stat().st_mode & 0o077:
            raise UsageError(
                "exposed-home",
                f"{path} is open to others (mode ..{mode:02o})",
                hint="chmod 700.",
            )
        if (path / NEXT / POSTED).exists():
            install_next(path)
        try:
            return cls(path, Profile.from_bytes(data))
        except FormatError as error:
            raise FormatError(
                error.code, f"{profile}: {error.message}", hint="Restore it from a backup."
            ) from error

    def identity(self, passphrase: str) -> SigningKey:
        """Unseal the institution key; `wrong-passphrase`, `no-key`."""
        return unseal(self._key("identity.key"), passphrase)

    def node_key(self) -> SigningKey:
        """The daemon's signing key; `no-key`."""
        return SigningKey.from_pem(self._key("node.pem"))

    def flower_key(self) -> FlowerKey:
        """The key for Flower's endpoint; data holders only."""
        return FlowerKey.from_pem((self.path / "flower.pem").read_bytes())

    def _key(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise UsageError(
                "no-key",
                f"{self.path} holds no {name}: it was made for reading (accord token create)",
                hint="Sign from the institution's own folder; if this is it, restore a backup.",
            ) from error

    def reader(self, path: Path, token: str) -> "Home":
        """Make another folder, with a person's token in place of this one's, and no key at all.

        Raises:
            UsageError: `home-exists`.
        """
        require_new(path)

        def fill(folder: Path) -> None:
            for name in ("profile.json", "ca.pem", NETWORK_FILE):
                with suppress(FileNotFoundError):
                    write_secret(folder / name, (self.path / name).read_bytes())
            write_secret(folder / "token", token.encode("ascii"))

        make_folder(path, fill)
        return Home(path, self.profile)

    def delegation(self) -> Envelope:
        """The institution's delegation of the two keys above."""
        return Envelope.from_bytes((self.path / "delegation.json").read_bytes())

    def delegations(self) -> list[Envelope]:
        """Every delegation that this folder had, under its own identity key; the newest last."""
        paths = (self.path / "delegations").glob("*.json")
        former = [Envelope.from_bytes(path.read_bytes()) for path in paths]
        bodies = {envelope: self._given(envelope) for envelope in former}
        former.sort(key=lambda envelope: (bodies[envelope].valid_from, envelope.hash))
        present = self.delegation()
        return [one for one in former if one.hash != present.hash] + [present]

    def node_keys(self) -> frozenset[str]:
        """The public keys that may have signed here: the present one and those before it."""
        given = (self._given(envelope).node_key for envelope in self.delegations())
        return frozenset({self.node_key().public, *given})

    def _given(self, envelope: Envelope) -> Delegation:
        profile = self.profile
        return verify_delegation(envelope, identity_key=profile.identity_key, party=profile.party)

    def terms(self, renew: str) -> list[Term]:
        """What ends here: the delegation, which `renew` renews, and the pinned authorities."""
        body = Delegation.from_bytes(self.delegation().payload)
        found = [of_delegation(body, self.profile.name, renew)]
        if self.ca_path.exists():
            found += of_certificates(self.ca_path, Sentence.AUTHORITY, ROTATE_CA)
        return found

    def revocation(self) -> Envelope | None:
        """The institution's revocation of all that was delegated so far, if there is one."""
        try:
            return Envelope.from_bytes((self.path / "revocation.json").read_bytes())
        except FileNotFoundError:
            return None

    @property
    def ca_path(self) -> Path:
        """The registry's CA certificate, pinned at enrolment."""
        return self.path / "ca.pem"

    def registry(self) -> RegistryClient:
        """An authenticated client; `not-enrolled` before enrolment.

        Once a day it asks which authorities the registry offers.
        """
        client = self.untried_registry()
        if is_stale(self.ca_path, now()):
            refresh(self.ca_path, client, now(), tell=(self.path / "node.pem").exists())
        return client

    def untried_registry(self) -> RegistryClient:
        """The same, with nothing asked yet: for checks, which walk there layer by layer first."""
        if self.profile.registry_url is None:
            raise UsageError(
                "not-enrolled",
                f"{self.profile.name} has not joined a registry",
                hint="Ask the coordinator for an invitation and run enroll.",
            )
        try:
            token = (self.path / "token").read_text(encoding="ascii")
        except UnicodeDecodeError as error:
            raise UsageError(
                "bad-token",
                f"{self.path / 'token'} holds no token",
                hint="Ask the coordinator for a new invitation and run enroll again.",
            ) from error
        return RegistryClient(
            self.profile.registry_url,
            ca_pem=self.ca_path.read_bytes(),
            token=token,
            network=self.network(),
        )

    def network(self) -> Network:
        """How this party goes out."""
        return Network.of(self.path)

    def joined(self, url: str, ca_pem: bytes, token: str) -> "Home":
        """Store what enrolment gave; the profile last, so that a crash leaves `not-enrolled`."""
        for name, data in (("ca.pem", ca_pem), ("token", token.encode("ascii"))):
            replace_file(self.path / name, data)
        profile = self.profile.model_copy(update={"registry_url": url})
        replace_file(self.path / "profile.json", profile.to_bytes())
        return Home(self.path, profile)


def require_new(path: Path) -> None:
    """Raise UsageError `home-exists` unless a folder can be made there."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError("home-exists", f"{path} is there already", hint="Name a new folder.")


def delegate(
    party: str,
    identity: SigningKey,
    *,
    node_key: PublicKey,
    flower_key: FlowerPublicKey | None,
    previous: Hash | None,
    moment: datetime,
) -> Envelope:
    """Sign a delegation that begins now and lasts `DELEGATION_DAYS`."""
    delegation = Delegation(
        previous=previous,
        party=party,
        node_key=node_key,
        flower_key=flower_key,
        valid_from=format_time(moment),
        valid_until=format_time(moment + timedelta(days=DELEGATION_DAYS)),
    )
    return sign(DELEGATION, delegation, identity)


def install_next(path: Path) -> None:
    """Put what `next/` holds in force; again after a crash, with the same end."""
    present = path / "delegation.json"
    former = Envelope.from_bytes(present.read_bytes())
    coming = path / NEXT
    if (coming / present.name).exists():
        if former.to_bytes() != (coming / present.name).read_bytes():
            (path / "delegations").mkdir(mode=0o700, exist_ok=True)
            replace_file(path / "delegations" / f"{former.hash}.json", former.to_bytes())
        for name in ("node.pem", "flower.pem", present.name):  # the delegation last
            if (coming / name).exists():
                replace_file(path / name, (coming / name).read_bytes())
    (path / "revocation.json").unlink(missing_ok=True)
    gone = path / f".{NEXT}.{secrets.token_hex(8)}"
    with suppress(FileNotFoundError):  # another process of this party was faster
        os.replace(coming, gone)
    shutil.rmtree(gone, ignore_errors=True)
