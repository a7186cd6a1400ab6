"""The data-sharing agreement: the trust root of everything a node does.

Guarantees: an agreement that `verify_agreement` returns is signed by every party it names, and its
terms are consistent in themselves (keys and ids unique, owners are parties, dates in order). A node
trusts the keys in the agreement that its own steward signed, and nothing that the registry
adds.

Not covered: whether the terms are wise, and whether a signature tells the truth.
"""

from datetime import datetime
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from accord_common import duo
from accord_common.canonical import Json
from accord_common.duo import DuoCode
from accord_common.envelope import Envelope
from accord_common.errors import FormatError, NotFoundError, PolicyError, VerificationError
from accord_common.fields import (
    CLOCK_TOLERANCE_S,
    MAX_RECORD_BYTES,
    Adjacency,
    Count,
    Dec,
    Hash,
    Id,
    Name,
    Positive,
    PublicKey,
    Record,
    Slug,
    Text,
    Time,
    Unit,
    parse_time,
)
from accord_common.profiles import SMALLEST_CELL

AGREEMENT = "agreement"
WITHDRAWAL = "withdrawal"
SUSPENSION = "suspension"
RESUMPTION = "resumption"


def _above(low: float, high: float) -> AfterValidator:
    """Bounds of a decimal: above `low`, at most `high`."""

    def check(value: str) -> str:
        if not low < float(value) <= high:
            raise ValueError(f"{value} must be above {low} and at most {high}")
        return value

    return AfterValidator(check)


# Of privacy terms; those who write terms are told them before anything is drafted.
EPSILON_CAP = _above(0, 100)
DELTA = _above(0, 0.01)
NOISE_MULTIPLIER = _above(0.1, 1000)
CLIPPING_NORM = _above(0, 1_000_000)
SAMPLING_RATE = _above(0, 1)

Role = Literal["data-holder", "coordinator", "aggregator", "auditor"]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class Party(Record):
    """Somebody who signs: an institution, the coordinator, the aggregator, an auditor."""

    id: Id
    name: Name
    role: Role
    identity_key: PublicKey
    jurisdiction: Country
    contact: Name


class PrivacyTerms(Record):
    """What may be spent on one dataset, in all runs under the agreement together.

    `non_private` also permits runs without clipped rows and noise, which no cap counts.
    """

    epsilon_cap: Annotated[Dec, EPSILON_CAP]
    delta: Annotated[Dec, DELTA]
    adjacency: Adjacency
    min_noise_multiplier: Annotated[Dec, NOISE_MULTIPLIER]
    max_clipping_norm: Annotated[Dec, CLIPPING_NORM]
    max_sampling_rate: Annotated[Dec, SAMPLING_RATE]
    non_private: bool


class ProfileTerms(Record):
    """That a dataset's quality profile may be released; shares of fewer rows are withheld."""

    smallest_cell: Annotated[int, Field(ge=SMALLEST_CELL, le=1000)]


class Dataset(Record):
    """A table at one institution; `size` is a public constant, the N that updates divide by.

    `duo` says for what its people, or its law, let it be used; empty where nothing is said.
    `profile` is None where no quality profile may be released.
    """

    id: Id
    name: Name
    owner: Id
    population: Id
    schema_hash: Hash
    size: Positive
    unit: Unit
    duo: Annotated[list[DuoCode], Field(max_length=32)] = Field(default_factory=list)
    profile: ProfileTerms | None = None
    privacy: PrivacyTerms

    @model_validator(mode="after")
    def _meaningful_delta(self) -> Self:
        if Fraction(self.privacy.delta) * self.size >= 1:  # would allow releasing a whole row
            raise ValueError(f"delta = {self.privacy.delta} must be below 1/{self.size}")
        return self


class PermittedTask(Record):
    """A kind of training that the parties allow."""

    task: Slug
    objective: Text
    architectures: Annotated[list[Slug], Field(min_length=1, max_length=32)]
    max_rounds: Positive


class AggregationTerms(Record):
    """Secure aggregation is required; see SPEC.md for the bounds on n_min, threshold, colluders."""

    min_cohort: Annotated[int, Field(ge=2, le=1000)]
    threshold: Annotated[int, Field(ge=2, le=1000)]
    colluders: Count


class Release(Record):
    """Who gets the model, and which metrics leave."""

    recipients: Annotated[list[Id], Field(max_length=100)]
    metrics: Literal["public-holdout"]


class Benefit(Record):
    """How the benefit is shared."""

    rule: Literal["equal", "declared-shares"]
    shares: Annotated[dict[Id, Dec], Field(max_length=100)]


