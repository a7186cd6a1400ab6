"""DSSE envelopes: a record, its kind, and who signed it.

Guarantees: an envelope that decodes has one byte form; its signatures cover kind and record
together (DSSE v1 pre-authentication encoding), are sorted by key id, and no key signs twice.
`Envelope.hash` names the record whoever signed it, so a successor can point at it.

Not covered: whether a key may sign this kind of record: see `chain.py` and SPEC.md's table.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, StringConstraints

from accord_common import identity
from accord_common.canonical import sha256_hex
from accord_common.errors import FormatError, VerificationError
from accord_common.fields import MAX_RECORD_BYTES, PublicKey, Record

MAX_SIGNATURES = 128
MAX_ENVELOPE_BYTES = 2 * MAX_RECORD_BYTES  # base64 of the payload, plus signatures

_TYPE_PREFIX = "application/vnd.accord."
_TYPE_SUFFIX = "+json"
_PayloadType = Annotated[
    str,
    StringConstraints(pattern=r"^application/vnd\.accord\.[a-z]+(-[a-z]+)*\+json$", max_length=80),
]


class _Signature(Record):
    keyid: PublicKey
    sig: Annotated[str, StringConstraints(max_length=88)]


class _Wire(Record):
    payload: str
    payloadType: _PayloadType
    signatures: Annotated[list[_Signature], Field(min_length=1, max_length=MAX_SIGNATURES)]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed record: `signatures` maps key id to 64 signature bytes, sorted by key id."""

    kind: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def hash(self) -> str:
        """SHA-256 of the pre-authentication encoding: the record's name in the chain."""
        return record_hash(self.kind, self.payload)

    def to_bytes(self) -> bytes:
        """Return the envelope's canonical JSON."""
        return _Wire(
            payload=base64.b64encode(self.payload).decode(),
            payloadType=f"{_TYPE_PREFIX}{self.kind}{_TYPE_SUFFIX}",
            signatures=[
                _Signature(keyid=key, sig=base64.b64encode(signature).decode())
                for key, signature in self.signatures
            ],
        ).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Envelope":
        """Decode strictly; signatures are not verified yet.

        Raises:
            FormatError: `too-large`, `not-json`, `not-canonical`, `bad-record`, `bad-base64`,
                `repeated-signature` or `unsorted-signatures`.
        """
        wire = _Wire.from_bytes(data, max_bytes=MAX_ENVELOPE_BYTES)
        signatures = tuple((item.keyid, _base64(item.sig)) for item in wire.signatures)
        keys = [key for key, _ in signatures]
        if len(set(keys)) != len(keys):
            raise FormatError("repeated-signature", "one key signs the envelope twice")
        if keys != sorted(keys):
            raise FormatError("unsorted-signatures", "signatures are not sorted by key id")
        for key, signature in signatures:
            if len(signature) != identity.SIGNATURE_BYTES:
                raise FormatError(
                    "bad-record", f"signature of {key[:16]} has {len(signature)} bytes, not 64"
                )
        kind = wire.payloadType.removeprefix(_TYPE_PREFIX).removesuffix(_TYPE_SUFFIX)
        return cls(kind, _base64(wire.payload), signatures)

    @property
    def signers(self) -> frozenset[str]:
        """The key ids that claim to have signed."""
        return frozenset(key for key, _ in self.signatures)

    def verify(self, required: Iterable[str]) -> None:
        """Check that exactly the keys in `required` signed, and that every signature holds.

        Raises:
            VerificationError: `missing-signature`, `unexpected-signature` or `bad-signature`.
        """
        expected = frozenset(required)
        if missing := expected - self.signers:
            raise VerificationError(
                "missing-signature", f"{self.kind} lacks the signature of {min(missing)[:16]}"
            )
        if extra := self.signers - expected:
            raise VerificationError(
                "unexpected-signature",
                f"{self.kind} is signed by the unknown key {min(extra)[:16]}",
            )
        message = pae(self.kind, self.payload)
        for key, signature in self.signatures:
            identity.verify(key, signature, message)


def pae(kind: str, payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding of a record of `kind`."""
    payload_type = f"{_TYPE_PREFIX}{kind}{_TYPE_SUFFIX}".encode()
    return b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type, len(payload), payload)


def record_hash(kind: str, payload: bytes) -> str:
    """Return the SHA-256 (hex) that names a record: over kind and bytes, not over signatures."""
    return sha256_hex(pae(kind, payload))


def sign(kind: str, record: Record, *keys: identity.SigningKey) -> Envelope:
    """Sign `record` with each of `keys`."""
    payload = record.to_bytes()
    message = pae(kind, payload)
    pairs = {key.public: key.sign(message) for key in keys}
    return Envelope(kind, payload, tuple(sorted(pairs.items())))


def join(envelopes: Iterable[Envelope]) -> Envelope:
    """Put the signatures of several envelopes of the same record into one.

    Raises:
        VerificationError: `different-records` where they do not sign the same bytes.
    """
    parts = list(envelopes)
    if len({(part.kind, part.payload) for part in parts}) != 1:
        raise VerificationError("different-records", "the envelopes sign different records")
    pairs = {key: signature for part in parts for key, signature in part.signatures}
    return Envelope(parts[0].kind, parts[0].payload, tuple(sorted(pairs.items())))


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError("bad-base64", f"not base64: {error}") from error
    if base64.b64encode(data).decode() != text:
        raise FormatError("bad-base64", "base64 with stray bits")
    return data
