"""What the aggregator tells Prometheus, read whenever it asks: `progress`, queues, files, traffic.

Guarantees: labels are the active run, its roster's parties, runs whose records still wait for the
registry, and fixed words; a run's series are gone when it ends.
"""

import math
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, Metric

from accord_common.enrolment import Delegation
from accord_common.errors import AccordError
from accord_common.exposition import Reading, disk_free, expiry, gauge
from accord_common.fields import parse_time
from accord_common.manifest import PROTOCOL
from accord_server.aggregator.listener import Listener
from accord_server.aggregator.progress import Progress
from accord_server.aggregator.service import Service


def watch(service: Service, listener: Listener, certificate: Path) -> None:
    """Have the service's `progress.registry` show all of this from now on."""

    def read() -> Iterable[Metric]:
        yield gauge(
            "accord_aggregator_info",
            "This release",
            [((version("accord"), str(PROTOCOL)), 1.0)],
            ("version", "protocol"),
        )
        control = service.control
        yield from _run(service.progress, control.lease_until - control.clock())
        yield from _registry(service)
        yield from _files(service, certificate)
        yield _bytes("received", "from", listener.received_bytes)
        yield _bytes("sent", "to", listener.sent_bytes)

    service.progress.registry.register(Reading(read))


def _run(progress: Progress, lease_s: float) -> Iterator[Metric]:
    driven = progress.driven
    here = frozenset() if driven is None else driven.connected()
    run = [] if driven is None else [(driven.run,)]
    active = 0.0 if driven is None else 1.0
    yield gauge("accord_aggregator_active", "Whether a run is driven now", [((), active)])

    def one(name: str, what: str, value: float) -> Metric:
        return gauge(f"accord_aggregator_run_{name}", what, [(at, value) for at in run], ("run",))

    yield one("round", "The current round, from 1", progress.round + 1.0)
    rounds = 0.0 if driven is None else float(driven.rounds)
    yield one("rounds", "Rounds that the manifest asks for", rounds)
    yield one("attempt", "The current round's attempt, from 1", progress.attempt + 1.0)
    yield gauge(
        "accord_aggregator_run_stage_since_timestamp_seconds",
        "When the current stage began",
        [((*at, progress.stage), progress.since) for at in run],
        ("run", "stage"),
    )
    allowed = {} if driven is None else driven.allowed_s
    yield gauge(
        "accord_aggregator_run_stage_allowed_seconds",
        "What the manifest's deadlines allow the current stage",
        [((*at, progress.stage), allowed.get(progress.stage, 0.0)) for at in run],
        ("run", "stage"),
    )
    lease = lease_s if math.isfinite(lease_s) else 0.0
    yield one("lease_remaining_seconds", "How long the registry's lease still holds", lease)
    names = {} if driven is None else driven.names
    yield one("nodes_expected", "Nodes in the roster", float(len(names)))
    yield one("nodes_connected", "Nodes that are connected", float(len(here & names.keys())))
    yield gauge(
        "accord_aggregator_node_connected",
        "Whether a node of the roster is connected",
        [((*at, party, name), float(party in here)) for at in run for party, name in names.items()],
        ("run", "party", "name"),
    )


def _registry(service: Service) -> Iterator[Metric]:
    heard = service.progress.heard
    yield gauge(
        "accord_aggregator_registry_heard_timestamp_seconds",
        "When the registry last answered",
        [] if heard is None else [((), heard)],
    )
    folders = list(service.folders.items())  # a copy: runs come and go meanwhile
    yield gauge(
        "accord_aggregator_registry_queue_records",
        "Records and lines of a run that wait for the registry",
        [((run,), float(folder.journal.waiting())) for run, folder in folders],
        ("run",),
    )


def _files(service: Service, certificate: Path) -> Iterator[Metric]:
    home = service.home
    yield disk_free("accord_aggregator_disk_free_bytes", home.path)
    yield expiry(
        "accord_aggregator_certificate_expires_timestamp_seconds",
        [("server", certificate), ("authority", home.ca_path)],
    )
    try:
        ends = parse_time(Delegation.from_bytes(home.delegation().payload).valid_until).timestamp()
    except AccordError:
        return
    yield gauge(
        "accord_aggregator_delegation_expires_timestamp_seconds",
        "When the key under which the aggregator acts ends",
        [((), ends)],
    )


def _bytes(verb: str, preposition: str, count: int) -> Metric:
    what = f"Bytes of bodies {verb} {preposition} nodes"
    family = CounterMetricFamily(f"accord_aggregator_{verb}_bytes", what)
    family.add_metric((), float(count))
    return family
