"""Whether the log holds, found by computing all of it again while the registry serves.

Guarantees: what `look` tells was recomputed by this process from the stored envelopes: signatures,
chains, leaves, subtrees, checkpoints (`records.verify_log`); nothing is taken from a column that
says so. It begins when somebody looks, goes on in small pieces beside requests, and begins anew
from the first record once an hour, so that what was altered after it was verified is found.

Not covered: a log that was exchanged as a whole, with its key: that shows to who keeps checkpoints.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from accord_common.errors import AccordError, VerificationError
from accord_common.fields import now
from accord_server.registry.changes import Changes
from accord_server.registry.db import Database
from accord_server.registry.records.verify_log import Verified, extend, settle

_PIECE = 50  # records at once: some 20 ms of a thread, then others' turn
_ANEW = timedelta(hours=1)
_AGAIN = timedelta(seconds=60)  # after a break, or a database that did not answer
_log = structlog.get_logger("accord.registry")


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known.

    Attributes:
        verified: records from the first on that hold.
        at: when the last of them was verified; None before the first.
        going: whether more are being verified now.
        code: of what does not hold; empty where nothing was found.
        message: what does not hold, and where.
    """

    verified: int = 0
    at: datetime | None = None
    going: bool = False
    code: str = ""
    message: str = ""


class LogWatch:
    """Verifies one registry's log, for whoever asks."""

    def __init__(self, database: Database, changes: Changes) -> None:
        self._database = database
        self._changes = changes
        self._found = Verified()
        self._begun: datetime | None = None
        self._tried: datetime | None = None
        self._told = Standing()
        self._task: asyncio.Task[None] | None = None

    def look(self, size: int) -> Standing:
        """What is known of the log, which has `size` records; begins to find out what is not."""
        moment = now()
        if self._task is None or self._task.done():
            again = self._tried is None or moment - self._tried >= _AGAIN
            if self._begun is None or (self._told.code and again) or self._stale(moment):
                self._found, self._begun = Verified(), moment
                self._start(moment)
            elif self._told.verified < size and (again or not self._told.code):
                self._start(moment)
        return replace(self._told, going=self._task is not None and not self._task.done())

    async def close(self) -> None:
        """Verify no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _stale(self, moment: datetime) -> bool:
        return self._begun is not None and moment - self._begun >= _ANEW

    def _start(self, moment: datetime) -> None:
        self._tried = moment
        self._task = asyncio.create_task(self._verify())

    async def _verify(self) -> None:
        found = self._found
        try:
            while True:  # a session for each piece: a long one keeps SQLite's journal from folding
                async with self._database.read() as session:
                    if not await extend(session, found, _PIECE):
                        await settle(session, found)
                        break
                if found.records > self._told.verified:
                    self._told = Standing(found.records, now())
            self._told = Standing(found.records, now())
        except VerificationError as error:
            _log.error("log-broken", code=error.code, message=error.message)
            held = max(found.records - 1, 0)
            self._told = Standing(held, now(), False, error.code, error.message)
            self._found = Verified()
        except AccordError as error:
            _log.warning("log-unverified", cause=str(error))
            self._found = Verified()  # it may have taken in what was not compared any more
        except Exception as error:  # nobody awaits this task: without a line, nobody would know
            _log.error("log-unverified", exc_info=error)
            self._found = Verified()
        await self._changes.announce([])
