"""The registry's round: tells why runs stand still, and ends those that nobody comes back for.

Guarantees: in one transaction among the writers, who take turns, so that of several replicas one
finds each thing to do, and a repetition changes nothing; a trouble is told once while it lasts. An
end found here is unsigned: `ClosureRow` is operational, kept beside the records and over a
rebuild, and the run's aggregator signs it when it comes back (`verify_runs.result`).
"""

import asyncio
from datetime import datetime

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.backoff import Told
from accord_common.fields import now
from accord_server.registry.changes import run_topic
from accord_server.registry.context import Registry
from accord_server.registry.notices import outbox
from accord_server.registry.records.announce import party_topics, write_event
from accord_server.registry.runs.facts import gather, up_since
from accord_server.registry.runs.standing import Facts, Patience, ending, obstacle
from accord_server.registry.settings import Settings
from accord_server.registry.tables import (
    OPEN,
    ClosureRow,
    PulseRow,
    RecordRow,
    RunRow,
    StandingRow,
)

SWEEP_S = 10.0

log = structlog.get_logger("accord.registry")


async def look_after(registry: Registry, ended: asyncio.Event) -> None:
    """Sweep until `ended`; nothing that one sweep meets ends the others."""
    pause_s = min(SWEEP_S, registry.settings.patience.silent_s / 6)
    told = Told()
    newest = None
    while not ended.is_set():
        try:
            moment, known = now(), newest
            async with registry.database.write() as session:
                topics = await sweep(session, registry.settings, moment)
                newest = await session.scalar(select(func.max(RecordRow.sequence)))
            if topics or newest != known:  # another process of this database takes records too
                await registry.changes.announce(topics)
            if told.news(None):
                log.info("sweeps-again")
        except Exception as error:  # a database that is away, say: told once while it is
            if told.news(type(error).__name__):
                log.exception("sweep-failed")
        try:
            async with asyncio.timeout(pause_s):
                await ended.wait()
        except TimeoutError:
            continue


async def sweep(session: AsyncSession, settings: Settings, moment: datetime) -> set[str]:
    """Look at every run that is not over; return the topics to wake after the commit."""
    patience = settings.patience
    since = await up_since(session, moment)
    await session.merge(PulseRow(id=1, since=since, last=moment))
    await session.flush()
    runs = list((await session.execute(select(RunRow).where(RunRow.state.in_(OPEN)))).scalars())
    topics: set[str] = set()
    for facts in (await gather(session, runs, moment)).values():
        end = ending(facts, patience)
        if end is not None and end.due <= moment:
            session.add(
                ClosureRow(
                    run=facts.run.id,
                    state=end.state,
                    code=end.code,
                    cause=end.cause[:4000],
                    created=moment,
                )
            )
            await outbox.add(session, settings, [(outbox.RUN_ENDED, facts.run.id)], moment)
            words = f"the registry ends the run: {end.state}: {end.cause} [{end.code}]"
            write_event(session, facts.run.id, "error", words, moment)
            await session.execute(delete(StandingRow).where(StandingRow.run == facts.run.id))
            topics |= await party_topics(session, facts.run.agreement)
            topics.add(run_topic(facts.run.id))
            log.warning("run-closed", run=facts.run.id, state=end.state, code=end.code)
        elif await _tell(session, facts, patience, moment):
            topics.add(run_topic(facts.run.id))
    return topics


async def _tell(session: AsyncSession, facts: Facts, patience: Patience, moment: datetime) -> bool:
    """Write a line where the obstacle is another than the one told last."""
    found = obstacle(facts, patience, moment)
    # That it waits for consents, its manifest's own line said.
    code = "" if found is None or found.code == "awaiting-consent" else found.code
    told = await session.get(StandingRow, facts.run.id)
    if code == (told.code if told else ""):
        return False
    if found is not None and code:
        write_event(session, facts.run.id, "warning", found.message, moment)
        await session.merge(StandingRow(run=facts.run.id, code=code))
        log.warning("run-stands", run=facts.run.id, code=code)
    else:
        write_event(session, facts.run.id, "info", "the run goes on", moment)
        await session.delete(told)
    await session.flush()
    return True
