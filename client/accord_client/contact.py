"""The two others a node knows: when the registry was last heard, where a run's aggregator is.

What keeps the node from an aggregator is written down too, for whoever asks `accord-node status`.
"""

import json
import time
from typing import TypedDict

from accord_client.stores import Stores
from accord_client.wire import Endpoint
from accord_common.errors import TransportError
from accord_common.fields import format_time, now
from accord_common.home import Home
from accord_common.manifest import RunManifest

REGISTRY_GRACE_S = 900.0
REGISTRY_SEEN = "registry-seen"

_TROUBLE = "aggregator-trouble-"  # and the run
_SEEN_EVERY_S = 30.0  # how often the time of the last contact is written down


class RegistryContact:
    """When the registry was last heard; remembered over restarts."""

    def __init__(self, stores: Stores, grace_s: float) -> None:
        self._stores = stores
        self._grace_s = grace_s
        seen = stores.state.moment(REGISTRY_SEEN)
        age_s = 0.0 if seen is None else max(0.0, (now() - seen).total_seconds())
        self._heard = time.monotonic() - age_s
        self._written = float("-inf")

    def heard(self) -> bool:
        """Note that the registry answered; say whether runs were suspended until now."""
        suspended = time.monotonic() - self._heard > self._grace_s
        self._heard = time.monotonic()
        if self._heard - self._written >= _SEEN_EVERY_S:
            self._written = self._heard
            self._stores.state.put(REGISTRY_SEEN, format_time(now()))
        return suspended

    def check(self) -> None:
        """Raise TransportError `registry-outage` when the grace is over."""
        silent_s = time.monotonic() - self._heard
        if silent_s > self._grace_s:
            raise TransportError(
                "registry-outage",
                f"the registry has not answered this node for {silent_s:.0f} s, the bound is "
                f"{self._grace_s:.0f} s",
                hint="The node goes on by itself when the registry answers again.",
            )


class Trouble(TypedDict):
    """What keeps this node from a run's aggregator, and since when."""

    since: str
    code: str
    message: str
    hint: str


def note_trouble(stores: Stores, run: str, error: TransportError) -> None:
    """Write down what keeps this node from a run's aggregator."""
    trouble = Trouble(
        since=format_time(now()), code=error.code, message=error.message, hint=error.hint
    )
    stores.state.put(_TROUBLE + run, json.dumps(trouble))


def forget_trouble(stores: Stores, run: str) -> None:
    """The aggregator has been heard."""
    if trouble_of(stores, run) is not None:
        stores.state.put(_TROUBLE + run, "")


def trouble_of(stores: Stores, run: str) -> Trouble | None:
    """What keeps this node from a run's aggregator; None where nothing does."""
    noted = stores.state.get(_TROUBLE + run)
    if not noted:
        return None
    trouble: Trouble = json.loads(noted)
    return trouble


def endpoint_of(manifest: RunManifest, home: Home) -> Endpoint:
    """Where the manifest says the aggregator is, how it is recognised, and the way to it."""
    host, _, number = manifest.aggregator.address.rpartition(":")
    port, proxy = int(number), home.network().route(host, int(number))
    return Endpoint(host, port, home.ca_path.read_bytes(), manifest.aggregator.tls_spki, proxy)
