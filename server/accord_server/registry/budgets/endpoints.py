"""`/v1/budgets`: what each run has cost each dataset, computed from the events in receipts.

The figure is the one that counts against the cap at the node (`accord_common.privacy.filter`), for
the run alone. Only the node's own ledger knows everything that was charged to a population.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends

from accord_common.api.schemas import BudgetRow
from accord_common.fields import Id
from accord_common.privacy.accounting import bounded_up
from accord_common.privacy.filter import Cap, RdpFilter
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.budgets.repository import Group, Reach, groups
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterSequence, Limit

router = APIRouter(tags=["budgets"])


@router.get("/v1/budgets", summary="What runs have cost")
async def page(
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    dataset: Id | None = None,
    run: Id | None = None,
    after: AfterSequence = 0,
    limit: Limit = 100,
) -> list[BudgetRow]:
    """A row for each dataset and run, as far as receipts show; `after` counts those before.

    A data holder's are of its own datasets, others' of the agreements that name them.
    """
    async with registry.database.read() as session:
        found = await groups(session, _reach(caller), dataset, run, after, limit)
    return await asyncio.to_thread(lambda: [_row(group) for group in found])


def _reach(caller: Caller) -> Reach:
    if caller.sees is None:
        return Reach()
    if caller.role == "data-holder":
        return Reach(holder=caller.sees)
    return Reach(party=caller.sees)


def _row(group: Group) -> BudgetRow:
    cap = Cap(epsilon=group.terms.epsilon_cap, delta=group.terms.delta)
    epsilon = RdpFilter(cap).epsilon(group.tally)
    return BudgetRow(
        dataset=group.dataset,
        party=group.party,
        population=group.population,
        run=group.run,
        attempts=group.attempts,
        non_private=group.non_private,
        epsilon=bounded_up(epsilon),
        delta=cap.delta,
        cap=cap.epsilon,
    )
