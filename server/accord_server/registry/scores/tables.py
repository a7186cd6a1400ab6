"""Metrics by round: operational, the coordinator's unsigned word."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from accord_server.registry.tables import Base, Hex, Moment, Uuid


class ScoreRow(Base):
    """A completed round's metrics; `round` counts from 0."""

    __tablename__ = "scores"
    run: Mapped[str] = mapped_column(Uuid, primary_key=True)
    round: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    model: Mapped[str] = mapped_column(Hex)
    holdout: Mapped[str] = mapped_column(Hex)
    rows: Mapped[int] = mapped_column(BigInteger)
    metrics: Mapped[dict[str, str]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(Moment)
