"""What runs may spend, have spent, and how records fail to agree: projections of `records`.

Guarantees: each row is a function of records alone, so all of them can be dropped and replayed.
Mechanisms stand once a run and dataset: the registry takes no spend that has another.
"""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from accord_server.registry.tables import Base, Hex, Moment, Uuid, Word


class TermsRow(Base):
    """A dataset's terms in a fully signed agreement, spelled out to be searched."""

    __tablename__ = "agreement_datasets"
    agreement: Mapped[str] = mapped_column(ForeignKey("agreements.hash"), primary_key=True)
    dataset: Mapped[str] = mapped_column(Uuid, primary_key=True, index=True)
    title: Mapped[str] = mapped_column(Word)  # the agreement's
    name: Mapped[str] = mapped_column(Word)
    owner: Mapped[str] = mapped_column(Uuid, index=True)
    population: Mapped[str] = mapped_column(Uuid, index=True)
    epsilon_cap: Mapped[str] = mapped_column(String(48))
    delta: Mapped[str] = mapped_column(String(48))
    adjacency: Mapped[str] = mapped_column(String(16))
    non_private: Mapped[bool]


class RunBudgetRow(Base):
    """What a run may spend on a dataset (manifest), has spent (receipts), says it has (result).

    `steps` are one attempt's. `told` and `recomputed` are null until there is a result.
    """

    __tablename__ = "run_budgets"
    __table_args__ = (
        Index(None, "dataset", "run"),
        Index(None, "party", "run"),
        Index(None, "agreement", "run"),
        # `tallies.spent_on` reads nothing else; "population" alone would have it look up each row
        Index(
            "ix_run_budgets_spent",
            *("population", "adjacency", "noise_multiplier", "sampling_rate", "attempts", "steps"),
        ),
    )
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    dataset: Mapped[str] = mapped_column(Uuid, primary_key=True)
    party: Mapped[str] = mapped_column(Uuid)
    population: Mapped[str] = mapped_column(Uuid)
    agreement: Mapped[str] = mapped_column(Hex)
    adjacency: Mapped[str] = mapped_column(String(16))
    noise_multiplier: Mapped[str] = mapped_column(String(48))
    sampling_rate: Mapped[str] = mapped_column(String(48))
    steps: Mapped[int] = mapped_column(BigInteger)
    most: Mapped[int] = mapped_column(BigInteger)  # attempts that the manifest allows
    attempts: Mapped[int] = mapped_column(BigInteger)  # charged, by receipts
    told: Mapped[int | None] = mapped_column(BigInteger)  # attempts, by the result
    told_epsilon: Mapped[str | None] = mapped_column(String(48))  # null: unbounded, or no result
    recomputed: Mapped[str | None] = mapped_column(String(48))  # of `told` attempts; null likewise


class SpendRow(Base):
    """One charged attempt, from a node's receipt; `number` counts a run's from 1.

    A receipt that repeats an attempt and its ledger entry has the number of the first: it was
    charged once.
    """

    __tablename__ = "spends"
    __table_args__ = (
        Index(None, "run", "sequence"),
        Index(None, "dataset", "sequence"),
        Index(None, "party", "sequence"),
        Index(None, "party", "entry"),
        Index(None, "run", "party", "round", "attempt"),
    )
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    receipt: Mapped[str] = mapped_column(Hex, unique=True)
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    party: Mapped[str] = mapped_column(Uuid)
    dataset: Mapped[str] = mapped_column(Uuid)
    round: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[int] = mapped_column(BigInteger)
    entry: Mapped[int] = mapped_column(BigInteger)  # its place in the node's ledger


class OwedReceiptRow(Base):
    """An upload that the aggregator signed for, and whose node has posted no receipt."""

    __tablename__ = "owed_receipts"
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    party: Mapped[str] = mapped_column(Uuid, primary_key=True)
    round: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    attempt: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    receipt: Mapped[str] = mapped_column(Hex)  # the aggregator's
    since: Mapped[datetime] = mapped_column(Moment)


class FindingRow(Base):
    """A record that does not agree with others, found when it arrived."""

    __tablename__ = "findings"
    __table_args__ = (
        Index(None, "code", "sequence"),
        Index(None, "run", "sequence"),
        Index(None, "party", "sequence"),
        Index(None, "dataset", "sequence"),
    )
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    code: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text)
    party: Mapped[str | None] = mapped_column(Uuid)
    run: Mapped[str | None] = mapped_column(Uuid)
    dataset: Mapped[str | None] = mapped_column(Uuid)
    agreement: Mapped[str | None] = mapped_column(Hex)
    records: Mapped[list[str]] = mapped_column(JSON)
    since: Mapped[datetime] = mapped_column(Moment)


BUDGETS: tuple[type[Base], ...] = (TermsRow, RunBudgetRow, SpendRow, OwedReceiptRow, FindingRow)
