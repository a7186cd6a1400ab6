"""The first page, by role: what a steward, a coordinator, an auditor came for."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.budget_schemas import BalanceRow, ExceptionRow
from accord_common.api.membership import Partner
from accord_common.api.schemas import AgreementView, RunView
from accord_common.fields import parse_time
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.auth import Caller
from accord_server.registry.budgets import combining, exceptions
from accord_server.registry.budgets.exceptions import Filter
from accord_server.registry.budgets.tables import TermsRow
from accord_server.registry.paging import equal
from accord_server.registry.partners import repository as partners
from accord_server.registry.runs import repository as runs
from accord_server.registry.runs.repository import Look

_EXCEPTIONS = 20  # on a first page; the list has the rest
SILENT_S = 120.0  # a node polls every 30 s at most


@dataclass(frozen=True, slots=True)
class Progress:
    """An open run, how far it is, and when it may be done by the pace of its rounds so far."""

    run: RunView
    percent: int
    ends: datetime | None


@dataclass(frozen=True, slots=True)
class Home:
    """What the first page of any role is made of."""

    to_sign: list[AgreementView]
    to_decide: list[RunView]
    running: list[Progress]
    blocked: list[RunView]
    partners: dict[str, Partner]
    silent: list[Partner]
    budgets: list[BalanceRow]
    exceptions: list[ExceptionRow]


async def home(session: AsyncSession, caller: Caller, look: Look) -> Home:
    """Read it."""
    found = await runs.open_runs(session, caller.party, caller.role, look)
    wanting = set(await agreements.to_sign(session, caller.party))
    seen = await agreements.page(session, caller.sees, None, 100, look.moment)
    everybody = await partners.page(session, None, 1000)
    terms, spent = await combining.all_balances(session, equal((TermsRow.owner, caller.sees)))
    wanted = Filter(reach=caller.sees)
    return Home(
        to_sign=[view for view in seen if view.hash in wanting],
        to_decide=[run for run in found if _undecided(run, caller.party)],
        running=[_progress(run, look.moment) for run in found],
        blocked=[run for run in found if run.standing is not None],
        partners={partner.id: partner for partner in everybody},
        silent=list(_silent(everybody, look.moment)),
        budgets=[
            row
            for row in await asyncio.to_thread(combining.balances, terms, spent, look.moment)
            if row.status == "active"
        ],
        exceptions=await exceptions.page(session, wanted, None, _EXCEPTIONS, look.moment),
    )


def _undecided(run: RunView, party: str) -> bool:
    return any(site.party == party and site.decision is None for site in run.consents)


def _progress(run: RunView, moment: datetime) -> Progress:
    ends = None
    if run.state == "running" and run.round:
        began = parse_time(run.created)
        ends = moment + (moment - began) / run.round * (run.rounds - run.round)
    return Progress(run, round(100 * run.round / run.rounds), ends)


def _silent(everybody: Iterable[Partner], moment: datetime) -> Iterable[Partner]:
    for partner in everybody:
        if partner.status == "approved" and partner.role in ("data-holder", "aggregator"):
            heard = None if partner.last_seen is None else parse_time(partner.last_seen)
            if heard is None or (moment - heard).total_seconds() > SILENT_S:
                yield partner
