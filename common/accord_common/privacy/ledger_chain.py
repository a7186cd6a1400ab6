"""A ledger's signed chains, walked record by record: pure, whoever holds the bytes.

Guarantees: what is yielded was signed by one of the given keys, decodes strictly, stands at its
place and names its predecessor; the first record that does not is named.

Not covered: a missing end, which no chain shows; a receipt that names a later entry does.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from accord_common.envelope import Envelope
from accord_common.errors import AccordError, FormatError, VerificationError
from accord_common.fields import Dec, Hash, Id, Record
from accord_common.privacy.events import LEDGER_ENTRY, NO_PREDECESSOR, LedgerEntry
from accord_common.privacy.rules import LEDGER_RULE, LedgerRule

LEDGER_HEADER = "ledger-header"  # the envelope's kind

_R = TypeVar("_R", LedgerEntry, LedgerRule)


class LedgerHeader(Record):
    """What is fixed when a ledger is made: its id and the filter's orders."""

    version: Literal[1]
    ledger: Id
    orders: Annotated[list[Dec], Field(min_length=1, max_length=1000)]


def read_header(envelope: Envelope) -> LedgerHeader:
    """Decode a header under whichever key signed it.

    Raises:
        VerificationError: `ledger-broken`.
    """
    try:
        envelope.verify(envelope.signers)
        header = LedgerHeader.from_bytes(envelope.payload)
    except AccordError as error:
        raise broken(f"header: {error.message}") from error
    orders = [float(order) for order in header.orders]
    if envelope.kind != LEDGER_HEADER or orders[0] <= 1 or orders != sorted(set(orders)):
        raise broken("header: not the header of a ledger, or orders out of order")
    return header


def follow(
    envelopes: Iterable[Envelope], record: type[_R], keys: Collection[str]
) -> Iterator[tuple[_R, Hash]]:
    """Yield each record of a chain and its hash, from the first.

    Args:
        envelopes: the chain, oldest first.
        record: what they hold.
        keys: public keys that may have signed.

    Raises:
        VerificationError: `ledger-broken` or `ledger-unknown-key`, naming the record.
    """
    noun, kind = ("entry", LEDGER_ENTRY) if record is LedgerEntry else ("rule", LEDGER_RULE)
    previous = NO_PREDECESSOR
    for expected, envelope in enumerate(envelopes):
        name = f"{noun} {expected}"
        check_signer(name, envelope, keys)
        try:
            signed = record.from_bytes(envelope.payload)
        except FormatError as error:
            raise broken(f"{name}: {error.message}") from error
        if (envelope.kind, signed.sequence) != (kind, expected):
            raise broken(f"{name} is numbered {signed.sequence}, a {envelope.kind}")
        if signed.previous != previous:
            raise broken(f"{name} does not follow {previous[:16]}")
        previous = envelope.hash
        yield signed, previous


def check_signer(name: str, envelope: Envelope, keys: Collection[str]) -> None:
    """Check that one of `keys` signed.

    Raises:
        VerificationError: `ledger-broken` or `ledger-unknown-key`.
    """
    if unknown := envelope.signers - frozenset(keys):
        raise VerificationError(
            "ledger-unknown-key",
            f"{name} is signed by {min(unknown)[:16]}, no key of this node",
            hint="Name the node's earlier keys too, if it rotated them.",
        )
    try:
        envelope.verify(envelope.signers)
    except AccordError as error:
        raise broken(f"{name}: {error.message}") from error


def broken(why: str) -> VerificationError:
    """Return the error for a chain that does not hold together."""
    return VerificationError("ledger-broken", why)
