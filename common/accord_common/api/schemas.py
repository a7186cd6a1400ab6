"""What the registry takes and gives, as models; registry, client, CLI and notebooks share these.

Guarantees: a request with an unknown field is refused; a view that says something about an envelope
and disagrees with it is refused. A view is the registry's word: whoever decides by it verifies the
envelope's signatures first.
"""

from http import HTTPStatus
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accord_common.agreement import Agreement
from accord_common.api.wire import WireEnvelope
from accord_common.enrolment import Offer
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, VerificationError
from accord_common.fields import (
    Count,
    Dec,
    Hash,
    Id,
    Name,
    Positive,
    PublicKey,
    Slug,
    Text,
    Time,
    Unit,
)
from accord_common.receipts import DatasetEpsilon
from accord_common.schema import Schema

MAX_JSON_BYTES = 4 << 20  # an envelope is at most 2 MiB, and an enrolment brings two
MAX_BLOB_BYTES = 512 << 20  # 128 million float32 parameters
MAX_PAGE = 500
MAX_WAIT_S = 30.0
MAX_LEASE_S = 3600

RunState = Literal[
    "awaiting-consent", "ready", "running", "completed", "failed", "stopped", "refused"
]
FINAL_STATES: frozenset[RunState] = frozenset({"completed", "failed", "stopped", "refused"})
AgreementStatus = Literal["proposed", "active", "superseded", "expired", "suspended", "withdrawn"]
Level = Literal["info", "warning", "error"]


class Request(BaseModel):
    """Base of what callers send."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """Base of what the registry answers; a newer registry may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Problem(View):
    """RFC 9457 problem; `error` names the class of `accord_common.errors` that it stands for."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    error: str

    @classmethod
    def of(cls, error: AccordError, status: HTTPStatus) -> Self:
        """Show an error."""
        return cls(
            type=f"urn:accord:problem:{error.code}",
            title=status.phrase,
            status=status,
            detail=error.message,
            code=error.code,
            hint=error.hint,
            error=type(error).__name__,
        )


class Info(View):
    """What a registry is, for anybody."""

    protocol: int
    version: str
    log_key: PublicKey


class Health(View):
    """Whether the process lives, or can serve."""

    status: Literal["ok"]


class DatasetDraft(Request):
    """A dataset that its holder registers; `id` and `population` are made at the node."""

    id: Id
    name: Name
    population: Id
    table: Schema
    size: Positive
    unit: Unit


class DatasetView(View):
    """A registered dataset: everything public about it, and no row."""

    id: Id
    name: Name
    owner: Id
    population: Id
    schema_hash: Hash
    table: Schema
    size: Positive
    unit: Unit


class EnvelopeRequest(Request):
    """A signed record."""

    envelope: WireEnvelope


class RecordRequest(EnvelopeRequest):
    """One for the log; an aggregator names its lease's `fence` beside receipts and results."""

    fence: Positive | None = None


class Halt(View):
    """A party's withdrawal from an agreement, or its suspension while that lasts."""

    record: Hash
    kind: Literal["withdrawal", "suspension"]
    party: Id
    reason: Text
    created: Time


class AgreementView(View):
    """An agreement, who has signed it, and whose signature it lacks (party ids)."""

    hash: Hash
    agreement: Agreement
    envelope: WireEnvelope
    status: AgreementStatus
    signed: list[Id]
    missing: list[Id]
    halts: list[Halt] = []

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _same(self.envelope, self.hash)
        if self.agreement.to_bytes() != self.envelope.payload:
            raise VerificationError("different-records", "the view shows another agreement")
        return self


class Stored(View):
    """Where a record stands in the registry's order; sequences start at 1 and have no gap."""

    sequence: Positive
    hash: Hash


class RecordView(View):
    """A stored record, verbatim."""

    sequence: Positive
    hash: Hash
    kind: Slug
    run: Id | None
    received: Time
    leaf: Annotated[Hash, Field(description="SHA-256(0x00 || envelope bytes), RFC 9162 2.1.1")]
    envelope: WireEnvelope

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _same(self.envelope, self.hash)
        return self


