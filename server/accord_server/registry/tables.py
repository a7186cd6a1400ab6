"""What the database holds.

`records` is the truth: append-only, envelopes verbatim. The projections after it are derived from
`records` alone, in order, and can be dropped and rebuilt (`records/rebuild.py`). The operational
tables at the end are not: secrets' hashes, approvals, unsigned drafts and requests, leases, lines.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Hex = String(64)
Uuid = String(36)
Word = String(100)


class Moment(TypeDecorator[datetime]):
    """A UTC time as microseconds since 1970: the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Write."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Read."""
        return None if value is None else _EPOCH + value * _MICROSECOND


class Base(DeclarativeBase):
    """Common metadata; constraints get names, which migrations need."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class RecordRow(Base):
    """One signed record; triggers refuse UPDATE and DELETE. `run` is a run's id."""

    __tablename__ = "records"
    __table_args__ = (Index(None, "run", "sequence"), Index(None, "kind", "sequence"))
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(Hex, unique=True)
    envelope: Mapped[bytes] = mapped_column(LargeBinary)
    leaf: Mapped[str] = mapped_column(Hex)
    run: Mapped[str | None] = mapped_column(Uuid)
    received: Mapped[datetime] = mapped_column(Moment)


# Projections


class PartnerRow(Base):
    """A party, from its enrolment; `delegation` is its chain's head, which may be a revocation."""

    __tablename__ = "partners"
    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str] = mapped_column(Word, unique=True)
    role: Mapped[str] = mapped_column(String(16))
    identity_key: Mapped[str] = mapped_column(Hex, unique=True)
    jurisdiction: Mapped[str] = mapped_column(String(2))
    contact: Mapped[str] = mapped_column(Word)
    delegation: Mapped[str | None] = mapped_column(Hex)


class AgreementRow(Base):
    """A fully signed agreement; what is not in its envelope is what happened to it since."""

    __tablename__ = "agreements"
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    id: Mapped[str] = mapped_column(Uuid, index=True)
    version: Mapped[int] = mapped_column(BigInteger)
    valid_from: Mapped[datetime] = mapped_column(Moment)
    valid_until: Mapped[datetime] = mapped_column(Moment)
    superseded_by: Mapped[str | None] = mapped_column(Hex)
    superseded_from: Mapped[datetime | None] = mapped_column(Moment)
    withdrawal: Mapped[str | None] = mapped_column(Hex)


class AgreementPartyRow(Base):
    """Who is a party of a fully signed agreement, and whether it withdrew, or suspends it.

    `suspension_head` is the newest of its suspensions and resumptions.
    """

    __tablename__ = "agreement_parties"
    agreement: Mapped[str] = mapped_column(ForeignKey("agreements.hash"), primary_key=True)
    party: Mapped[str] = mapped_column(Uuid, primary_key=True, index=True)
    withdrawn: Mapped[bool]
    suspended: Mapped[bool]
    suspension_head: Mapped[str | None] = mapped_column(Hex)


class OfferRow(Base):
    """An aggregator's offer; `manifest` is the one that took it."""

    __tablename__ = "offers"
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    party: Mapped[str] = mapped_column(Uuid)
    manifest: Mapped[str | None] = mapped_column(Hex)


