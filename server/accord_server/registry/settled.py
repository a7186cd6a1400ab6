"""What a registry's process does once for all its requests; it must own the process.

Guarantees: what was loaded to serve is out of the garbage collector's way, which otherwise walks
all of it every few seconds and stops every request for a tenth of a second; once there is a run,
the accountant is loaded before anybody asks what it cost.

Not covered: the first requests after a start, which find the caches of queries empty.
"""

import asyncio
import gc

import structlog
from sqlalchemy import select

from accord_common.errors import AccordError
from accord_common.privacy.accounting import load
from accord_server.registry.changes import EVERYTHING
from accord_server.registry.context import Registry
from accord_server.registry.db import Database
from accord_server.registry.settings import Settings
from accord_server.registry.setup import using
from accord_server.registry.tables import RunRow

_AGAIN_S = 60.0  # without a change: another process of the database may have begun a run
_ANY_RUN = select(RunRow.id).limit(1)
_log = structlog.get_logger("accord.registry")


async def settle(settings: Settings) -> None:
    """Do it before the process serves; half a second where there are runs."""
    async with using(settings.open_database()) as database:
        if await _has_run(database):
            load()
    gc.freeze()


async def settle_again(registry: Registry) -> None:
    """Do it, beside requests, once the first run is there."""
    changes = registry.changes
    seen = changes.version(EVERYTHING)
    while not await _has_run(registry.database):
        await changes.wait(EVERYTHING, seen, _AGAIN_S)
        if changes.closed:
            return
        seen = changes.version(EVERYTHING)
    await asyncio.to_thread(load)
    gc.collect()  # of what is not frozen yet, a few milliseconds; what is frozen is never freed
    gc.freeze()


async def _has_run(database: Database) -> bool:
    try:
        return await database.glance(_ANY_RUN, {}) is not None
    except AccordError as error:  # it is away, and requests say so too
        _log.warning("runs-not-known", code=error.code)
        return False
