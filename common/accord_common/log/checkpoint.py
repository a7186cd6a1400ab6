"""Checkpoints: what the log key says the log is, and heads, by which others repeat it.

Guarantees: a checkpoint that `verify_checkpoint` returns was signed by the log key alone; two of
one size with different roots are proof against whoever holds that key, and against nobody else
(`same_tree`).

Not covered: whether the log's records hold (`walk`, `runs`).
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from accord_common.envelope import Envelope, sign
from accord_common.errors import VerificationError
from accord_common.fields import Count, Hash, PublicKey, Record, Time
from accord_common.identity import SigningKey
from accord_common.log import merkle

CHECKPOINT = "checkpoint"

Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
Proof = Annotated[list[Hash], Field(max_length=merkle.MOST_HASHES)]


class Checkpoint(Record):
    """The log of key `log` has this many records, and this root; by the registry's clock."""

    log: PublicKey
    size: Count
    root: Hash
    created: Time


class Head(Record):
    """A checkpoint as other records carry it: its key is known from where it stands."""

    size: Count
    root: Hash
    created: Time
    signature: Signature

    @classmethod
    def of(cls, envelope: Envelope) -> "Head":
        """Shorten a checkpoint, which was verified."""
        body = Checkpoint.from_bytes(envelope.payload)
        ((_, signature),) = envelope.signatures
        return cls(size=body.size, root=body.root, created=body.created, signature=signature.hex())

    def envelope(self, log: str) -> Envelope:
        """The checkpoint again, if it is of the log with key `log`; its signature is unverified."""
        body = Checkpoint(log=log, size=self.size, root=self.root, created=self.created)
        return Envelope(CHECKPOINT, body.to_bytes(), ((log, bytes.fromhex(self.signature)),))

    def verify(self, log: str) -> None:
        """Check that the log key signed it.

        Raises:
            VerificationError: `wrong-head`.
        """
        try:
            self.envelope(log).verify([log])
        except VerificationError as error:
            raise VerificationError(
                "wrong-head", f"the log key {log[:16]} did not sign a tree of {self.size} records"
            ) from error


def sign_checkpoint(key: SigningKey, size: int, root: bytes, created: str) -> Envelope:
    """Make a checkpoint."""
    body = Checkpoint(log=key.public, size=size, root=root.hex(), created=created)
    return sign(CHECKPOINT, body, key)


def verify_checkpoint(envelope: Envelope, log: str | None = None) -> Checkpoint:
    """Decode a checkpoint and check that the log key, alone, signed it.

    Args:
        envelope: the checkpoint.
        log: the key; the one that it names where not given.

    Raises:
        FormatError: the bytes are no checkpoint.
        VerificationError: `wrong-kind`, `wrong-log-key`, or the signature does not hold.
    """
    if envelope.kind != CHECKPOINT:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {CHECKPOINT}")
    body = Checkpoint.from_bytes(envelope.payload)
    if log is not None and body.log != log:
        raise VerificationError(
            "wrong-log-key", f"a checkpoint of log {body.log[:16]}, not of {log[:16]}"
        )
    envelope.verify([body.log])
    return body


def same_tree(one: Checkpoint | Head, other: Checkpoint | Head, proof: Sequence[str]) -> None:
    """Check that one of two heads grew from the other.

    Args:
        one: a head.
        other: another of the same log, of any size.
        proof: consistency from the smaller to the larger; empty where the sizes agree.

    Raises:
        VerificationError: `wrong-consistency`.
    """
    first, second = sorted((one, other), key=lambda head: head.size)
    merkle.verify_consistency(
        first.size,
        second.size,
        [bytes.fromhex(item) for item in proof],
        bytes.fromhex(first.root),
        bytes.fromhex(second.root),
    )