class RunRow(Base):
    """A run; `state` never says running, which follows from the lease (operational)."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    manifest: Mapped[str] = mapped_column(Hex, unique=True)
    agreement: Mapped[str] = mapped_column(ForeignKey("agreements.hash"), index=True)
    aggregator: Mapped[str] = mapped_column(Uuid)
    title: Mapped[str] = mapped_column(Word)
    state: Mapped[str] = mapped_column(String(20), index=True)
    cause: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(String(64))
    round: Mapped[int] = mapped_column(BigInteger)  # completed rounds
    rounds: Mapped[int] = mapped_column(BigInteger)
    initial_model: Mapped[str] = mapped_column(Hex)
    base: Mapped[str | None] = mapped_column(Hex)  # public weights that the run adapts
    model: Mapped[str | None] = mapped_column(Hex)  # the last completed round's, then the result's
    result: Mapped[str | None] = mapped_column(Hex)
    epsilon: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    metrics: Mapped[dict[str, str]] = mapped_column(JSON)
    head: Mapped[str] = mapped_column(Hex)  # of the aggregator's chain
    withdrawn: Mapped[str | None] = mapped_column(Text)  # why one of its parties stops it
    timed_from: Mapped[datetime] = mapped_column(Moment)  # when the present attempt could begin
    created: Mapped[datetime] = mapped_column(Moment)
    updated: Mapped[datetime] = mapped_column(Moment)


OPEN = ("awaiting-consent", "ready")  # states of `RunRow` that are not final


class SiteRow(Base):
    """One site of a run: its answer, and the head of its chain (consent, then receipts)."""

    __tablename__ = "run_sites"
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    party: Mapped[str] = mapped_column(Uuid, primary_key=True)
    dataset: Mapped[str] = mapped_column(Uuid)
    decision: Mapped[str | None] = mapped_column(String(8))
    code: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)
    head: Mapped[str | None] = mapped_column(Hex)
    refused_round: Mapped[int | None] = mapped_column(BigInteger)  # null: it takes part
    refused_code: Mapped[str | None] = mapped_column(String(64))
    revoked: Mapped[bool]  # the key that the manifest names holds no more


class RoundRow(Base):
    """One attempt, from the aggregator's receipt; `number` counts attempts of the run from 1."""

    __tablename__ = "rounds"
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    round: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(BigInteger)
    outcome: Mapped[str] = mapped_column(String(16))
    cohort: Mapped[list[str]] = mapped_column(JSON)
    lost: Mapped[list[str]] = mapped_column(JSON)
    refused: Mapped[dict[str, str]] = mapped_column(JSON)
    model_after: Mapped[str | None] = mapped_column(Hex, index=True)
    started: Mapped[datetime] = mapped_column(Moment)
    ended: Mapped[datetime] = mapped_column(Moment)


# Operational


class ReleaseRow(Base):
    """Which release brought the schema to a revision."""

    __tablename__ = "releases"
    revision: Mapped[str] = mapped_column(String(64), primary_key=True)
    release: Mapped[str] = mapped_column(Word)
    applied: Mapped[datetime] = mapped_column(Moment)


class InvitationRow(Base):
    """A one-time invitation, by its code's hash; kept after use: who invited whom."""

    __tablename__ = "invitations"
    code: Mapped[str] = mapped_column(Hex, primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str | None] = mapped_column(Word)  # null: the first coordinator names itself
    inviter: Mapped[str | None] = mapped_column(Uuid)  # null: whoever set the registry up
    created: Mapped[datetime] = mapped_column(Moment)
    expires: Mapped[datetime] = mapped_column(Moment)
    party: Mapped[str | None] = mapped_column(Uuid)
    used: Mapped[datetime | None] = mapped_column(Moment)


class MemberRow(Base):
    """A party that a coordinator admitted."""

    __tablename__ = "members"
    party: Mapped[str] = mapped_column(Uuid, primary_key=True)
    approver: Mapped[str | None] = mapped_column(Uuid)  # null: the first coordinator
    approved: Mapped[datetime] = mapped_column(Moment)


class TokenRow(Base):
    """A bearer token, by its hash; `software` is the release that its machine says it has."""

    __tablename__ = "tokens"
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    party: Mapped[str] = mapped_column(Uuid, index=True)
    created: Mapped[datetime] = mapped_column(Moment)
    last_seen: Mapped[datetime] = mapped_column(Moment)
    software: Mapped[str | None] = mapped_column(String(40))


