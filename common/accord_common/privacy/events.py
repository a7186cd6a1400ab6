"""What was spent: mechanism events, never epsilon.

Guarantees: an event holds everything that a figure follows from (mechanism, noise, clip, sampling,
steps, adjacency), so a better accountant, or a doubt about this one, needs no new record.

Not covered: that the noise was added and the sample was drawn as the event says. It is the
institution's attestation; its node protects it from others and proves nothing to them.
"""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from accord_common.fields import Adjacency, Count, Dec, Hash, Id, Name, Positive, Record, Time

LEDGER_ENTRY = "ledger-entry"  # the envelope's kind
NO_PREDECESSOR = "0" * 64  # `previous` of a ledger's first entry

# Below it, squared gradients underflow in float32 and hide from the clip: a coordinator that chose
# C = 1e-24 and weights that saturate the loss read rows 53 times as loud as C allows. At 1e-6 what
# underflow can hide of 2e8 coordinates is below 1e-17 of C squared.
MIN_CLIPPING_NORM = "0.000001"
NO_NOISE = "0"  # the noise multiplier of mechanism `none`, and of no other


def _positive(value: str) -> str:
    if Decimal(value) <= 0:
        raise ValueError("must be greater than 0")
    return value


def not_negative(value: str) -> str:
    """Refuse a decimal below 0."""
    if Decimal(value) < 0:
        raise ValueError("must be at least 0")
    return value


def _probability(value: str) -> str:
    if not 0 < Decimal(value) <= 1:
        raise ValueError("must be greater than 0 and at most 1")
    return value


class Spend(Record):
    """One round's spending on one population: `steps` noisy clipped gradient sums.

    `noise_multiplier` is the noise's standard deviation over `clipping_norm`; every step takes each
    record with probability `sampling_rate`; `size` is the public N (the divisor is q N). Mechanism
    `none` clips no record and adds no noise: it costs infinity.
    """

    population: Id
    dataset: Id
    agreement: Hash
    run: Hash
    round: Count
    attempt: Count
    mechanism: Literal["poisson-gaussian", "none"]
    noise_multiplier: Annotated[Dec, AfterValidator(not_negative)]
    clipping_norm: Annotated[Dec, AfterValidator(_positive)]
    sampling_rate: Annotated[Dec, AfterValidator(_probability)]
    size: Positive
    steps: Positive
    sampler: Literal["poisson"]
    adjacency: Adjacency
    code_version: Name

    @model_validator(mode="after")
    def _noise_is_the_mechanisms(self) -> Self:
        if (self.mechanism == "none") != (self.noise_multiplier == NO_NOISE):
            raise ValueError(
                f"noise_multiplier {self.noise_multiplier} of mechanism {self.mechanism}"
            )
        return self


class LedgerEntry(Record):
    """A spend in its place: `sequence` from 0, `previous` the envelope hash of the entry before."""

    sequence: Count
    previous: Hash
    spend: Spend
    recorded: Time
