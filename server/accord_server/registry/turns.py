"""Appends that wait at the same time share a transaction, and so the disk's one word.

Guarantees: whoever asked is answered after the commit that holds its work, or that what it was
refused by is in; each piece of work sees the ones before it. Where one is refused or fails, the
commit included, all of it is undone and each piece is done again in a transaction of its own: so
nobody's record is lost by its neighbour's.

Not covered: fairness towards other writers beyond the database's own turns.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from accord_server.registry.blocking import BlockingSession, finish
from accord_server.registry.db import Database
from accord_server.registry.records.prefetch import Wanted, prefetch

_T = TypeVar("_T")
_MOST = 32  # in one transaction: other writers wait no longer than for these


class _Work(NamedTuple):
    do: Callable[[AsyncSession], Coroutine[Any, Any, None]]
    wanted: Wanted | None


class Turns:
    """One database's appends; `work` may run twice, and only the last time counts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[_Work, asyncio.Future[None]]] = deque()
        self._served: asyncio.Task[None] | None = None

    async def do(
        self, work: Callable[[AsyncSession], Awaitable[_T]], wanted: Wanted | None = None
    ) -> _T:
        """Do `work` inside a transaction, and return what it does once that is kept.

        What is `wanted` for it is read at once for all that share the transaction.
        """
        results: list[_T] = []

        async def noted(session: AsyncSession) -> None:
            results.append(await work(session))

        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((_Work(noted, wanted), answer))
        if self._served is None or self._served.done():
            self._served = asyncio.create_task(self._serve())
        await answer
        return results[-1]

    async def _serve(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST))]
            began, fault = await self._try([work for work, _ in group])
            for work, answer in group:
                if began and fault is not None and len(group) > 1:
                    began, outcome = await self._try([work])
                    if not began:  # nor would it for those behind
                        fault = outcome
                else:
                    outcome = fault
                if answer.done():  # its caller has gone
                    continue
                if outcome is None:
                    answer.set_result(None)
                else:
                    answer.set_exception(outcome)

    async def _try(self, group: list[_Work]) -> tuple[bool, Exception | None]:
        """Do works in one transaction: whether it began, and what undid it."""
        began = False

        def each(session: BlockingSession) -> None:
            nonlocal began
            began = True
            if wanted := [work.wanted for work in group if work.wanted is not None]:
                finish(prefetch(session, wanted))
            for work in group:
                finish(work.do(session))

        try:
            await self._database.append(each)
        except Exception as error:
            return began, error
        return began, None
