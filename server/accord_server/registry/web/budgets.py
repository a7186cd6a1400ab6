"""The pages of budgets: what every cap has left and until when, and one dataset's ledger.

Guarantees: figures follow from receipts that nodes signed; a party that is no auditor's or
coordinator's reads those of its own people alone.

Not covered: what was charged and never reached the registry: the node's own ledger decides.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from accord_common.api.budget_schemas import BalanceRow, SpendRow
from accord_common.errors import NotFoundError
from accord_common.fields import Id, now
from accord_common.privacy.pace import Pace
from accord_server.registry.budgets import combining, outlook, repository, service
from accord_server.registry.budgets.endpoints import AfterDatasetAgreement
from accord_server.registry.budgets.repository import Term
from accord_server.registry.budgets.tables import TermsRow
from accord_server.registry.paging import equal, split_cursor
from accord_server.registry.web.visit import Signed

router = APIRouter(include_in_schema=False)

_PER_PAGE = 50
_LEDGER = 50


@dataclass(frozen=True, slots=True)
class Fund:
    """What a cap of an agreement (by its title) has left, and until when."""

    row: BalanceRow
    title: str
    pace: Pace


@dataclass(frozen=True, slots=True)
class Entry:
    """One charged attempt, when its receipt came, and the title of its run."""

    spend: SpendRow
    received: datetime
    title: str


async def funds(
    session: AsyncSession, terms: Sequence[Term], spent: combining.Spent, moment: datetime
) -> list[Fund]:
    """What these caps have left, with their last days."""
    rows = await asyncio.to_thread(combining.balances, terms, spent, moment)
    paces = await outlook.paces(session, terms, spent, moment)
    return [
        Fund(row, one.terms.title, paces[one.terms.agreement, one.terms.dataset])
        for row, one in zip(rows, terms, strict=True)
    ]


@router.get("/budgets")
async def all_budgets(visit: Signed, after: AfterDatasetAgreement = None) -> Response:
    """What each cap has left, by dataset."""
    where = equal((TermsRow.owner, visit.sees("/v1/budgets/datasets")))
    async with visit.registry.database.read() as session:
        terms, spent = await combining.all_balances(
            session, where, split_cursor(after), _PER_PAGE + 1
        )
        found = await funds(session, terms[:_PER_PAGE], spent, now())
    last = found[-1].row if len(terms) > _PER_PAGE else None
    return visit.page(
        "budgets.html",
        "/budgets",
        live=True,
        funds=found,
        more=None if last is None else f"{last.dataset}.{last.agreement}",
        paged=after is not None,
    )


@router.get("/budgets/{dataset}")
async def one_budget(
    visit: Signed, dataset: Id, before: Annotated[int | None, Query(ge=1, lt=2**53)] = None
) -> Response:
    """One dataset: its caps, what each run cost it, and every attempt that was charged."""
    reach = visit.sees("/v1/budgets/datasets")
    moment = now()
    async with visit.registry.database.read() as session:
        where = equal((TermsRow.dataset, dataset), (TermsRow.owner, reach))
        terms, spent = await combining.all_balances(session, where)
        if not terms:
            raise NotFoundError(
                "unknown-dataset",
                f"no agreement that you may read caps a dataset {dataset}",
                hint="Budgets lists those that you may read.",
            )
        found = await funds(session, terms, spent, moment)
        lines = await repository.newest_lines(session, dataset, _PER_PAGE + 1)
        charged = await repository.newest_spends(session, dataset, before, _LEDGER + 1)
        titles = await repository.titles(
            session, {line.budget.run for line in lines} | {row[0].run for row in charged}
        )
    costs, entries = await asyncio.to_thread(
        lambda: (
            [service.budget_row(line) for line in lines[:_PER_PAGE]],
            [
                Entry(service.spend_row(spend, budget, delta), received, titles[spend.run])
                for spend, budget, delta, received in charged[:_LEDGER]
            ],
        )
    )
    return visit.page(
        "budget.html",
        "/budgets",
        live=True,
        funds=found,
        shown=found[0].row,
        costs=costs,
        left_out=len(lines) > _PER_PAGE,
        titles=titles,
        entries=entries,
        before=before,
        older=entries[-1].spend.sequence if len(charged) > _LEDGER else None,
    )
