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
What may be left out has a default here or follows from the rest (`drafting`).
"""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field

from accord_common.agreement import DuoCode
from accord_common.fields import Adjacency, Hash, Name, Positive, Slug, Text
from accord_server.coordinator.documents import Document, Number

DEFAULT_DAYS = 365
DEFAULT_RETENTION_DAYS = 3650  # ten years, as many research rules ask


class PrivacyEntry(Document):
    """Terms for one dataset, or for all; a dataset's own entry goes before the common one."""

    epsilon_cap: Number | None = None
    delta: Number | None = None
    adjacency: Adjacency | None = None
    min_noise_multiplier: Number | None = None
    max_clipping_norm: Number | None = None
    max_sampling_rate: Number | None = None
    non_private: bool | None = None


class DatasetEntry(Document):
    """A registered dataset, by its owner's name and its own."""

    owner: Name
    name: Name
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
    valid_days: Positive = DEFAULT_DAYS
