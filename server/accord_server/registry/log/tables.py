"""What the log keeps beside `records`: hashes of complete subtrees, and signed checkpoints."""

from datetime import datetime

from sqlalchemy import BigInteger, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from accord_server.registry.tables import Base, Hex, Moment


class LogNodeRow(Base):
    """A complete subtree above the leaves, from `records` alone; `level` 1 is two leaves."""

    __tablename__ = "log_nodes"
    level: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[str] = mapped_column(Hex)


class CheckpointRow(Base):
    """A checkpoint that was signed, one a size; operational: it counts where others hold it."""

    __tablename__ = "checkpoints"
    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    envelope: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[datetime] = mapped_column(Moment)
