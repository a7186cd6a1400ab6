"""Keys: who somebody is.

An Ed25519 key (RFC 8032) signs records; its id is its 32 public bytes in hex, so no table maps ids
to keys. Node keys, which a daemon uses, lie on disk as plain PKCS#8 with mode 0600; institution
keys only sealed (`sealed_key.py`). A P-384 key authenticates a node towards Flower.

Not covered: hardware tokens, and erasing keys from memory (Python cannot).
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from accord_common.errors import FormatError, VerificationError

SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 private key."""

    _key: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a new key from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> "SigningKey":
        """Read PKCS#8; `not-ed25519` for any other key, `bad-key` where it is none."""
        key = _load_pem(pem)
        if not isinstance(key, Ed25519PrivateKey):
            raise FormatError("not-ed25519", f"the file holds a {type(key).__name__}")
        return cls(key)

    def to_pem(self) -> bytes:
        """Write PKCS#8, in clear: for daemons' keys, in files of mode 0600."""
        return _to_pem(self._key)

    def private_bytes(self) -> bytes:
        """The 32 secret bytes, for `sealed_key` alone."""
        return self._key.private_bytes_raw()

    @property
    def public(self) -> str:
        """The public key, 64 hex digits: also the key's id."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> bytes:
        """Sign `message` (64 bytes, deterministic)."""
        return self._key.sign(message)

    def derive(self, purpose: bytes) -> bytes:
        """Derive a 32-byte symmetric key of its own for `purpose` (HKDF-SHA256)."""
        return HKDF(hashes.SHA256(), 32, None, purpose).derive(self._key.private_bytes_raw())


def verify(public: str, signature: bytes, message: bytes) -> None:
    """Check an Ed25519 signature.

    Raises:
        VerificationError: `bad-signature`.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise VerificationError(
            "bad-signature", f"the signature of key {public[:16]} does not hold"
        ) from error


@dataclass(frozen=True, slots=True)
class FlowerKey:
    """A P-384 key with which a node proves itself to the aggregator's Flower endpoint."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def generate(cls) -> "FlowerKey":
        """Make a new key."""
        return cls(ec.generate_private_key(ec.SECP384R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> "FlowerKey":
        """Read PKCS#8; `not-p384` for any other key."""
        key = _load_pem(pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp384r1":
            raise FormatError("not-p384", f"the file holds a {type(key).__name__}")
        return cls(key)

    def to_pem(self) -> bytes:
        """Write PKCS#8."""
        return _to_pem(self.private)

    @property
    def public(self) -> str:
        """The compressed point (SEC 1, 2.3.3), 98 hex digits."""
        return (
            self.private.public_key()
            .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
            .hex()
        )


def flower_public_key(public: str) -> ec.EllipticCurvePublicKey:
    """Decode the 98 hex digits of a node's P-384 key; `not-p384` where they are no point."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), bytes.fromhex(public))
    except ValueError as error:
        raise FormatError("not-p384", f"{public[:16]}... is no point on P-384") from error


def _load_pem(pem: bytes) -> object:
    try:
        return serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise FormatError("bad-key", "the file holds no readable private key") from error


def _to_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
