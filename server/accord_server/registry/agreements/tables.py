"""What parties said alone of an agreement that all signed; their bodies stand in `records`."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from accord_server.registry.tables import Base, Hex


class HaltRow(Base):
    """A withdrawal, a suspension or a resumption, by which its agreement's parties find it."""

    __tablename__ = "agreement_halts"
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    agreement: Mapped[str] = mapped_column(ForeignKey("agreements.hash"), index=True)
