"""A bundle for whoever reads pages: what `accord audit bundle` collects, for the same caller.

Guarantees: the collector asks this registry's own routes with the caller's own credential, so it
gets what the caller may read and nothing else; one bundle is made at a time, on disk, and is gone
once it is sent.
"""

import asyncio
import tempfile
from pathlib import Path

from fastapi import Request
from sqlalchemy import func, or_, select
from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from accord_common.errors import ConflictError, UsageError
from accord_common.fields import now
from accord_common.log import collect
from accord_server.registry import inside
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.context import Registry
from accord_server.registry.runs.repository import require
from accord_server.registry.tables import RecordRow, RunRow

MOST_RECORDS = 20_000  # some seconds of work, 40 MB; more are for the command
_turn = asyncio.Lock()


async def bundle(
    request: Request,
    registry: Registry,
    sees: str | None,
    run: str | None,
    agreement: str | None,
) -> FileResponse:
    """Make the bundle of a run or of an agreement that the party may read, with None of any.

    Raises:
        NotFoundError: `unknown-run`, `unknown-agreement`.
        UsageError: `no-subject` unless one of the two is named.
        ConflictError: `bundle-too-large`.
    """
    if (run is None) == (agreement is None):
        raise UsageError("no-subject", "name a run or an agreement, and not both")
    subject = run or agreement or ""
    count = await _count(registry, sees, run, agreement)
    if count > MOST_RECORDS:
        raise ConflictError(
            "bundle-too-large",
            f"{count} records; a page makes bundles of at most {MOST_RECORDS}",
            hint=f"accord audit bundle {subject} -o bundle.accord",
        )
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "bundle.accord"
    taken = collect.collect_agreement if run is None else collect.collect_run
    try:
        async with _turn:
            with inside.client(request, registry) as client:
                await asyncio.to_thread(taken, client, subject, path)
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=f"{subject[:13]}.accord",
        background=BackgroundTask(folder.cleanup),
    )


async def _count(
    registry: Registry, sees: str | None, run: str | None, agreement: str | None
) -> int:
    of_runs = select(RunRow.id).where(RunRow.agreement == agreement)
    wanted = or_(RecordRow.run == run, RecordRow.run.in_(of_runs))
    async with registry.database.read() as session:
        if run is not None:
            await require(session, run, sees)
        else:
            await agreements.one(session, sees, agreement or "", now())
        found = await session.execute(select(func.count()).where(wanted))
        return int(found.scalar_one())
