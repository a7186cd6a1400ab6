"""Announcements, comments, and notices that wait to be sent: operational, none of it is signed."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from accord_server.registry.tables import Base, Moment, Uuid, Word


class AnnouncementRow(Base):
    """What the coordinator tells every member."""

    __tablename__ = "announcements"
    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    person: Mapped[str | None] = mapped_column(Uuid)  # null: the coordinator's machine
    party: Mapped[str] = mapped_column(Uuid)
    title: Mapped[str] = mapped_column(Word)
    body: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(Moment)


class CommentRow(Base):
    """What somebody says about a run or an agreement; `subject` is its id or hash."""

    __tablename__ = "comments"
    __table_args__ = (Index(None, "subject", "id"), Index(None, "person", "created"))
    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    subject: Mapped[str] = mapped_column(String(64))
    person: Mapped[str] = mapped_column(Uuid)
    party: Mapped[str] = mapped_column(Uuid)
    body: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(Moment)


class NoticeRow(Base):
    """A notice to one of the operator's places; gone once that has taken it.

    `due` is null where it was given up.
    """

    __tablename__ = "notices"
    __table_args__ = (Index(None, "due"),)
    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    place: Mapped[str] = mapped_column(Word)
    kind: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    attempts: Mapped[int] = mapped_column(BigInteger)
    error: Mapped[str] = mapped_column(String(200))
    created: Mapped[datetime] = mapped_column(Moment)
    due: Mapped[datetime | None] = mapped_column(Moment)


class NoticedRow(Base):
    """One row: up to which record notices have been written."""

    __tablename__ = "noticed"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(BigInteger)
