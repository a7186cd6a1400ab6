"""What a node tells its own institution's monitoring, as Prometheus' text: nothing listens here.

Guarantees: it holds what the steward sees in `accord-node status` and `budget`; what was spent and
is left of each cap stays in the institution, which alone reads the file and the gateway.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from accord_client.balances import Balance, balances
from accord_client.contact import REGISTRY_SEEN
from accord_client.reconciling import behind
from accord_client.stores import Stores
from accord_common.api.schemas import FINAL_STATES
from accord_common.enrolment import Delegation
from accord_common.errors import AccordError
from accord_common.exposition import Reading, disk_free, expiry, gauge
from accord_common.fields import now, parse_time
from accord_common.manifest import PROTOCOL

OWN_CAP = "own"  # the label of the steward's own cap, where others have their agreement's hash


def render(stores: Stores, links: Mapping[str, bool]) -> bytes:
    """Write all of it.

    Args:
        stores: the node's open folder.
        links: run that is served -> whether its aggregator sees this node now.
    """
    registry = CollectorRegistry()
    registry.register(Reading(lambda: _read(stores, links)))
    return generate_latest(registry)


def _read(stores: Stores, links: Mapping[str, bool]) -> Iterable[Metric]:
    yield gauge(
        "accord_node_info",
        "This release",
        [((version("accord"), str(PROTOCOL)), 1.0)],
        ("version", "protocol"),
    )
    yield gauge(
        "accord_node_written_timestamp_seconds",
        "When these figures were written; a daemon that is dead writes none",
        [((), now().timestamp())],
    )
    seen = stores.state.moment(REGISTRY_SEEN)
    yield gauge(
        "accord_node_registry_heard_timestamp_seconds",
        "When the registry last answered",
        [] if seen is None else [((), seen.timestamp())],
    )
    yield gauge(
        "accord_node_records_queued",
        "Records that wait to be posted",
        [((), float(stores.state.queued()))],
    )
    yield gauge(
        "accord_node_ledger_frozen",
        "Whether nothing is charged until the steward has reconciled the ledger",
        [((), float(behind(stores) is not None))],
    )
    yield from _runs(stores, links)
    yield from _budgets(balances(stores, stores.datasets.all()))
    yield from _files(stores)


def _runs(stores: Stores, links: Mapping[str, bool]) -> Iterator[Metric]:
    open_ = [run for run in stores.state.runs() if run.state not in FINAL_STATES]
    waiting = sum(run.decision == "ask" and run.state == "awaiting-consent" for run in open_)
    yield gauge(
        "accord_node_runs_waiting_for_steward",
        "Runs that a person must approve or refuse",
        [((), float(waiting))],
    )
    yield gauge(
        "accord_node_aggregator_connected",
        "Whether the aggregator of a run that is served sees this node",
        [((run,), float(connected)) for run, connected in links.items()],
        ("run",),
    )
    yield gauge(
        "accord_node_run_round",
        "The newest round that was begun here, from 1; 0 before the first",
        [((run.id,), run.round + 1.0) for run in open_],
        ("run",),
    )
    yield gauge(
        "accord_node_run_refused",
        "Whether this node refuses a run since a round: accord-node status says why",
        [((run.id,), float(run.refused_round is not None)) for run in open_],
        ("run",),
    )


def _budgets(found: list[Balance]) -> Iterator[Metric]:
    labels = ("dataset", "agreement")
    at = [((one.dataset.name, one.agreement or OWN_CAP), one) for one in found]
    yield gauge(
        "accord_node_budget_cap_epsilon",
        "What a dataset's people may cost",
        [(where, float(one.rule.cap.epsilon)) for where, one in at],
        labels,
    )
    yield gauge(
        "accord_node_budget_spent_epsilon",
        "What was charged to them, in all runs and populations that overlap",
        [(where, one.spent) for where, one in at],
        labels,
    )
    yield gauge(
        "accord_node_budget_reserved_epsilon",
        "What accepted runs may still charge to them",
        [(where, one.reserved) for where, one in at],
        labels,
    )
    yield gauge(
        "accord_node_budget_left_epsilon",
        "What the cap leaves to further runs",
        [(where, one.left) for where, one in at],
        labels,
    )


def _files(stores: Stores) -> Iterator[Metric]:
    home = stores.home
    yield disk_free("accord_node_disk_free_bytes", home.path)
    yield expiry("accord_node_certificate_expires_timestamp_seconds", [("authority", home.ca_path)])
    try:
        ends = parse_time(Delegation.from_bytes(home.delegation().payload).valid_until).timestamp()
    except AccordError:  # not joined yet
        return
    yield gauge(
        "accord_node_delegation_expires_timestamp_seconds",
        "When the key under which this node acts ends",
        [((), ends)],
    )
