"""What an institution declares of a dataset, and the profile that it releases under an agreement.

Guarantees: both are signed by a delegated node key, and each names its predecessor, so what was
declared when somebody signed an agreement can be proved. An entry holds what the steward declared,
and of the rows their band alone; a profile is as coarse as `profiles` says.

Not covered: whether the steward declares the truth.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from accord_common import duo, profiles
from accord_common.agreement import Agreement
from accord_common.duo import DuoCode
from accord_common.enrolment import Delegation
from accord_common.envelope import Envelope
from accord_common.errors import PolicyError, VerificationError
from accord_common.fields import Hash, Id, Name, Positive, Record, Text, Time, Unit
from accord_common.profiles import Band, Profile
from accord_common.schema import Schema
from accord_common.schema_parts import MAX_COLUMNS

DATASET_ENTRY = "dataset-entry"
DATASET_PROFILE = "dataset-profile"


class CatalogueEntry(Record):
    """A version of what one dataset is declared to be; predecessor: the version before.

    `units` are of numbers, by column; `duo` as in an agreement: empty where nothing is said;
    `rows`: the band of those that are there and have not opted out.
    """

    dataset: Id
    party: Id
    delegation: Hash
    version: Positive
    previous: Hash | None
    name: Name
    title: Name
    description: Text
    population: Id
    unit: Unit
    size: Positive
    table: Schema
    units: Annotated[dict[Name, Name], Field(max_length=MAX_COLUMNS)]
    rows: Band
    duo: Annotated[list[DuoCode], Field(max_length=32)]
    created: Time

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.previous is None) != (self.version == 1):
            raise ValueError("version 1 has no previous version, every later one names it")
        if self.duo != sorted(set(self.duo)):
            raise ValueError("codes are not sorted, or repeat")
        if len(allowed := duo.permissions(self.duo)) > 1:
            raise ValueError(f"{', '.join(allowed)} exclude each other: give one permission")
        if strays := self.units.keys() - set(self.table.inputs):
            raise ValueError(f"units name {min(strays)!r}, which is no column of the schema")
        return self


class ReleasedProfile(Record):
    """A profile of a dataset under one agreement; predecessor: the newest one there, or the entry.

    `nonce` is 32 random bytes: its hash lets nobody try what the shares may be.
    """

    dataset: Id
    party: Id
    delegation: Hash
    previous: Hash | None
    entry: Hash
    agreement: Hash
    profile: Profile
    nonce: Hash
    created: Time


def verify_entry(envelope: Envelope, delegation: Delegation) -> CatalogueEntry:
    """Decode an entry and check that the node key of its party's delegation signed it.

    Raises:
        FormatError: the bytes are no entry.
        VerificationError: `wrong-kind`, `wrong-party`, or the signature does not hold.
    """
    entry = CatalogueEntry.from_bytes(_payload(envelope, DATASET_ENTRY))
    _signed(envelope, entry.party, delegation)
    return entry


def verify_profile(
    envelope: Envelope, delegation: Delegation, entry: CatalogueEntry, agreement: Agreement
) -> ReleasedProfile:
    """Decode a profile; check who signed it, that the agreement allows it, and how coarse it is.

    Args:
        envelope: the record.
        delegation: the one that it names.
        entry: the one that it names.
        agreement: the one that it names.

    Raises:
        FormatError, VerificationError, PolicyError: as `verify_entry`, `profiles.check` and
            `profile_terms` do.
    """
    released = ReleasedProfile.from_bytes(_payload(envelope, DATASET_PROFILE))
    _signed(envelope, released.party, delegation)
    if (entry.dataset, entry.party) != (released.dataset, released.party):
        raise VerificationError("wrong-predecessor", "its entry is another dataset's")
    smallest = profile_terms(agreement, released.dataset, released.party)
    if agreement.dataset(released.dataset).schema_hash != entry.table.hash:
        raise VerificationError("profile-differs", "its entry has another schema than was agreed")
    profiles.check(released.profile, entry.table, entry.rows, smallest)
    return released


def profile_terms(agreement: Agreement, dataset: str, party: str) -> int:
    """The smallest cell of a profile that may be released under an agreement.

    Raises:
        NotFoundError: `unknown-dataset`.
        PolicyError: `profile-not-agreed`.
    """
    agreed = agreement.dataset(dataset)
    if agreed.owner != party or agreed.profile is None:
        raise PolicyError(
            "profile-not-agreed",
            f"agreement {agreement.title!r}, version {agreement.version}, lets no profile of "
            f"{agreed.name!r} out",
            hint="Amend it with `profile: {smallest_cell: 10}` at the dataset, if every party "
            "accepts that.",
        )
    return agreed.profile.smallest_cell


def stricter(entry: CatalogueEntry, agreement: Agreement) -> list[str]:
    """What an entry asks for that an agreement on its dataset does not keep; one sentence each."""
    agreed = agreement.dataset(entry.dataset)
    found = duo.conflicts(entry.duo, agreement.purpose)
    if entry.table.hash != agreed.schema_hash:
        found.append("it declares another schema than was agreed")
    return found


def require_kept(entry: CatalogueEntry, agreement: Agreement) -> None:
    """Refuse an agreement that does not keep what an entry on one of its datasets asks for.

    Raises:
        NotFoundError: `unknown-dataset`.
        PolicyError: `catalogue-stricter`, with every reason.
    """
    if found := stricter(entry, agreement):
        agreed = agreement.dataset(entry.dataset)
        raise PolicyError(
            "catalogue-stricter",
            f"{agreement.party(agreed.owner).name}/{agreed.name}: by version {entry.version} of "
            f"its catalogue entry, {'; '.join(found)}",
            hint="Amend the agreement; or its owner declares otherwise: accord-node dataset "
            "publish.",
        )


def _signed(envelope: Envelope, party: str, delegation: Delegation) -> None:
    if delegation.party != party:
        raise VerificationError("wrong-party", f"its delegation is {delegation.party}'s")
    envelope.verify([delegation.node_key])


def _payload(envelope: Envelope, kind: str) -> bytes:
    if envelope.kind != kind:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {kind}")
    return envelope.payload
