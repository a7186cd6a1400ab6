"""`/v1/budgets`: what was spent, is reserved and is left, by whatever an auditor asks.

The figures are those that count against caps at nodes (`accord_common.privacy.filter`), computed
from the events in receipts. Only a node's own ledger knows everything that was charged to a
population.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from accord_common.api.budget_schemas import (
    BalanceRow,
    BudgetRow,
    CombinedRow,
    ExceptionRow,
    SpendRow,
)
from accord_common.fields import Hash, Id, Slug, now
from accord_server.registry.answers import LISTED, ListFormat, listed
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.budgets import combining, exceptions, repository, service
from accord_server.registry.budgets.tables import RunBudgetRow, TermsRow
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import (
    AfterHash,
    AfterId,
    AfterSequence,
    Limit,
    equal,
    split_cursor,
)

router = APIRouter(tags=["budgets"])

AfterRunDataset = Annotated[
    str | None, Query(max_length=128, description="`run.dataset` of the page before's last item")
]
AfterDatasetAgreement = Annotated[
    str | None,
    Query(max_length=128, description="`dataset.agreement` of the page before's last item"),
]
AfterException = Annotated[
    str | None, Query(max_length=128, description="`id` of the page before's last item")
]


@router.get(
    "/v1/budgets",
    summary="What runs have cost, and may still",
    response_model=list[BudgetRow],
    responses=LISTED,
)
async def page(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    dataset: Id | None = None,
    run: Id | None = None,
    party: Id | None = None,
    agreement: Hash | None = None,
    after: AfterRunDataset = None,
    limit: Limit = 100,
    format_: ListFormat = "json",
) -> Response:
    """A row for each run and dataset, as far as receipts show."""
    where = equal(
        (RunBudgetRow.dataset, dataset),
        (RunBudgetRow.run, run),
        (RunBudgetRow.party, party),
        (RunBudgetRow.agreement, agreement),
        (RunBudgetRow.party, caller.sees),
    )
    async with registry.database.read() as session:
        found = await repository.lines(session, where, split_cursor(after), limit)
    rows = await asyncio.to_thread(lambda: [service.budget_row(line) for line in found])
    return listed(BudgetRow, rows, format_)


@router.get(
    "/v1/budgets/datasets",
    summary="What each cap has left",
    response_model=list[BalanceRow],
    responses=LISTED,
)
async def datasets(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    dataset: Id | None = None,
    party: Id | None = None,
    agreement: Hash | None = None,
    after: AfterDatasetAgreement = None,
    limit: Limit = 100,
    format_: ListFormat = "json",
) -> Response:
    """A row for each dataset and fully signed agreement: the cap, and all that its people spent."""
    where = equal(
        (TermsRow.dataset, dataset),
        (TermsRow.owner, party),
        (TermsRow.agreement, agreement),
        (TermsRow.owner, caller.sees),
    )
    async with registry.database.read() as session:
        cursor = split_cursor(after)
        terms, spent = await combining.all_balances(session, where, cursor, limit)
    rows = await asyncio.to_thread(combining.balances, terms, spent, now())
    return listed(BalanceRow, rows, format_)


@router.get(
    "/v1/budgets/institutions",
    summary="What each institution's people have spent",
    response_model=list[CombinedRow],
    responses=LISTED,
)
async def institutions(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterId = None,
    limit: Limit = 100,
    format_: ListFormat = "json",
) -> Response:
    """A row for each data holder, over all its populations."""
    async with registry.database.read() as session:
        found = await combining.institutions(session, caller.sees, after, limit, now())
    return listed(CombinedRow, await asyncio.to_thread(combining.rows, found), format_)


@router.get(
    "/v1/budgets/agreements",
    summary="What was spent under each agreement",
    response_model=list[CombinedRow],
    responses=LISTED,
)
async def agreements(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterHash = None,
    limit: Limit = 100,
    format_: ListFormat = "json",
) -> Response:
    """A row for each fully signed agreement, over the populations of its datasets."""
    async with registry.database.read() as session:
        found = await combining.agreements(session, caller.sees, after, limit, now())
    return listed(CombinedRow, await asyncio.to_thread(combining.rows, found), format_)


@router.get(
    "/v1/budgets/runs",
    summary="What each run has spent",
    response_model=list[CombinedRow],
    responses=LISTED,
)
async def runs(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterId = None,
    limit: Limit = 100,
    format_: ListFormat = "json",
) -> Response:
    """A row for each run, over the populations of its sites."""
    async with registry.database.read() as session:
        found = await combining.runs(session, caller.sees, after, limit)
    return listed(CombinedRow, await asyncio.to_thread(combining.rows, found), format_)


@router.get(
    "/v1/budgets/rounds",
    summary="What each attempt at a round has cost",
    response_model=list[SpendRow],
    responses=LISTED,
)
async def rounds(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    dataset: Id | None = None,
    run: Id | None = None,
    after: AfterSequence = 0,
    limit: Limit = 100,
    format_: ListFormat = "json",
) -> Response:
    """Charged attempts in the order of their receipts, each with what the run had cost by then."""
    async with registry.database.read() as session:
        found = await repository.spends(session, caller.sees, dataset, run, after, limit)
    rows = await asyncio.to_thread(lambda: [service.spend_row(*one) for one in found])
    return listed(SpendRow, rows, format_)


@router.get(
    "/v1/exceptions",
    summary="What does not agree",
    response_model=list[ExceptionRow],
    responses=LISTED,
)
async def all_exceptions(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    code: Slug | None = None,
    run: Id | None = None,
    party: Id | None = None,
    dataset: Id | None = None,
    after: AfterException = None,
    limit: Limit = 100,
    format_: ListFormat = "json",
) -> Response:
    """What records show in their order, then what lasts now; each with the records that show it."""
    wanted = exceptions.Filter(code, run, party, dataset, caller.sees)
    async with registry.database.read() as session:
        found = await exceptions.page(session, wanted, after, limit, now())
    return listed(ExceptionRow, found, format_)
