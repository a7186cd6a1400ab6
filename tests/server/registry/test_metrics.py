"""What the registry tells Prometheus: of requests, runs, parties, budgets, and of its database."""

import asyncio
from datetime import timedelta

from prometheus_client import generate_latest

from accord_common.fields import now
from accord_server.registry.figures import Figures
from tests.e2e.monitoring import Seen
from tests.server.registry.stack import Stack, complete, run_id


def told(stack: Stack, figures: Figures) -> Seen:
    seen = Seen()
    seen.take(generate_latest(stack.app.state.registry.metrics.registry).decode())
    assert figures.loop is not None
    return seen


def serving(stack: Stack) -> Figures:
    figures = Figures(stack.app.state.registry)
    assert stack.http.portal is not None

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    figures.loop = stack.http.portal.call(loop)
    return figures


def one(seen: Seen, name: str, **labels: str) -> float:
    (found,) = [value for at, value in seen.numbers[name] if labels.items() <= at.items()]
    return found


def test_a_run_is_told_of_until_it_is_over(stack: Stack) -> None:
    figures = serving(stack)
    keys = stack.offer()
    manifest = stack.start(keys)
    run = run_id(stack, manifest)
    seen = told(stack, figures)
    assert one(seen, "accord_registry_runs", state="awaiting-consent") == 1
    assert one(seen, "accord_registry_run_rounds_completed", run=run) == 0
    assert "accord_registry_run_lease_remaining_seconds" not in seen.samples
    for actor in stack.world.hospitals:
        age_s = now().timestamp() - one(
            seen, "accord_registry_party_last_seen_timestamp_seconds", party=actor.id
        )
        assert 0 <= age_s < timedelta(minutes=5).total_seconds()
        ends = one(seen, "accord_registry_delegation_expires_timestamp_seconds", party=actor.id)
        assert ends > now().timestamp()

    complete(stack, keys, manifest)
    seen = told(stack, figures)
    assert one(seen, "accord_registry_runs", state="completed") == 1
    assert run not in str(seen.samples)
    rows = stack.client(stack.world.coordinator).budgets()
    assert {row.dataset for row in rows} == seen.values(
        "accord_registry_budget_left_ratio", "dataset"
    )
    for row in rows:
        assert row.epsilon is not None
        left = one(seen, "accord_registry_budget_left_ratio", dataset=row.dataset)
        assert abs(left - (1 - float(row.epsilon) / float(row.cap))) < 1e-4  # the row is rounded up
    records = stack.client(stack.world.coordinator).records()
    assert one(seen, "accord_registry_records_total") == len(records)


def test_requests_are_counted_by_template_and_never_by_path(stack: Stack) -> None:
    figures = serving(stack)
    stack.http.get("/v1/partners/0197-secret")
    stack.http.request("BREW", "/v1/pot-of-somebody")
    seen = told(stack, figures)
    routes = seen.values("accord_registry_requests_total", "route")
    assert "none" in routes and all("0197" not in route and "pot" not in route for route in routes)
    assert seen.values("accord_registry_requests_total", "method") <= {
        "GET", "POST", "PUT", "other"
    }  # fmt: skip
    unknown = ("accord_registry_requests_total", {"method": "other", "route": "none"})
    assert one(seen, unknown[0], **unknown[1]) == 1


def test_a_database_that_does_not_answer_is_a_figure(empty: Stack) -> None:
    figures = serving(empty)
    assert one(told(empty, figures), "accord_registry_database_up") == 1
    assert empty.http.portal is not None
    empty.http.portal.call(_drop, empty)
    seen = told(empty, figures)
    assert one(seen, "accord_registry_database_up") == 0
    assert one(seen, "accord_registry_disk_free_bytes") > 0
    assert "accord_registry_runs" not in seen.samples


async def _drop(stack: Stack) -> None:
    async with stack.app.state.registry.database.write() as session:
        connection = await session.connection()
        await connection.exec_driver_sql("DROP TABLE leases")
