"""What the registry's database and files say to Prometheus, read whenever it asks.

Guarantees: nothing is here that a member could not read through the API, but when the database
answers and when it was backed up last; series are those of parties, of datasets and of runs that
are not over. A database that does not answer within 10 s is `accord_registry_database_up` 0, and
what it holds is absent.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import get_args

import structlog
from prometheus_client.core import CounterMetricFamily, Metric
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.schemas import RunState
from accord_common.backoff import Told
from accord_common.enrolment import DELEGATION, Delegation
from accord_common.envelope import Envelope
from accord_common.exposition import Reading, Row, disk_free, expiry, gauge
from accord_common.fields import now, parse_time
from accord_common.manifest import PROTOCOL
from accord_common.privacy.accounting import Tally
from accord_common.privacy.filter import RdpFilter
from accord_server.registry.budgets.repository import Line, lines
from accord_server.registry.budgets.tallies import cap_of
from accord_server.registry.context import Registry
from accord_server.registry.partners.repository import heard
from accord_server.registry.tables import (
    OPEN,
    DatasetRow,
    LeaseRow,
    PartnerRow,
    PulseRow,
    RecordRow,
    RunRow,
)

LAST_BACKUP = "last-backup"  # its file's time is when a backup was last complete
log = structlog.get_logger("accord.registry")

_ANSWER_S = 10.0  # what Prometheus waits for by default


@dataclass(slots=True)
class Found:
    """What one look at the database found."""

    records: int
    states: dict[str, int]
    runs: list[tuple[RunRow, str, datetime | None]]  # with state and the lease's end
    parties: list[tuple[PartnerRow, datetime | None, datetime | None]]  # last seen, key's end
    spends: list[Line]
    names: dict[str, str]  # of datasets
    swept: datetime | None


class Figures:
    """Answers for one registry; `loop` is where its database lives, None before it serves."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._told = Told()
        self.loop: asyncio.AbstractEventLoop | None = None
        registry.metrics.registry.register(Reading(self.read))

    def read(self) -> Iterable[Metric]:
        """Look now, from any thread but the loop's own."""
        settings = self._registry.settings
        info = (version("accord"), str(PROTOCOL))
        yield gauge("accord_registry_info", "This release", [(info, 1.0)], ("version", "protocol"))
        yield disk_free("accord_registry_disk_free_bytes", settings.home)
        yield expiry(
            "accord_registry_certificate_expires_timestamp_seconds",
            [("server", settings.certificate), ("authority", settings.ca)],
        )
        backup = settings.home / LAST_BACKUP
        yield gauge(
            "accord_registry_last_backup_timestamp_seconds",
            "When `accord registry backup` was last complete; absent where it never was",
            [((), backup.stat().st_mtime)] if backup.exists() else [],
        )
        found = self._look()
        up = float(found is not None)
        yield gauge("accord_registry_database_up", "Whether the database answers", [((), up)])
        if found is not None:
            yield from _tell(found, now())

    def _look(self) -> Found | None:
        loop = self.loop
        if loop is None or loop.is_closed():
            return None
        future = asyncio.run_coroutine_threadsafe(self._ask(), loop)
        try:
            found = future.result(_ANSWER_S)
        except Exception as error:  # whatever ails it: here it is a figure
            future.cancel()
            if self._told.news(type(error).__name__):
                log.warning("figures-incomplete", exc_info=error)
            return None
        self._told.news(None)
        return found

    async def _ask(self) -> Found:
        async with self._registry.database.read() as session:
            return await look(session)


