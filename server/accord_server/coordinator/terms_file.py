"""The terms of an agreement as a person writes them, with names instead of keys and ids.

    title: Tumour screening
    purpose: ["DUO:0000007"]
    legal_basis: consent of the patients
    valid_days: 365
    datasets:
      - {owner: Hospital North, name: tumours}
      - {owner: Hospital South, name: tumours, privacy: {epsilon_cap: 2}}
      - {owner: Hospital West, name: tumours}
    privacy: {epsilon_cap: 3, delta: 1e-5, min_noise_multiplier: 0.5, max_clipping_norm: 1,
              max_sampling_rate: 0.5}
    tasks:
      - {task: tabular-binary, objective: tell malignant from benign,
         architectures: [logistic-regression], max_rounds: 50}

`non_private: true` under `privacy` permits runs without privacy too: they protect nobody's record.
`duo` at a dataset are its own conditions of use, which the purpose must keep (`duo.conflicts`).
`profile: {smallest_cell: 10}` there lets its steward release quality profiles to all parties.
What may be left out has a default here or follows from the rest (`drafting`).
"""

from datetime import date, datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accord_common.agreement import (
    CLIPPING_NORM,
    DELTA,
    EPSILON_CAP,
    NOISE_MULTIPLIER,
    SAMPLING_RATE,
    ProfileTerms,
)
from accord_common.duo import DuoCode
from accord_common.fields import Adjacency, Hash, Name, Positive, Slug, Text
from accord_server.coordinator.documents import Document, Number

DEFAULT_DAYS = 365
MOST_DAYS = 36_500  # a century; beyond it somebody mistyped
DEFAULT_RETENTION_DAYS = 3650  # ten years, as many research rules ask


class PrivacyEntry(Document):
    """Terms for one dataset, or for all; a dataset's own entry goes before the common one."""

    epsilon_cap: Annotated[Number, EPSILON_CAP] | None = None
    delta: Annotated[Number, DELTA] | None = None
    adjacency: Adjacency | None = None
    min_noise_multiplier: Annotated[Number, NOISE_MULTIPLIER] | None = None
    max_clipping_norm: Annotated[Number, CLIPPING_NORM] | None = None
    max_sampling_rate: Annotated[Number, SAMPLING_RATE] | None = None
    non_private: bool | None = None


class DatasetEntry(Document):
    """A registered dataset, by its owner's name and its own; `duo` are its conditions of use.

    Where `duo` is left out, they are those of its catalogue entry.
    """

    owner: Name
    name: Name
    duo: Annotated[list[DuoCode], Field(max_length=32)] | None = None
    profile: ProfileTerms | None = None
    privacy: PrivacyEntry = PrivacyEntry()


class TaskEntry(Document):
    """A task that runs may train."""

    task: Slug
    objective: Text
    architectures: Annotated[list[Slug], Field(min_length=1)]
    max_rounds: Positive


class AggregationEntry(Document):
    """Secure-aggregation numbers; what is left out follows from the number of owners."""

    min_cohort: Positive | None = None
    threshold: Positive | None = None
    colluders: Annotated[int, Field(ge=0)] | None = None


class BenefitEntry(Document):
    """How the benefit is shared; shares by party name."""

    rule: Literal["equal", "declared-shares"] = "equal"
    shares: dict[Name, Number] = Field(default_factory=dict)


class TermsFile(Document):
    """The document that `accord agreement draft` reads."""

    title: Name
    purpose: Annotated[list[DuoCode], Field(min_length=1)]
    legal_basis: Text = ""
    responsibilities: Text = ""
    replaces: Hash | None = None
    auditors: tuple[Name, ...] = ()
    aggregator: Name | None = None
    datasets: Annotated[list[DatasetEntry], Field(min_length=2)]
    privacy: PrivacyEntry = PrivacyEntry()
    tasks: Annotated[list[TaskEntry], Field(min_length=1)]
    aggregation: AggregationEntry = AggregationEntry()
    recipients: list[Name] | None = None
    benefit: BenefitEntry = BenefitEntry()
    retention_days: Positive = DEFAULT_RETENTION_DAYS
    valid_from: date | datetime | None = None
    valid_days: Annotated[int, Field(ge=1, le=MOST_DAYS)] | None = None
    valid_until: date | datetime | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.valid_days is not None and self.valid_until is not None:
            raise ValueError("give either valid_days or valid_until")
        return self
