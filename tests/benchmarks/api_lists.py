"""`api-lists`: every list that grows with runs, at its beginning, middle and end, by who asks.

For the coordinator, who sees all, and for a data holder, who sees what is its own or under its
agreements. A page is of 100; an end must cost what a beginning does.
"""

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median

import psutil

from tests.benchmarks.api_data import Stored
from tests.benchmarks.row import Row

ASKS = 40  # of each page
_PAGE = 100
_MOST_MS = 50.0

Get = Callable[[http.client.HTTPSConnection, str, str], int]  # path, token -> rows


def lists(stored: Stored) -> Iterator[tuple[str, list[str]]]:
    """Name, and the first, middle and last page's path, of every list."""
    runs = sorted(stored.runs)
    run, (party, dataset) = runs[len(runs) // 2], next(iter(stored.datasets.items()))
    ids = ["", runs[len(runs) // 2], runs[-_PAGE - 1]]
    places = [0, stored.last_record // 2, stored.last_record - 10 * _PAGE]
    lines = ["", *(f"{one}.{dataset}" for one in ids[1:])]

    def under(path: str, cursors: list[str] | list[int], **filters: str) -> list[str]:
        given = "".join(f"&{name}={value}" for name, value in filters.items())
        return [
            f"{path}?limit={_PAGE}{given}" + (f"&after={after}" if after else "")
            for after in cursors
        ]

    yield "runs", under("/v1/runs", ids)
    yield "runs of a state", under("/v1/runs", ids, state="completed")
    yield "records", under("/v1/records", places)
    yield "records of a kind", under("/v1/records", places, kind="node-receipt")
    yield "records of a run", under("/v1/records", [0], run=run)
    yield "proofs", [f"{one}&size={stored.last_record}" for one in under("/v1/log/proofs", places)]
    yield "budgets", under("/v1/budgets", lines)
    yield "budgets of a dataset", under("/v1/budgets", lines, dataset=dataset)
    yield "budgets of a party", under("/v1/budgets", lines, party=party)
    yield "budgets of a run", under("/v1/budgets", [0], run=run)
    yield "datasets' budgets", under("/v1/budgets/datasets", [0])
    yield "institutions' budgets", under("/v1/budgets/institutions", [0])
    yield "agreements' budgets", under("/v1/budgets/agreements", [0])
    yield "runs' budgets", under("/v1/budgets/runs", ids)
    yield "ledger entries", under("/v1/budgets/rounds", places)
    yield "ledger entries of a dataset", under("/v1/budgets/rounds", places, dataset=dataset)
    yield "ledger entries of a run", under("/v1/budgets/rounds", [0], run=run)
    found = ["", *(f"found-{place:016d}-0000" for place in places[1:])]
    yield "exceptions", under("/v1/exceptions", found)
    yield "exceptions of a party", under("/v1/exceptions", found, party=party)


def cpu_of(process: psutil.Process) -> float:
    """CPU seconds of the registry's process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(
    name: str,
    stored: Stored,
    tokens: Mapping[str, str],
    connection: http.client.HTTPSConnection,
    get: Get,
    process: psutil.Process,
) -> Row:
    """Ask for all of them; the value is the slowest list's 99th percentile."""
    slowest, extra = 0.0, {}
    for who, token in tokens.items():
        for what, paths in lists(stored):
            middles, all_ms, cpu_s = [], [], cpu_of(process)
            for path in paths:
                rows = get(connection, path, token)
                if not rows:
                    raise RuntimeError(f"{path}: no rows")
                taken_ms = []
                for _ in range(ASKS):
                    begun = time.perf_counter()
                    get(connection, path, token)
                    taken_ms.append(1000 * (time.perf_counter() - begun))
                middles.append(f"{median(taken_ms):.1f}")
                all_ms += taken_ms
            p99 = sorted(all_ms)[int(len(all_ms) * 0.99)]
            slowest = max(slowest, p99)
            cpu_ms = 1000 * (cpu_of(process) - cpu_s) / (len(all_ms) + len(paths))
            extra[f"{who}: {what}"] = (
                f"p50 {'/'.join(middles)} ms, p99 {p99:.1f} ms, CPU {cpu_ms:.1f} ms"
            )
    return Row(name, round(slowest, 1), "ms p99", "50 ms", _MOST_MS, extra)
