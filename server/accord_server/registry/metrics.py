"""What the registry tells Prometheus of its requests; `figures` reads the rest when asked.

Guarantees: labels are a route's template, a known method and a status, never a path, a query or
anything that a caller chose.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import Scope

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Most answers take milliseconds, long polls 30 s, a blob of 512 MiB minutes.
_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 35.0, 120.0)


class Metrics:
    """One registry's instruments; `registry` is what is exposed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "accord_registry_requests",
            "Requests answered",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "accord_registry_request_seconds",
            "How long answers took; polls of inbox and events wait up to 30 s",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        # FastAPI's routing puts the route there; what matched none has no template.
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
