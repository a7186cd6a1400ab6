"""Who a party is and which daemon may act for it: enrolments, delegations, aggregator offers.

Guarantees: an enrolment proves possession of the institution key it names; a delegation is an
institution key's word that a node key (and, for nodes, a Flower key) may act until it expires, a
later one names another, or a revocation takes it back; an offer is the aggregator's word for the
keys of one run.
"""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from accord_common.agreement import Country, Role
from accord_common.envelope import Envelope
from accord_common.errors import PolicyError, VerificationError
from accord_common.fields import (
    CLOCK_TOLERANCE_S,
    FlowerPublicKey,
    Hash,
    Id,
    Name,
    PublicKey,
    Record,
    Text,
    Time,
    parse_time,
)

ENROLMENT = "enrolment"
DELEGATION = "delegation"
REVOCATION = "revocation"
OFFER = "aggregator-offer"

Address = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{1,253}:[1-9][0-9]{0,4}$", max_length=259)
]


class Enrolment(Record):
    """A party introduces itself to a registry; signed by the key it names."""

    party: Id
    name: Name
    role: Role
    identity_key: PublicKey
    jurisdiction: Country
    contact: Name
    created: Time


class Delegation(Record):
    """An institution key lets a daemon's keys act for it; `previous` is what it replaces."""

    previous: Hash | None
    party: Id
    node_key: PublicKey
    flower_key: FlowerPublicKey | None
    valid_from: Time
    valid_until: Time

    @model_validator(mode="after")
    def _span(self) -> Self:
        if parse_time(self.valid_from) >= parse_time(self.valid_until):
            raise ValueError("valid_from must lie before valid_until")
        return self

    def check_valid_at(self, moment: datetime) -> None:
        """Raise PolicyError `delegation-expired` or `delegation-not-yet-valid`."""
        if (parse_time(self.valid_from) - moment).total_seconds() > CLOCK_TOLERANCE_S:
            raise PolicyError("delegation-not-yet-valid", f"valid from {self.valid_from}")
        if (moment - parse_time(self.valid_until)).total_seconds() > CLOCK_TOLERANCE_S:
            raise PolicyError(
                "delegation-expired",
                f"the node key of {self.party} was valid until {self.valid_until}",
                hint="The institution must renew it: accord-node renew; accord aggregator renew",
            )


class Revocation(Record):
    """An institution key takes back all it has delegated so far; `previous` is the newest."""

    previous: Hash
    party: Id
    reason: Text
    created: Time


class Offer(Record):
    """The aggregator's keys for one run; signed by its delegated key."""

    party: Id
    delegation: Hash
    address: Address
    envelope_key: Annotated[PublicKey, Field(description="X25519, uploads are sealed to it")]
    receipt_key: PublicKey
    tls_spki: Hash
    created: Time


def verify_enrolment(envelope: Envelope) -> Enrolment:
    """Decode an enrolment and check that its own key signed it."""
    enrolment = Enrolment.from_bytes(_payload(envelope, ENROLMENT))
    envelope.verify([enrolment.identity_key])
    return enrolment


def verify_delegation(envelope: Envelope, *, identity_key: str, party: str) -> Delegation:
    """Decode a delegation and check that `identity_key` gave it for `party`.

    Raises:
        VerificationError: `wrong-party`, or the signature does not hold.
    """
    delegation = Delegation.from_bytes(_payload(envelope, DELEGATION))
    envelope.verify([identity_key])
    if delegation.party != party:
        raise VerificationError("wrong-party", f"the delegation is for {delegation.party}")
    return delegation


def verify_revocation(envelope: Envelope, *, identity_key: str, party: str) -> Revocation:
    """Decode a revocation and check that `identity_key` made it for `party`.

    Raises:
        VerificationError: `wrong-party`, or the signature does not hold.
    """
    revocation = Revocation.from_bytes(_payload(envelope, REVOCATION))
    envelope.verify([identity_key])
    if revocation.party != party:
        raise VerificationError("wrong-party", f"the revocation is {revocation.party}'s")
    return revocation


def verify_offer(envelope: Envelope, delegation: Delegation, delegation_hash: str) -> Offer:
    """Decode an offer and check that the aggregator's delegated key made it."""
    offer = Offer.from_bytes(_payload(envelope, OFFER))
    envelope.verify([delegation.node_key])
    if (offer.party, offer.delegation) != (delegation.party, delegation_hash):
        raise VerificationError("wrong-party", f"the offer is not from {delegation.party}")
    return offer


def _payload(envelope: Envelope, kind: str) -> bytes:
    if envelope.kind != kind:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {kind}")
    return envelope.payload
