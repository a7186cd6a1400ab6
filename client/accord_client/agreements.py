"""The node's own copies of agreements: the trust root of everything it does.

    agreements/<hash>.json    what the steward signed; with that signature alone, later with all

Guarantees: a copy counts only with the signature of this institution's own identity key, so nothing
that somebody else puts into the folder or into the registry becomes an agreement; only a copy with
every party's signature is returned; a version that the steward has replaced is told apart for ever.

Not covered: an administrator who holds the identity key.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from accord_common import identity
from accord_common.agreement import AGREEMENT, Agreement, verify_agreement
from accord_common.api.finding import SHORTEST
from accord_common.envelope import Envelope, join, pae, sign
from accord_common.errors import AccordError, NotFoundError, PolicyError, VerificationError
from accord_common.fields import CLOCK_TOLERANCE_S, parse_time
from accord_common.files import replace_file
from accord_common.home import Home
from accord_common.identity import SigningKey

_TOLERANCE = timedelta(seconds=CLOCK_TOLERANCE_S)


@dataclass(frozen=True, slots=True)
class Agreements:
    """The agreements of one node.

    Args:
        folder: the node's folder.
        party: this institution.
        identity_key: its public identity key.
    """

    folder: Path
    party: str
    identity_key: str

    @classmethod
    def of(cls, home: Home) -> "Agreements":
        """The agreements of a party's folder."""
        return cls(home.path, home.profile.party, home.profile.identity_key)

    def read(self, envelope: Envelope, expected_hash: str) -> Agreement:
        """Decode a proposed agreement that a steward is about to see.

        Raises:
            VerificationError: `wrong-hash`, `wrong-kind`.
            PolicyError: `not-a-party` where it does not name this institution and its key.
        """
        if envelope.hash != expected_hash:
            raise VerificationError(
                "wrong-hash", f"asked for {expected_hash[:16]}, got {envelope.hash[:16]}"
            )
        if envelope.kind != AGREEMENT:
            raise VerificationError("wrong-kind", f"a {envelope.kind} is no {AGREEMENT}")
        agreement = Agreement.from_bytes(envelope.payload)
        own = [party for party in agreement.parties if party.id == self.party]
        if not own or own[0].identity_key != self.identity_key:
            raise PolicyError(
                "not-a-party",
                f"{agreement.title!r} does not name this institution with its own key",
                hint="Tell the coordinator; do not sign.",
            )
        return agreement

    def sign(self, agreement: Agreement, key: SigningKey) -> Envelope:
        """Sign with the institution's key and keep the copy, durable on return."""
        envelope = sign(AGREEMENT, agreement, key)
        if envelope.hash not in self.signed():
            self._write(envelope)
        return envelope

    def complete(self, envelope: Envelope) -> bool:
        """Keep an envelope with all signatures; False where the steward has not signed its record.

        Raises:
            VerificationError: a signature is missing, unexpected or wrong.
        """
        own = self._load(envelope.hash)
        if own is None:
            return False
        verify_agreement(envelope)
        join([own, envelope])  # the same bytes as those that were signed here
        if own.signers != envelope.signers:
            self._write(envelope)
        return True

    def signed(self) -> dict[str, Envelope]:
        """All own copies by hash, complete or not."""
        folder = self.folder / "agreements"
        found = (self._load(path.stem) for path in sorted(folder.glob("*.json")))
        return {envelope.hash: envelope for envelope in found if envelope is not None}

    def find(self, text: str) -> tuple[str, Agreement]:
        """Find an agreement that was signed here by its hash, or the hash's first digits.

        Raises:
            NotFoundError: `unknown-agreement`.
        """
        own = self.signed()
        found = [hash_ for hash_ in own if hash_.startswith(text)]
        if len(found) != 1 or len(text) < SHORTEST:
            raise NotFoundError(
                "unknown-agreement",
                f"{len(found)} agreements that were signed here begin with {text!r}, one is needed",
                hint=f"Give at least {SHORTEST} digits; accord-node agreement list shows them.",
            )
        return found[0], Agreement.from_bytes(own[found[0]].payload)

    def get(self, agreement_hash: str) -> Envelope:
        """Return the own, complete copy.

        Raises:
            PolicyError: `agreement-not-signed`, `agreement-incomplete`.
        """
        envelope = self._load(agreement_hash)
        if envelope is None:
            raise PolicyError(
                "agreement-not-signed",
                f"this institution has not signed agreement {agreement_hash[:16]}",
                hint=f"Read it first: accord-node agreement show {agreement_hash}",
            )
        try:
            verify_agreement(envelope)
        except VerificationError as error:
            raise PolicyError(
                "agreement-incomplete",
                f"the own copy of agreement {agreement_hash[:16]} lacks signatures",
                hint="Wait until every party has signed.",
            ) from error
        return envelope

    def successor(self, agreement_hash: str, now: datetime) -> str | None:
        """The complete version that replaces an agreement, from its first day on."""
        for hash_, envelope in self.signed().items():
            agreement = Agreement.from_bytes(envelope.payload)
            begun = parse_time(agreement.valid_from) - now <= _TOLERANCE
            follows = agreement.previous == agreement_hash
            if follows and begun and envelope.signers == agreement.keys:
                return hash_
        return None

    def _load(self, agreement_hash: str) -> Envelope | None:
        path = self.folder / "agreements" / f"{agreement_hash}.json"
        try:
            envelope = Envelope.from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        own = dict(envelope.signatures).get(self.identity_key)
        if envelope.hash != agreement_hash or own is None:
            return None
        try:
            identity.verify(self.identity_key, own, pae(envelope.kind, envelope.payload))
        except AccordError:
            return None
        return envelope

    def _write(self, envelope: Envelope) -> None:
        replace_file(self._folder("agreements") / f"{envelope.hash}.json", envelope.to_bytes())

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder
