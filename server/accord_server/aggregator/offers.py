"""The aggregator's keys, fresh for each run, and the signed offers that name them.

    offers/<offer hash>/offer.json  envelope.pem  receipt.pem  (0600)  manifest (once one names it)

Guarantees: a key pair serves one run; both private keys are durable before the offer can be seen,
and stay, so that a restarted aggregator opens what was sealed before and signs in the same chain.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_common.enrolment import OFFER, Offer
from accord_common.envelope import Envelope, sign
from accord_common.errors import FormatError
from accord_common.fields import format_time, now
from accord_common.files import make_folder, replace_file, write_secret
from accord_common.home import Home
from accord_common.identity import SigningKey
from accord_server.aggregator.engine import RunKeys


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where nodes reach this aggregator, and the SHA-256 of its certificate's SPKI."""

    address: str
    tls_spki: str


class Offers:
    """The offers of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home.path / "offers"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def unused(self, endpoint: Endpoint) -> Envelope:
        """Return an offer that no manifest has named yet; make one where there is none."""
        delegation = self._home.delegation().hash
        made = sorted(self._folder.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime_ns)
        free = [path for path in made if not (path / "manifest").exists()]
        if free:  # the newest alone: coordinators take that one, so no older one may stand for us
            envelope = Envelope.from_bytes((free[-1] / "offer.json").read_bytes())
            offer = Offer.from_bytes(envelope.payload)
            same = (offer.address, offer.tls_spki) == (endpoint.address, endpoint.tls_spki)
            if same and offer.delegation == delegation:
                return envelope
        return self._make(endpoint, delegation)

    def claim(self, offer_hash: str, manifest_hash: str) -> RunKeys | None:
        """Return the keys of an offer, from now on this manifest's; None where it is not ours.

        A second manifest for the same offer gets None: the keys belong to the first.
        """
        path = self._folder / offer_hash
        if not path.is_dir():
            return None
        claimed = path / "manifest"
        if not claimed.exists():
            replace_file(claimed, manifest_hash.encode())
        if claimed.read_text() != manifest_hash:
            return None
        envelope_key = serialization.load_pem_private_key(
            (path / "envelope.pem").read_bytes(), None
        )
        if not isinstance(envelope_key, X25519PrivateKey):
            raise FormatError("not-x25519", f"{path / 'envelope.pem'} holds another kind of key")
        receipt = SigningKey.from_pem((path / "receipt.pem").read_bytes())
        return RunKeys(envelope_key, receipt)

    def _make(self, endpoint: Endpoint, delegation: str) -> Envelope:
        envelope_key, receipt = X25519PrivateKey.generate(), SigningKey.generate()
        offer = Offer(
            party=self._home.profile.party,
            delegation=delegation,
            address=endpoint.address,
            envelope_key=envelope_key.public_key().public_bytes_raw().hex(),
            receipt_key=receipt.public,
            tls_spki=endpoint.tls_spki,
            created=format_time(now()),
        )
        envelope = sign(OFFER, offer, self._home.node_key())
        pem = envelope_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

        def fill(folder: Path) -> None:
            write_secret(folder / "envelope.pem", pem)
            write_secret(folder / "receipt.pem", receipt.to_pem())
            write_secret(folder / "offer.json", envelope.to_bytes())

        make_folder(self._folder / envelope.hash, fill)
        return envelope
