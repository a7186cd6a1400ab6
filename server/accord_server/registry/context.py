"""What every request works with: the database, who waits, the blobs, the settings."""

from collections import Counter
from dataclasses import dataclass, field

from fastapi import Request

from accord_common.identity import SigningKey
from accord_server.registry.access.rates import Rates
from accord_server.registry.changes import Changes
from accord_server.registry.db import Database
from accord_server.registry.log.watch import LogWatch
from accord_server.registry.metrics import Metrics
from accord_server.registry.oidc.provider import Provider
from accord_server.registry.records.lookup import RunCache
from accord_server.registry.settings import Settings
from accord_server.registry.turns import Turns


@dataclass(frozen=True, slots=True)
class Registry:
    """One registry's parts."""

    settings: Settings
    database: Database
    changes: Changes
    runs: RunCache
    log_key: SigningKey
    turns: Turns
    callers: Rates  # by credential
    strangers: Rates  # by address: who has no valid one
    watch: LogWatch
    provider: Provider | None = None  # that people may sign in with
    metrics: Metrics = field(default_factory=Metrics)
    listening: Counter[str] = field(default_factory=Counter)  # `/live` streams by person

    @property
    def ca_pem(self) -> bytes:
        """The authorities that parties get: one, or a bundle while it is exchanged."""
        return self.settings.ca.read_bytes()


async def registry(request: Request) -> Registry:
    """The registry that serves this request (a dependency: plain functions would get a thread)."""
    found = request.app.state.registry
    assert isinstance(found, Registry)
    return found
