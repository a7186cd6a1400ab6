"""The registry's settings: one typed object, read once from its folder and the environment."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from accord_common.errors import UsageError
from accord_common.files import replace_file
from accord_common.identity import SigningKey
from accord_server.registry.db import sqlite_url
from accord_server.registry.runs.standing import Patience

SETTINGS = "registry.json"
Seconds = Annotated[int, Field(ge=1, le=366 * 86_400)]


class Settings(BaseSettings):
    """Where the registry keeps its data, and where it listens; ACCORD_REGISTRY_* overrides a field.

    `url` is the address that invitations carry; `certificate`, `key` and `ca` are PEM files. The
    seconds are `runs.standing.Patience`.
    """

    model_config = SettingsConfigDict(env_prefix="ACCORD_REGISTRY_", extra="forbid", frozen=True)

    home: Path
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    url: Annotated[str, StringConstraints(pattern=r"^https://[^/?#]+$", max_length=300)]
    certificate: Path
    key: Path
    ca: Path
    silent_s: Seconds = 60
    consents_s: Seconds = 7 * 86_400
    abandoned_s: Seconds = 86_400

    @property
    def patience(self) -> Patience:
        """How long a run may wait for whom."""
        return Patience(self.silent_s, self.consents_s, self.abandoned_s)

    @property
    def database(self) -> str:
        """SQLAlchemy's address of the database."""
        return sqlite_url(self.home / "registry.db")

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
    """Read a registry's settings.

    Raises:
        UsageError: `no-registry` where the folder holds none, `bad-settings` naming the field.
    """
    try:
        stored = json.loads((home / SETTINGS).read_text(encoding="utf-8"))
        return Settings.model_validate(stored | EnvSettingsSource(Settings)())
    except OSError as error:
        raise UsageError(
            "no-registry",
            f"no registry in {home}: {error.strerror}",
            hint="Make one with `accord registry init`.",
        ) from error
    except (ValidationError, ValueError) as error:
        raise UsageError("bad-settings", f"{home / SETTINGS}: {error}") from error
