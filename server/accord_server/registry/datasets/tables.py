"""The catalogue, from signed entries and profiles; their bodies stand in `records`."""

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from accord_server.registry.tables import Base, Hex, Uuid, Word


class EntryRow(Base):
    """A version of a dataset's catalogue entry."""

    __tablename__ = "dataset_entries"
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    dataset: Mapped[str] = mapped_column(Uuid, index=True)
    party: Mapped[str] = mapped_column(Uuid)
    version: Mapped[int] = mapped_column(BigInteger)
    newest: Mapped[bool]


class WordRow(Base):
    """What the newest entry of a dataset is found by: its columns' names and its DUO codes."""

    __tablename__ = "dataset_words"
    __table_args__ = (Index(None, "kind", "word", "dataset"),)
    dataset: Mapped[str] = mapped_column(Uuid, primary_key=True)
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)  # column | duo
    word: Mapped[str] = mapped_column(Word, primary_key=True)


class ProfileRow(Base):
    """A profile that was released under an agreement, whose parties may read it."""

    __tablename__ = "dataset_profiles"
    __table_args__ = (Index(None, "dataset", "agreement"),)
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    dataset: Mapped[str] = mapped_column(Uuid)
    party: Mapped[str] = mapped_column(Uuid)
    agreement: Mapped[str] = mapped_column(ForeignKey("agreements.hash"), index=True)
    entry: Mapped[str] = mapped_column(ForeignKey("dataset_entries.hash"))
    newest: Mapped[bool]


CATALOGUE: tuple[type[Base], ...] = (EntryRow, WordRow, ProfileRow)