class Agreement(Record):
    """Terms that every party signs. `previous` is the hash of the version it replaces."""

    id: Id
    version: Positive
    previous: Hash | None
    title: Name
    purpose: Annotated[list[DuoCode], Field(min_length=1, max_length=32)]
    legal_basis: Text
    responsibilities: Text
    parties: Annotated[list[Party], Field(min_length=4, max_length=100)]
    datasets: Annotated[list[Dataset], Field(min_length=2, max_length=100)]
    tasks: Annotated[list[PermittedTask], Field(min_length=1, max_length=32)]
    aggregation: AggregationTerms
    release: Release
    benefit: Benefit
    retention_days: Positive
    valid_from: Time
    valid_until: Time
    log_key: PublicKey

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _sorted_unique("parties", [party.id for party in self.parties])
        for dataset in self.datasets:
            _sorted_unique(f"codes of dataset {dataset.name!r}", dataset.duo)
        _sorted_unique("datasets", [dataset.id for dataset in self.datasets])
        _sorted_unique("tasks", [task.task for task in self.tasks])
        _unique("identity keys", [party.identity_key for party in self.parties])
        _unique("party names", [party.name for party in self.parties])
        for role in ("coordinator", "aggregator"):
            if sum(party.role == role for party in self.parties) != 1:
                raise ValueError(f"exactly one party must be the {role}")
        holders = {party.id for party in self.parties if party.role == "data-holder"}
        if strays := {dataset.owner for dataset in self.datasets} - holders:
            raise ValueError(f"dataset owner {min(strays)} is no data-holder of this agreement")
        known = {party.id for party in self.parties}
        if strays := set(self.release.recipients) | set(self.benefit.shares):
            if strays - known:
                raise ValueError(f"{min(strays - known)} is no party of this agreement")
        if (self.previous is None) != (self.version == 1):
            raise ValueError("version 1 has no previous version, every later one names it")
        if parse_time(self.valid_from) >= parse_time(self.valid_until):
            raise ValueError("valid_from must lie before valid_until")
        _unique("purposes", self.purpose)
        if found := self.purpose_conflicts():
            raise ValueError("; ".join(found))
        return self

    def to_json(self) -> Json:
        """Return the record as JSON values; an empty `duo` or `profile` is left out."""
        value = self.model_dump(mode="json")
        for dataset in value["datasets"]:
            for name in ("duo", "profile"):
                if not dataset[name]:
                    del dataset[name]
        return value

    @classmethod
    def from_bytes(cls, data: bytes, *, max_bytes: int = MAX_RECORD_BYTES) -> Self:
        """Decode strictly; raises what `Record.from_bytes` does."""
        found = super().from_bytes(data, max_bytes=max_bytes)
        if found.to_bytes() != data:
            raise FormatError("not-canonical", "an empty `duo` or `profile` is left out")
        return found

    def purpose_conflicts(self) -> list[str]:
        """Say, dataset by dataset, what the purpose asks beyond its conditions of use."""
        return [
            f"dataset {dataset.name!r} of {self.party(dataset.owner).name}: {conflict}"
            for dataset in self.datasets
            for conflict in duo.conflicts(dataset.duo, self.purpose)
        ]

    @property
    def keys(self) -> frozenset[str]:
        """The identity keys of all parties: exactly these must sign."""
        return frozenset(party.identity_key for party in self.parties)

    def party(self, party_id: str) -> Party:
        """Return a party; `unknown-party` where the agreement has none of that id."""
        for party in self.parties:
            if party.id == party_id:
                return party
        raise NotFoundError("unknown-party", f"{party_id} is no party of agreement {self.title!r}")

    def with_role(self, role: Role) -> tuple[Party, ...]:
        """Return the parties of one role."""
        return tuple(party for party in self.parties if party.role == role)

    def dataset(self, dataset_id: str) -> Dataset:
        """Return a dataset; `unknown-dataset` where the agreement has none of that id."""
        for dataset in self.datasets:
            if dataset.id == dataset_id:
                return dataset
        raise NotFoundError(
            "unknown-dataset", f"{dataset_id} is no dataset of agreement {self.title!r}"
        )

    def permitted(self, task: str) -> PermittedTask:
        """Return the terms for a task; `task-not-permitted` where there are none."""
        for item in self.tasks:
            if item.task == task:
                return item
        raise PolicyError(
            "task-not-permitted",
            f"task {task!r} is not among {[item.task for item in self.tasks]}",
            hint="Amend the agreement, or run a permitted task.",
        )

    def check_valid_at(self, moment: datetime) -> None:
        """Raise PolicyError `agreement-not-yet-valid` or `agreement-expired`."""
        early = (parse_time(self.valid_from) - moment).total_seconds()
        late = (moment - parse_time(self.valid_until)).total_seconds()
        if early > CLOCK_TOLERANCE_S:
            raise PolicyError("agreement-not-yet-valid", f"valid from {self.valid_from}")
        if late > CLOCK_TOLERANCE_S:
            raise PolicyError(
                "agreement-expired",
                f"valid until {self.valid_until}",
                hint="Every party must sign a new version.",
            )


class Withdrawal(Record):
    """One party ends its part in an agreement: runs in flight stop, none can start."""

    agreement: Hash
    party: Id
    reason: Text
    created: Time


class Suspension(Record):
    """One party halts an agreement for now: runs in flight stop, none can start.

    `previous` is that party's resumption before it, null for its first: a record that was undone
    cannot be shown again as a new one.
    """

    agreement: Hash
    party: Id
    previous: Hash | None
    reason: Text
    created: Time


class Resumption(Record):
    """The party that suspended an agreement takes that back."""

    agreement: Hash
    party: Id
    suspension: Hash
    created: Time


def verify_agreement(envelope: Envelope) -> Agreement:
    """Decode an agreement and check that exactly all of its parties signed it.

    Raises:
        FormatError: the bytes are not an agreement.
        VerificationError: `wrong-kind`, or a signature is missing, unexpected or wrong.
    """
    if envelope.kind != AGREEMENT:
        raise VerificationError("wrong-kind", f"a {envelope.kind} is no {AGREEMENT}")
    agreement = Agreement.from_bytes(envelope.payload)
    envelope.verify(agreement.keys)
    return agreement


def _unique(name: str, values: list[str]) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"{name} repeat")


def _sorted_unique(name: str, values: list[str]) -> None:
    _unique(name, values)
    if values != sorted(values):
        raise ValueError(f"{name} are not sorted")
