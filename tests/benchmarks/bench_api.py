"""The registry's API with 10^6 rounds and 10^5 ledger entries stored, its process on one core.

`api-read`: pages of 100 rounds at random places of random runs, a second, against a bare FastAPI +
SQLAlchemy route that answers the same bytes from the same database; both are asked in turns of a
second, so that what else the machine does hits both. `api-append`: receipts a second, verified,
appended with the disk's word (fsync), and projected. `api-lists`: see `api_lists`. PostgreSQL's
rows say so.
"""

import asyncio
import http.client
import json
import os
import random
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from accord_common.envelope import Envelope
from accord_common.fields import now
from accord_common.tls import trusting
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry.db import Database
from accord_server.registry.settings import Settings
from accord_server.registry.setup import initialise
from tests.benchmarks.api_data import ROUNDS, Stored, fill
from tests.benchmarks.api_lists import cpu_of, measure
from tests.benchmarks.row import Row
from tests.postgres import Postgres
from tests.server.registry.stack import Stack, draft, free_port, opened, run_id, settings_in
from tests.world import make_world

TURNS, TURN_S = 12, 1.0
APPENDS = 1200  # receipts of three nodes, in three chains
PAGE = 100
_CONNECTIONS = 3
_REGISTRY = "from accord_server.cli import main; main()"


@dataclass
class Taken:
    """How long answers took, and how many came in how long."""

    latencies_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        ranked = sorted(self.latencies_s)
        return round(1000 * ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))], 2)


Ask = Callable[[http.client.HTTPSConnection], None]


def run() -> Iterator[Row]:
    """Yield `api-lists`, `api-read` and `api-append` on SQLite, then on PostgreSQL."""
    yield from _measure("", "")
    server = Postgres()
    try:
        for setting in ("fsync", "full_page_writes"):
            server.run(f"ALTER SYSTEM RESET {setting}")
        server.run("SELECT pg_reload_conf()")
        with server.database() as name:
            yield from _measure("-postgresql", server.url(name))
    finally:
        server.close()