async def look(session: AsyncSession) -> Found:
    """Read everything in one transaction."""
    leases = {row.run: row.expires for row in (await session.execute(select(LeaseRow))).scalars()}
    query = select(RunRow.state, func.count()).group_by(RunRow.state)
    states = {state: int(count) for state, count in (await session.execute(query)).all()}
    opened = list((await session.execute(select(RunRow).where(RunRow.state.in_(OPEN)))).scalars())
    runs = [
        (row, "running" if row.state == "ready" and row.id in leases else row.state,
         leases.get(row.id))
        for row in opened
    ]  # fmt: skip
    running = sum(state == "running" for _, state, _ in runs)
    states |= {"running": running, "ready": states.get("ready", 0) - running}
    heads = select(PartnerRow, RecordRow.kind, RecordRow.envelope).outerjoin(
        RecordRow, RecordRow.hash == PartnerRow.delegation
    )
    partners = (await session.execute(heads)).all()
    last = await heard(session, [partner.id for partner, _, _ in partners])
    parties = [
        (partner, last.get(partner.id), _ends(kind, envelope))
        for partner, kind, envelope in partners
    ]
    names = await session.execute(select(DatasetRow.id, DatasetRow.name))
    return Found(
        records=(await session.execute(select(func.count(RecordRow.sequence)))).scalar_one(),
        states=states,
        runs=runs,
        parties=parties,
        spends=[line for line in await lines(session) if line.budget.attempts],
        names={dataset: name for dataset, name in names.all()},
        swept=(await session.execute(select(PulseRow.last))).scalar_one_or_none(),
    )


def _ends(kind: str | None, envelope: bytes | None) -> datetime | None:
    if kind != DELEGATION or envelope is None:  # none, or a revocation
        return None
    payload = Envelope.from_bytes(envelope).payload
    return parse_time(Delegation.from_bytes(payload).valid_until)


def _tell(found: Found, moment: datetime) -> Iterator[Metric]:
    records = CounterMetricFamily("accord_registry_records", "Signed records appended")
    records.add_metric((), found.records)
    yield records
    yield gauge(
        "accord_registry_reconciler_last_run_timestamp_seconds",
        "When the registry last looked after runs that stand still",
        [] if found.swept is None else [((), found.swept.timestamp())],
    )
    counts = [((state,), float(found.states.get(state, 0))) for state in get_args(RunState)]
    yield gauge("accord_registry_runs", "Runs by state", counts, ("state",))
    open_ = [((row.id, state), row) for row, state, _ in found.runs]
    labels = ("run", "state")
    yield gauge(
        "accord_registry_run_changed_timestamp_seconds",
        "When a record last changed a run that is not over",
        [(at, row.updated.timestamp()) for at, row in open_],
        labels,
    )
    yield gauge(
        "accord_registry_run_rounds_completed",
        "Completed rounds of a run that is not over",
        [(at, float(row.round)) for at, row in open_],
        labels,
    )
    yield gauge(
        "accord_registry_run_rounds",
        "Rounds that a run's manifest asks for",
        [(at, float(row.rounds)) for at, row in open_],
        labels,
    )
    yield gauge(
        "accord_registry_run_lease_remaining_seconds",
        "How long an aggregator still has the run; below 0 nobody drives it",
        [
            ((row.id, state), (until - moment).total_seconds())
            for row, state, until in found.runs
            if until is not None
        ],
        labels,
    )
    who = ("party", "name", "role")
    yield gauge(
        "accord_registry_party_last_seen_timestamp_seconds",
        "When a party's daemon or person last asked the registry",
        [(_who(party), seen.timestamp()) for party, seen, _ in found.parties if seen is not None],
        who,
    )
    yield gauge(
        "accord_registry_delegation_expires_timestamp_seconds",
        "When the key under which a party's daemon acts ends",
        [(_who(party), ends.timestamp()) for party, _, ends in found.parties if ends is not None],
        who,
    )
    names = {party.id: party.name for party, _, _ in found.parties}
    yield gauge(
        "accord_registry_budget_left_ratio",
        "What receipts leave of a dataset's epsilon cap, from 1 to 0; its node may know of more",
        _left(found, names),
        ("dataset", "name", "party"),
    )


def _who(party: PartnerRow) -> tuple[str, str, str]:
    return party.id, party.name, party.role


def _left(found: Found, names: dict[str, str]) -> Iterator[Row]:
    """By dataset: all runs together, against the cap of the newest one's agreement."""
    by_dataset: dict[str, list[Line]] = {}
    for line in found.spends:
        by_dataset.setdefault(line.budget.dataset, []).append(line)
    for dataset, spent in by_dataset.items():
        cap = cap_of(spent[-1].terms)
        total = sum((line.spent for line in spent), start=Tally.of([]))
        epsilon = RdpFilter(cap).epsilon(total)
        party = spent[-1].budget.party
        labels = (dataset, found.names.get(dataset, ""), names.get(party, party))
        yield labels, max(0.0, 1.0 - epsilon / float(cap.epsilon)) if float(cap.epsilon) else 0.0
