"""A session whose statements run where they are called: for a thread that may wait.

What an append asks takes the database some hundredths of a millisecond; the way of an AsyncSession
to its driver's thread and back, several times a statement, takes ten times that. Code that is
written for an AsyncSession works with this one as it is, if it waits for nothing but its session.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession

_T = TypeVar("_T")


class BlockingSession(AsyncSession):
    """An AsyncSession on a blocking engine; `sync_session` is what does the work."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(expire_on_commit=False)
        self.sync_session.bind = engine

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        """As AsyncSession's."""
        return self.sync_session.execute(*args, **kwargs)

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        """As AsyncSession's."""
        return self.sync_session.get(*args, **kwargs)

    async def flush(self, *args: Any, **kwargs: Any) -> None:
        """As AsyncSession's."""
        self.sync_session.flush(*args, **kwargs)


def finish(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, here and now.

    Raises:
        RuntimeError: it waits for something else than a BlockingSession; its writes are undone by
            whoever holds the transaction.
    """
    try:
        work.send(None)
    except StopIteration as end:
        found: _T = end.value
        return found
    work.close()
    raise RuntimeError("an append waits for something else than its session")
