"""Reading and writing metrics by round."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.score_schemas import ScoreRequest, ScoreView
from accord_common.errors import ConflictError
from accord_common.fields import format_time
from accord_server.registry.scores.tables import ScoreRow
from accord_server.registry.tables import RoundRow


async def put(session: AsyncSession, run: str, told: ScoreRequest, moment: datetime) -> ScoreRow:
    """Keep a round's metrics, instead of those it had.

    Raises:
        ConflictError: `wrong-model` where no completed round of that number left this model.
    """
    query = select(RoundRow.number).where(
        RoundRow.run == run, RoundRow.round == told.round, RoundRow.model_after == told.model
    )
    if (await session.execute(query.limit(1))).first() is None:
        raise ConflictError(
            "wrong-model",
            f"no receipt says that round {told.round} (from 0) left model {told.model[:16]}",
            hint="Take round and model from GET /v1/runs/RUN/rounds.",
        )
    row = ScoreRow(
        run=run,
        round=told.round,
        model=told.model,
        holdout=told.holdout,
        rows=told.rows,
        metrics=dict(sorted(told.metrics.items())),
        created=moment,
    )
    return await session.merge(row)


async def page(session: AsyncSession, run: str, first: int, limit: int) -> list[ScoreView]:
    """Return metrics of rounds from `first` on."""
    query = select(ScoreRow).where(ScoreRow.run == run, ScoreRow.round >= first)
    rows = await session.execute(query.order_by(ScoreRow.round).limit(limit))
    return [view(row) for row in rows.scalars()]


async def some(session: AsyncSession, run: str, most: int) -> list[ScoreView]:
    """Return at most about `most` of them, spread over the run, with the newest."""
    last = (
        await session.execute(select(func.max(ScoreRow.round)).where(ScoreRow.run == run))
    ).scalar_one_or_none()
    if last is None:
        return []
    step = last // most + 1
    query = select(ScoreRow).where(ScoreRow.run == run)
    if step > 1:
        query = query.where((ScoreRow.round % step == 0) | (ScoreRow.round == last))
    rows = await session.execute(query.order_by(ScoreRow.round))
    return [view(row) for row in rows.scalars()]


async def newest(session: AsyncSession, runs: Collection[str]) -> dict[str, ScoreView]:
    """Return the newest of each of these runs."""
    last = (
        select(ScoreRow.run, func.max(ScoreRow.round).label("round"))
        .where(ScoreRow.run.in_(runs))
        .group_by(ScoreRow.run)
        .subquery()
    )
    query = select(ScoreRow).join(
        last, (last.c.run == ScoreRow.run) & (last.c.round == ScoreRow.round)
    )
    return {row.run: view(row) for row in (await session.execute(query)).scalars()}


def view(row: ScoreRow) -> ScoreView:
    """Show a round's metrics."""
    return ScoreView(
        round=row.round,
        model=row.model,
        holdout=row.holdout,
        rows=row.rows,
        metrics=row.metrics,
        created=format_time(row.created),
    )
