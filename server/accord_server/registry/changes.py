"""Who is waiting for what: long polls wake in this process, without asking the database.

Guarantees: a topic's version grows with every change announced after it was read, so a caller that
reads a version, then the data, then waits on that version misses nothing. Versions start at the
process's start time in microseconds: a cursor from before a restart counts as seen nothing.
"""

import asyncio
import time
from collections.abc import Iterable

EVERYTHING = "everything"  # the topic of whoever waits for any change at all


class Changes:
    """Versions of topics, and the callers that wait for a newer one."""

    def __init__(self) -> None:
        self._start = self._latest = time.time_ns() // 1000
        self._versions: dict[str, int] = {}
        self._changed = asyncio.Condition()
        self._ended = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether the registry stops, so that nobody waits any more."""
        return self._ended.is_set()

    def version(self, topic: str) -> int:
        """Return the topic's version: positive, below 2^53."""
        return self._versions.get(topic, self._start)

    async def announce(self, topics: Iterable[str]) -> None:
        """Tell whoever waits for one of `topics`; call it after the commit."""
        async with self._changed:
            self._latest += 1
            self._versions.update(dict.fromkeys([*topics, EVERYTHING], self._latest))
            self._changed.notify_all()

    async def wait(self, topic: str, seen: int, timeout_s: float) -> None:
        """Return once the topic's version differs from `seen`, at the latest after `timeout_s`."""
        async with self._changed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait_for(lambda: self.closed or self.version(topic) != seen)
            except TimeoutError:
                return

    async def pause(self, seconds: float) -> None:
        """Return after so long, or once nobody waits any more."""
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Let everybody go who waits, now and later."""
        async with self._changed:
            self._ended.set()
            self._changed.notify_all()


def party_topic(party: str) -> str:
    """What a party's inbox waits for."""
    return f"party:{party}"


def run_topic(run: str) -> str:
    """What those who follow a run's events wait for."""
    return f"run:{run}"
