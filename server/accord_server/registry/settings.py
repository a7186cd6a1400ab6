"""The registry's settings: one typed object, read once from its folder and the environment."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from accord_common.api.access_schemas import PersonRole
from accord_common.errors import UsageError
from accord_common.fields import Name
from accord_common.files import replace_file
from accord_common.identity import SigningKey
from accord_server.registry.db import Database
from accord_server.registry.engines import Bounds, check_url, sqlite_url
from accord_server.registry.notices.settings import Mail, Webhook
from accord_server.registry.runs.standing import Patience

SETTINGS = "registry.json"
Seconds = Annotated[int, Field(ge=1, le=366 * 86_400)]


class Oidc(BaseModel):
    """The OpenID provider that people may sign in with.

    Attributes:
        name: what people call it.
        issuer: its address, exactly as its tokens have it.
        client_id: the registry's name there; its redirect address is `URL/v1/oidc/callback`.
        client_secret: file that holds the secret it gave, mode 0600.
        ca: PEM of the authorities of its certificate; the system's where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    issuer: Annotated[str, StringConstraints(pattern=r"^https://[^?#]+$", max_length=300)]
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    client_secret: Path
    ca: Path | None = None


class Settings(BaseSettings):
    """Where the registry keeps its data, and where it listens; ACCORD_REGISTRY_* overrides a field.

    `url` is the address that invitations carry; `certificate`, `key` and `ca` are PEM files.
    `database_url` is PostgreSQL's address; empty is a file in `home`. Of the seconds,
    `runs.standing.Patience` holds what a run may wait for. Each credential has its
    `requests_per_minute`, each address its `attempts_per_minute` without a valid one; 0 is no
    bound. `second_factor` names the roles of persons that may not do without one. Notices go to
    `webhooks` and by `mail`, and nowhere else.
    """

    model_config = SettingsConfigDict(
        env_prefix="ACCORD_REGISTRY_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    home: Path
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    url: Annotated[str, StringConstraints(pattern=r"^https://[^/?#]+$", max_length=300)]
    certificate: Path
    key: Path
    ca: Path
    database_url: str = ""
    database_connections: Annotated[int, Field(ge=1, le=100)] = 10
    database_statement_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30
    database_lock_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10
    silent_s: Seconds = 60
    consents_s: Seconds = 7 * 86_400
    abandoned_s: Seconds = 86_400
    requests_per_minute: Annotated[int, Field(ge=0, le=10**9)] = 30_000
    attempts_per_minute: Annotated[int, Field(ge=0, le=10**9)] = 300
    second_factor: tuple[PersonRole, ...] = ()
    oidc: Oidc | None = None
    webhooks: Annotated[tuple[Webhook, ...], Field(max_length=20)] = ()
    mail: Mail | None = None

    @field_validator("database_url")
    @classmethod
    def _without_password(cls, value: str) -> str:
        return check_url(value) if value else value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [hook.name for hook in self.webhooks]
        if len(set(names)) < len(names) or "mail" in names:
            raise ValueError("webhooks need names of their own, and none is called mail")
        return self

    @property
    def patience(self) -> Patience:
        """How long a run may wait for whom."""
        return Patience(self.silent_s, self.consents_s, self.abandoned_s)

    @property
    def database(self) -> str:
        """The database's address; it holds no password."""
        return self.database_url or sqlite_url(self.home / "registry.db")

    def open_database(self) -> Database:
        """The database, within the bounds that serving needs."""
        bounds = Bounds(
            self.database_connections,
            self.database_statement_timeout_s,
            self.database_lock_timeout_s,
        )
        return Database(self.database, bounds)

    def open_patiently(self) -> Database:
        """The database for one long piece of work: statements take what they need."""
        return Database(self.database, Bounds(2, 0, self.database_lock_timeout_s))

    @property
    def blobs(self) -> Path:
        """Folder of the blobs."""
        return self.home / "blobs"

    @property
    def log_key(self) -> Path:
        """The log's signing key, mode 0600."""
        return self.home / "log.pem"

    def read_log_key(self) -> SigningKey:
        """Read the log's signing key."""
        return SigningKey.from_pem(self.log_key.read_bytes())

    def save(self) -> None:
        """Write the settings into the folder."""
        replace_file(self.home / SETTINGS, self.model_dump_json(indent=2).encode() + b"\n")


def load(home: Path) -> Settings:
    """Read a registry's settings; a folder that was copied or moved is itself, not where it was.

    Raises:
        UsageError: `no-registry` where the folder holds none, `bad-settings` naming the field.
    """
    try:
        stored = json.loads((home / SETTINGS).read_text(encoding="utf-8"))
        return overridden(stored, home=home)
    except OSError as error:
        raise UsageError(
            "no-registry",
            f"no registry in {home}: {error.strerror}",
            hint="Make one with `accord registry init`.",
        ) from error
    except (ValidationError, ValueError) as error:
        raise UsageError("bad-settings", f"{home / SETTINGS}: {error}") from error


def overridden(stored: Mapping[str, Any], **given: Any) -> Settings:
    """Return `stored` settings, the environment's instead where it has some, and what is given."""
    return Settings.model_validate({**stored, **EnvSettingsSource(Settings)(), **given})
