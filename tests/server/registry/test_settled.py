"""What a process does once for all its requests."""

import asyncio
import gc

import pytest

from accord_common.privacy import accounting
from accord_server.registry import settled
from accord_server.registry.context import Registry
from tests.server.registry.stack import Stack


def test_the_accountant_is_loaded_once_there_is_a_run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of tests nothing may be frozen: what it holds must go some time."""
    registry = stack.app.state.registry
    assert isinstance(registry, Registry)
    frozen: list[int] = []
    priced = accounting._one_step
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(priced.cache_info().currsize))
    priced.cache_clear()
    asyncio.run(settled.settle(stack.settings))
    assert frozen == [0]

    portal = stack.http.portal
    assert portal is not None
    waiting = portal.start_task_soon(settled.settle_again, registry)
    stack.register_datasets()  # a change, and no run
    assert not waiting.done() and len(frozen) == 1
    stack.start(stack.offer())
    waiting.result(30)
    assert frozen[1] >= 1

    priced.cache_clear()
    asyncio.run(settled.settle(stack.settings))  # as the next process begins
    assert frozen[2] == 1