class OfferView(View):
    """An unused offer of an aggregator that was heard from lately."""

    hash: Hash
    offer: Offer
    envelope: WireEnvelope
    last_seen: Time

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _same(self.envelope, self.hash)
        if self.offer.to_bytes() != self.envelope.payload:
            raise VerificationError("different-records", "the view shows another offer")
        return self


class RefusalView(View):
    """From which round on (from 0) an accepted site has taken no part, and the code it gave."""

    round: Count
    code: Slug


class ConsentView(View):
    """A site's answer; `decision` is null while it has not answered.

    `head` is its newest record in the run: the consent, then its receipts. `refusal` is the
    aggregator's word; null while the site takes part. `barred` is the registry's: the site's key
    was revoked (`key-revoked`), or its party is suspended (`party-suspended`).
    """

    party: Id
    dataset: Id
    decision: Literal["accept", "refuse"] | None
    code: str
    reason: Text
    head: Hash | None
    refusal: RefusalView | None
    barred: Slug | None


class StandingView(View):
    """What a run that is not over waits for, and since when."""

    code: Slug
    message: Text
    since: Time


class ContinuedView(View):
    """The run whose model another one started from, after so many of its `rounds`."""

    run: Id
    rounds: Positive


class RunView(View):
    """A run as its records tell; `round` counts completed rounds.

    Attributes:
        unsigned: the end is the registry's own finding; no signed result says so yet.
        standing: null where the run goes on, or is over.
        continues: null where its initial model is no earlier run's.
    """

    id: Id
    manifest_hash: Hash
    agreement: Hash
    aggregator: Id
    title: Name
    state: RunState
    cause: Text
    code: str
    unsigned: bool = False
    standing: StandingView | None = None
    continues: ContinuedView | None = None
    round: Count
    rounds: Positive
    consents: list[ConsentView]
    epsilon: list[DatasetEpsilon]
    model: Hash | None
    metrics: dict[Slug, Dec]
    stop_requested: Text | None
    created: Time
    updated: Time


class RoundView(View):
    """One attempt at a round; `seconds` is by the registry's clock, informative.

    `refused` maps those who took no part, by their own word or for a wrong answer, to the code.
    """

    round: Count
    attempt: Count
    outcome: Literal["completed", "aborted"]
    cohort: list[Id]
    lost: list[Id]
    refused: dict[Id, Slug]
    model_after: Hash | None
    seconds: float
    created: Time


class StopRequest(Request):
    """Why the coordinator asks that a run end."""

    reason: Annotated[Text, Field(min_length=1)]


class LeaseRequest(Request):
    """An aggregator process claims a run, or with the `fence` that it was given renews the claim.

    Attributes:
        holder: names the aggregator's folder, not the party.
        ttl_s: how long the claim is to last; 0 lays it down.
        waiting: for which nodes the run waits now, for people.
    """

    holder: Name
    ttl_s: Annotated[int, Field(ge=0, le=MAX_LEASE_S)]
    fence: Positive | None = None
    waiting: Annotated[Text, Field(min_length=1)] | None = None


class Lease(View):
    """Who drives a run; `fence` grows by one with every process that claims it.

    `renew_s` is how often the registry wants to hear of it.
    """

    run: Id
    holder: Name
    fence: Positive
    expires: Time
    renew_s: Annotated[float, Field(gt=0)]


class EventRequest(Request):
    """One line for people who watch a run."""

    level: Level
    message: Annotated[Text, Field(min_length=1)]


class EventView(View):
    """One line about a run; `party` is null for the registry's own lines."""

    sequence: Positive
    level: Level
    message: Text
    party: Id | None
    created: Time


class Inbox(View):
    """What waits for a party; `cursor` goes into the next call."""

    cursor: Count
    agreements: list[Hash]
    runs: list[RunView]


def _same(envelope: Envelope, named: str) -> None:
    if envelope.hash != named:
        raise VerificationError("wrong-hash", f"{named[:16]} does not name the envelope's record")
