"""Where the operator wants notices to go; part of `registry.json`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from accord_common.fields import Slug

NoticeKind = Literal[
    "announcement",
    "agreement-proposed",
    "agreement-in-force",
    "agreement-withdrawn",
    "agreement-suspended",
    "agreement-resumed",
    "key-revoked",
    "run-proposed",
    "run-refused",
    "run-ended",
]
Address = Annotated[str, StringConstraints(pattern=r"^[^\s@<>,;:]+@[^\s@<>,;:]+$", max_length=254)]


class Webhook(BaseModel):
    """An address that takes notices as signed JSON.

    Attributes:
        name: what the operator calls it.
        url: https, as it is; a redirect is no delivery.
        secret: file of the shared secret, mode 0600: `whsec_` and base64, or any text.
        kinds: which notices; all where there is none.
        ca: PEM of the authorities of its certificate; the system's where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Slug
    url: Annotated[str, StringConstraints(pattern=r"^https://[^\s@#]+$", max_length=500)]
    secret: Path
    kinds: tuple[NoticeKind, ...] = ()
    ca: Path | None = None


class Mail(BaseModel):
    """The mail server that takes notices, over TLS alone.

    Attributes:
        security: `starttls` (port 587) or `tls` from the first byte (port 465; RFC 8314).
        username: with `password`, a file of mode 0600; none where the server asks for none.
        recipients: whom the operator wants told.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.\-:\[\]]+$", max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls"] = "starttls"
    sender: Address
    recipients: Annotated[tuple[Address, ...], Field(min_length=1, max_length=50)]
    username: str | None = None
    password: Path | None = None
    kinds: tuple[NoticeKind, ...] = ()
    ca: Path | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("a username comes with a password's file, and only then")
        return self