def _measure(suffix: str, url: str) -> Iterator[Row]:
    folder = Path(tempfile.mkdtemp(prefix="accord-bench-"))
    try:
        settings, tokens, stored, receipts = _prepare(folder, url)
        with _serving(settings) as (port, bare, process):
            headers = {"Authorization": f"Bearer {tokens['coordinator']}"}
            connection = _connect(settings, port)
            yield measure(f"api-lists{suffix}", stored, tokens, connection, _page, process)
            yield _reads(f"api-read{suffix}", settings, stored, headers, (port, bare))
            yield _appends(f"api-append{suffix}", settings, receipts, port, process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(
    folder: Path, url: str
) -> tuple[Settings, dict[str, str], Stored, list[tuple[str, list[Envelope]]]]:
    """A registry with everything stored, an open run, and receipts that may follow."""
    create_ca(folder, "Bench CA", now())
    issue(folder, ["127.0.0.1"], folder / "server.pem", folder / "server.key", now())
    settings = settings_in(folder / "registry", folder, free_port(), url)
    invitation = asyncio.run(initialise(settings)).text
    world = make_world(log_key=settings.read_log_key())
    with opened(settings, invitation, world) as stack:
        stack.join_all()
        for actor in world.hospitals:
            stack.client(actor).register_dataset(draft(actor))
        stack.sign_agreement()
        tokens = {
            "coordinator": stack.tokens[world.coordinator.id],
            "data holder": stack.tokens[world.hospitals[0].id],
        }
        receipts = _open_run(stack)

    async def work() -> Stored:
        database = Database(settings.database)
        try:
            return await fill(database, world, receipts[0][1][0].to_bytes())
        finally:
            await database.close()

    stored = asyncio.run(work())
    return settings, tokens, stored, receipts


def _open_run(stack: Stack) -> list[tuple[str, list[Envelope]]]:
    """Start a run of many rounds; return each node's token and the receipts that it will post."""
    world, keys = stack.world, stack.offer()
    each = APPENDS // len(world.hospitals)
    sites = [
        {
            "party": actor.id,
            "dataset": actor.dataset,
            "delegation": world.delegations[actor.id].hash,
            "weight": 200,
            "sampling_rate": "0.01",
            "noise_multiplier": "20",
        }
        for actor in sorted(world.hospitals, key=lambda actor: actor.id)
    ]
    manifest = stack.start(keys, rounds=each, max_attempts_total=each, roster=sites)
    heads = stack.accept(manifest)
    stack.client(world.aggregator).lease(run_id(stack, manifest), "aggregator-1", 3600)
    found = []
    for actor in world.hospitals:
        chain, head = [], heads[actor.id]
        for round_ in range(each):
            chain.append(world.node_receipt(actor, manifest, head, round_))
            head = chain[-1].hash
        found.append((stack.tokens[actor.id], chain))
    return found


@contextmanager
def _serving(settings: Settings) -> Iterator[tuple[int, int, psutil.Process]]:
    """The registry and the bare application, each pinned to core 0; this process to the others."""
    cores = os.sched_getaffinity(0)
    first, rest = {min(cores)}, cores - {min(cores)} or cores
    bare = free_port()
    home = str(settings.home)
    commands = (
        [sys.executable, "-c", _REGISTRY, "registry", "start", "--home", home],
        [sys.executable, "-m", "tests.benchmarks.api_server", home, str(bare)],
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = []
    try:
        os.sched_setaffinity(0, first)  # which they inherit
        for command in commands:
            processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
        os.sched_setaffinity(0, rest)
        for port in (settings.port, bare):
            _await(settings, port)
        yield settings.port, bare, psutil.Process(processes[0].pid)
    finally:
        os.sched_setaffinity(0, cores)
        for process in processes:
            process.terminate()
            process.wait(30)


def _await(settings: Settings, port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            connection = _connect(settings, port)
            connection.request("GET", "/livez")
            connection.getresponse().read()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _reads(
    name: str, settings: Settings, stored: Stored, headers: dict[str, str], ports: tuple[int, int]
) -> Row:
    draw = random.Random(1)

    def page(connection: http.client.HTTPSConnection) -> None:
        run, after = draw.choice(stored.runs), draw.randrange(ROUNDS - PAGE)
        path = f"/v1/runs/{run}/rounds?after={after}&limit={PAGE}"
        _answered(connection, "GET", path, headers, None, rows=PAGE)

    ours, theirs = Taken(), Taken()
    for port in ports:
        _load(settings, port, page, Taken())  # warm
    for _ in range(TURNS):
        _load(settings, ports[0], page, ours)
        _load(settings, ports[1], page, theirs)
    return Row(
        name,
        round(ours.per_s, 1),
        "pages/s",
        against="bare FastAPI + SQLAlchemy",
        against_value=round(theirs.per_s, 1),
        extra={
            "p50_ms": ours.percentile_ms(50),
            "p99_ms": ours.percentile_ms(99),
            "bare_p99_ms": theirs.percentile_ms(99),
            "rows_a_page": PAGE,
            "connections": _CONNECTIONS,
        },
    )


def _appends(
    name: str,
    settings: Settings,
    receipts: list[tuple[str, list[Envelope]]],
    port: int,
    process: psutil.Process,
) -> Row:
    taken, cpu_s = Taken(), cpu_of(process)

    def post(token: str, chain: list[Envelope]) -> None:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection = _connect(settings, port)
        for envelope in chain:
            body = json.dumps({"envelope": json.loads(envelope.to_bytes())})
            begun = time.perf_counter()
            _answered(connection, "POST", "/v1/records", headers, body, rows=None)
            taken.latencies_s.append(time.perf_counter() - begun)
        connection.close()

    begun = time.perf_counter()
    _together([partial(post, *one) for one in receipts])
    taken.seconds = time.perf_counter() - begun
    return Row(
        name,
        round(taken.per_s, 1),
        "records/s",
        against="200/s",
        against_value=200.0,
        extra={
            "p50_ms": taken.percentile_ms(50),
            "p99_ms": taken.percentile_ms(99),
            # What the registry's process took, whatever else the machine did meanwhile.
            "records_a_cpu_s": round(len(taken.latencies_s) / (cpu_of(process) - cpu_s), 1),
        },
    )


def _load(settings: Settings, port: int, ask: Ask, taken: Taken) -> None:
    """Ask over and over for a turn, on several connections."""
    end = time.monotonic() + TURN_S

    def work() -> None:
        connection = _connect(settings, port)
        while time.monotonic() < end:
            begun = time.perf_counter()
            ask(connection)
            taken.latencies_s.append(time.perf_counter() - begun)
        connection.close()

    begun = time.perf_counter()
    _together([work] * _CONNECTIONS)
    taken.seconds += time.perf_counter() - begun


def _together(jobs: list[Callable[[], None]]) -> None:
    failed: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _connect(settings: Settings, port: int) -> http.client.HTTPSConnection:
    context: ssl.SSLContext = trusting(settings.ca.read_bytes())
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=120, context=context)
    connection.connect()
    return connection


def _page(connection: http.client.HTTPSConnection, path: str, token: str) -> int:
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    data = response.read()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {data[:500]!r}")
    return len(json.loads(data))


def _answered(
    connection: http.client.HTTPSConnection,
    method: str,
    path: str,
    headers: dict[str, str],
    body: str | None,
    *,
    rows: int | None,
) -> None:
    """Send and read; an answer that is none, or a page that is short, ends the benchmark."""
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    data: Any = response.read()
    if response.status not in {200, 201}:
        raise RuntimeError(f"{path}: {response.status} {data[:500]!r}")
    if rows is not None and data.count(b'"attempt"') != rows:
        raise RuntimeError(f"{path}: not {rows} rows")