class SuspensionRow(Base):
    """A party that the coordinator has shut out for now; unsigned."""

    __tablename__ = "suspensions"
    party: Mapped[str] = mapped_column(Uuid, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    coordinator: Mapped[str] = mapped_column(Uuid)
    created: Mapped[datetime] = mapped_column(Moment)


class TrustRow(Base):
    """Which certificate authorities a party has said that it trusts, by fingerprint."""

    __tablename__ = "trusts"
    party: Mapped[str] = mapped_column(Uuid, primary_key=True)
    ca: Mapped[list[str]] = mapped_column(JSON)
    told: Mapped[datetime] = mapped_column(Moment)


class DatasetRow(Base):
    """A registered dataset; unsigned until an agreement names it."""

    __tablename__ = "datasets"
    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str] = mapped_column(Word)
    owner: Mapped[str] = mapped_column(Uuid, index=True)
    population: Mapped[str] = mapped_column(Uuid)
    schema_hash: Mapped[str] = mapped_column(Hex)
    table: Mapped[bytes] = mapped_column(LargeBinary)  # the schema's canonical bytes
    size: Mapped[int] = mapped_column(BigInteger)
    unit: Mapped[str] = mapped_column(String(16))


class ProposalRow(Base):
    """An agreement that lacks signatures; gone once it is a record."""

    __tablename__ = "proposals"
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    envelope: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[datetime] = mapped_column(Moment)


class ProposalPartyRow(Base):
    """Who a proposal is for."""

    __tablename__ = "proposal_parties"
    proposal: Mapped[str] = mapped_column(
        ForeignKey("proposals.hash", ondelete="CASCADE"), primary_key=True
    )
    party: Mapped[str] = mapped_column(Uuid, primary_key=True, index=True)
    signed: Mapped[bool]


class BlobRow(Base):
    """A blob that was uploaded completely; the bytes are a file."""

    __tablename__ = "blobs"
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    party: Mapped[str] = mapped_column(Uuid)
    created: Mapped[datetime] = mapped_column(Moment)


class LeaseRow(Base):
    """Which aggregator process drives a run; that a row exists means that the run has started."""

    __tablename__ = "leases"
    run: Mapped[str] = mapped_column(Uuid, primary_key=True)
    holder: Mapped[str] = mapped_column(Word)
    fence: Mapped[int] = mapped_column(BigInteger)
    expires: Mapped[datetime] = mapped_column(Moment)
    renewed: Mapped[datetime] = mapped_column(Moment)  # when its holder was last heard
    waiting: Mapped[str | None] = mapped_column(Text)  # for which nodes, by its holder's word
    waiting_since: Mapped[datetime | None] = mapped_column(Moment)


class ClosureRow(Base):
    """The registry's own word that a run is over, for want of a signed result."""

    __tablename__ = "closures"
    run: Mapped[str] = mapped_column(Uuid, primary_key=True)
    state: Mapped[str] = mapped_column(String(20))
    code: Mapped[str] = mapped_column(String(64))
    cause: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(Moment)


class StandingRow(Base):
    """The trouble of a run that its event lines told last."""

    __tablename__ = "standings"
    run: Mapped[str] = mapped_column(Uuid, primary_key=True)
    code: Mapped[str] = mapped_column(String(64))


class PulseRow(Base):
    """One row: when runs were looked after last, and since when without a gap."""

    __tablename__ = "pulse"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    since: Mapped[datetime] = mapped_column(Moment)
    last: Mapped[datetime] = mapped_column(Moment)


class StopRow(Base):
    """The coordinator's unsigned request that a run end."""

    __tablename__ = "stops"
    run: Mapped[str] = mapped_column(Uuid, primary_key=True)
    party: Mapped[str] = mapped_column(Uuid)
    reason: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(Moment)


class EventRow(Base):
    """A line for people who watch a run."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "run", "sequence"),)
    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    run: Mapped[str] = mapped_column(Uuid)
    level: Mapped[str] = mapped_column(String(8))
    message: Mapped[str] = mapped_column(Text)
    party: Mapped[str | None] = mapped_column(Uuid)
    created: Mapped[datetime] = mapped_column(Moment)


PROJECTIONS: tuple[type[Base], ...] = (
    PartnerRow,
    AgreementRow,
    AgreementPartyRow,
    OfferRow,
    RunRow,
    SiteRow,
    RoundRow,
)
