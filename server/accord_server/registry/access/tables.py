"""Tables of persons: operational, none of them evidence. No secret is in them in clear.

Passwords are argon2 strings; session ids, tokens and one-time codes are SHA-256 of 256 random bits,
recovery codes of 80; a second factor's secret is sealed by a key that the database has not.
"""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from accord_server.registry.tables import Base, Hex, Moment, Uuid, Word


class PersonRow(Base):
    """An account; without a password nobody signs in with one."""

    __tablename__ = "people"
    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    party: Mapped[str] = mapped_column(Uuid, index=True)
    login: Mapped[str] = mapped_column(Word, unique=True)
    name: Mapped[str] = mapped_column(Word)
    role: Mapped[str] = mapped_column(String(16))
    disabled: Mapped[bool]
    password: Mapped[str | None] = mapped_column(String(200))
    password_changed: Mapped[datetime] = mapped_column(Moment)  # devices known before are strangers
    totp: Mapped[bytes | None] = mapped_column(LargeBinary)  # sealed
    totp_on: Mapped[bool]  # a code of it has come
    totp_step: Mapped[int] = mapped_column(BigInteger)  # the last one that signed in
    created: Mapped[datetime] = mapped_column(Moment)


class PersonCodeRow(Base):
    """A one-time code of an invitation or a reset, by its hash; gone once it is used."""

    __tablename__ = "person_codes"
    code: Mapped[str] = mapped_column(Hex, primary_key=True)
    person: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    expires: Mapped[datetime] = mapped_column(Moment)


class RecoveryCodeRow(Base):
    """A code that stands in for the second factor once, by its hash; gone once it is used."""

    __tablename__ = "recovery_codes"
    code: Mapped[str] = mapped_column(Hex, primary_key=True)
    person: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)


class SessionRow(Base):
    """A browser that is signed in, by its cookie's hash; `id` names it to its owner."""

    __tablename__ = "sessions"
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    id: Mapped[str] = mapped_column(Uuid, unique=True)
    person: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    ready: Mapped[bool]  # false: the second factor is still to be set up, or given
    address: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str] = mapped_column(String(200))
    created: Mapped[datetime] = mapped_column(Moment)
    seen: Mapped[datetime] = mapped_column(Moment)


class PersonTokenRow(Base):
    """A person's token, by its hash."""

    __tablename__ = "person_tokens"
    hash: Mapped[str] = mapped_column(Hex, primary_key=True)
    id: Mapped[str] = mapped_column(Uuid, unique=True)
    person: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    name: Mapped[str] = mapped_column(Word)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(Moment)
    expires: Mapped[datetime] = mapped_column(Moment)
    last_used: Mapped[datetime | None] = mapped_column(Moment)


class IdentityRow(Base):
    """Whose account at which OpenID provider stands for a person."""

    __tablename__ = "oidc_identities"
    issuer: Mapped[str] = mapped_column(String(300), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    person: Mapped[str] = mapped_column(ForeignKey("people.id"), unique=True)


class OidcStateRow(Base):
    """A browser that went to the provider, by the hash of the state it took along; used once."""

    __tablename__ = "oidc_states"
    state: Mapped[str] = mapped_column(Hex, primary_key=True)
    browser: Mapped[str] = mapped_column(Hex)  # hash of the cookie of whoever began
    nonce: Mapped[str] = mapped_column(Hex)
    verifier: Mapped[str] = mapped_column(String(128))  # of PKCE: worthless without the browser
    person: Mapped[str | None] = mapped_column(ForeignKey("people.id"))  # whom it is to be linked
    code: Mapped[str | None] = mapped_column(Hex)  # the invitation's, used up at the end
    expires: Mapped[datetime] = mapped_column(Moment)


class AttemptRow(Base):
    """Failures to sign in of an account, an address or a device, by a hash of which."""

    __tablename__ = "attempts"
    key: Mapped[str] = mapped_column(Hex, primary_key=True)
    failures: Mapped[int] = mapped_column(BigInteger)
    last: Mapped[datetime] = mapped_column(Moment, index=True)
    until: Mapped[datetime] = mapped_column(Moment)  # nothing is tried before


class AccessEventRow(Base):
    """What happened to who gets in; lines are only added."""

    __tablename__ = "access_events"
    __table_args__ = (Index(None, "party", "sequence"),)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(64))
    party: Mapped[str | None] = mapped_column(Uuid)
    person: Mapped[str | None] = mapped_column(Uuid)
    actor: Mapped[str | None] = mapped_column(Uuid)
    address: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(Moment)
