"""The two others a node knows: when the registry was last heard, where a run's aggregator is."""

import time
from pathlib import Path

from accord_client.stores import Stores
from accord_client.wire import Endpoint
from accord_common.errors import TransportError
from accord_common.fields import format_time, now
from accord_common.manifest import RunManifest

REGISTRY_GRACE_S = 900.0
REGISTRY_SEEN = "registry-seen"

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


def endpoint_of(manifest: RunManifest, ca_path: Path) -> Endpoint:
    """Where the manifest says the aggregator is, and how it is recognised."""
    host, _, port = manifest.aggregator.address.rpartition(":")
    return Endpoint(host, int(port), ca_path.read_bytes(), manifest.aggregator.tls_spki)
