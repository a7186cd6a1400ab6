"""The first page, by role: what a steward, a coordinator, an auditor came for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.budget_schemas import BalanceRow, ExceptionRow
from accord_common.api.membership import Partner
from accord_common.api.schemas import AgreementView, RunView
from accord_common.enrolment import Delegation
from accord_common.expiry import of_delegation
from accord_common.fields import parse_time
from accord_common.privacy.pace import Pace
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.auth import Caller
from accord_server.registry.budgets import combining, exceptions, outlook
from accord_server.registry.budgets.exceptions import Filter
from accord_server.registry.budgets.tables import TermsRow
from accord_server.registry.paging import equal
from accord_server.registry.partners import repository as partners
from accord_server.registry.runs import repository as runs
from accord_server.registry.runs.repository import Look
from accord_server.registry.web import pace as progress
from accord_server.registry.web.received import Received, received

_EXCEPTIONS = 20  # on a first page; the list has the rest
_PARTNERS = 1000
SILENT_S = 120.0  # a node polls every 30 s at most


@dataclass(frozen=True, slots=True)
class Progress:
    """An open run, how far it is, and how it goes."""

    run: RunView
    percent: int
    pace: progress.Pace


@dataclass(frozen=True, slots=True)
class Fund:
    """What a cap of an agreement (by its title) has left, and until when."""

    row: BalanceRow
    title: str
    pace: Pace


@dataclass(frozen=True, slots=True)
class Key:
    """Until when a node's delegated key is valid; `soon` within the time that is warned of."""

    until: datetime
    soon: bool
    over: bool


@dataclass(frozen=True, slots=True)
class Steward:
    """What waits for an institution, runs on its data, and is left of its budgets."""

    own: Partner
    key: Key | None
    silent: bool
    to_sign: list[AgreementView]
    to_decide: list[RunView]
    running: list[Progress]
    budgets: list[Fund]
    received: Received


@dataclass(frozen=True, slots=True)
class Coordinator:
    """What is under way, what stands still, and every party."""

    running: list[Progress]
    blocked: list[RunView]
    partners: list[Partner]
    silent: list[Partner]


@dataclass(frozen=True, slots=True)
class Auditor:
    """What does not agree, what caps have left, and what is under way."""

    exceptions: list[ExceptionRow]
    budgets: list[BalanceRow]
    running: list[Progress]


async def steward(session: AsyncSession, caller: Caller, look: Look) -> Steward:
    """Read a steward's, or another owner's, first page."""
    found = await _open_runs(session, caller, look)
    row = await partners.partner_row(session, caller.party)
    (own,) = await partners.views(session, [row])
    wanting = await agreements.to_sign(session, caller.party)
    return Steward(
        own=own,
        key=_key(own, look.moment),
        silent=_is_silent(own, look.moment),
        to_sign=[await agreements.one(session, caller.sees, name, look.moment) for name in wanting],
        to_decide=[run for run in found if _undecided(run, caller.party)],
        running=await _progress(
            session, [run for run in found if _accepted(run, caller.party)], look.moment
        ),
        budgets=await _funds(session, caller, look.moment),
        received=await received(session, caller.party, own.identity_key),
    )


async def coordinator(session: AsyncSession, caller: Caller, look: Look) -> Coordinator:
    """Read a coordinator's first page."""
    found = await _open_runs(session, caller, look)
    everybody = await partners.page(session, None, _PARTNERS)
    return Coordinator(
        running=await _progress(session, found, look.moment),
        blocked=[run for run in found if run.standing is not None],
        partners=everybody,
        silent=[partner for partner in everybody if _is_silent(partner, look.moment)],
    )


async def auditor(session: AsyncSession, caller: Caller, look: Look) -> Auditor:
    """Read an auditor's first page."""
    wanted = Filter(reach=caller.sees)
    return Auditor(
        exceptions=await exceptions.page(session, wanted, None, _EXCEPTIONS, look.moment),
        budgets=await _budgets(session, caller, look.moment),
        running=await _progress(session, await _open_runs(session, caller, look), look.moment),
    )


async def _open_runs(session: AsyncSession, caller: Caller, look: Look) -> list[RunView]:
    return await runs.open_runs(session, caller.sees, caller.role, look)


async def _budgets(session: AsyncSession, caller: Caller, moment: datetime) -> list[BalanceRow]:
    """Of the caps that are in force."""
    terms, spent = await combining.all_balances(session, equal((TermsRow.owner, caller.sees)))
    found = await asyncio.to_thread(combining.balances, terms, spent, moment)
    return [row for row in found if row.status == "active"]


async def _funds(session: AsyncSession, caller: Caller, moment: datetime) -> list[Fund]:
    """Of the caps that are in force, with their last days."""
    terms, spent = await combining.all_balances(session, equal((TermsRow.owner, caller.sees)))
    standing = [one for one in terms if one.status(moment) == "active"]
    rows = await asyncio.to_thread(combining.balances, standing, spent, moment)
    paces = await outlook.paces(session, standing, spent, moment)
    return [
        Fund(row, one.terms.title, paces[one.terms.agreement, one.terms.dataset])
        for row, one in zip(rows, standing, strict=True)
    ]


def _undecided(run: RunView, party: str) -> bool:
    return any(site.party == party and site.decision is None for site in run.consents)


def _accepted(run: RunView, party: str) -> bool:
    return any(site.party == party and site.decision == "accept" for site in run.consents)


async def _progress(
    session: AsyncSession, found: Sequence[RunView], moment: datetime
) -> list[Progress]:
    how = await progress.paces(session, found, moment)
    return [Progress(run, round(100 * run.round / run.rounds), how[run.id]) for run in found]


def _key(own: Partner, moment: datetime) -> Key | None:
    if own.delegation is None or own.revoked is not None:
        return None
    given = Delegation.from_bytes(own.delegation.payload)
    term = of_delegation(given, own.name, "accord-node renew")
    return Key(term.until, term.trouble(moment) is not None, term.until <= moment)


def _is_silent(partner: Partner, moment: datetime) -> bool:
    """Whether a machine that asks by itself has not been heard of lately."""
    if partner.status != "approved" or partner.role not in ("data-holder", "aggregator"):
        return False
    heard = None if partner.last_seen is None else parse_time(partner.last_seen)
    return heard is None or (moment - heard).total_seconds() > SILENT_S
