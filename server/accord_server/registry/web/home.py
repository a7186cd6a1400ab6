"""The first page, by role: what a steward, a coordinator, an auditor came for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.api.budget_schemas import ExceptionRow
from accord_common.api.membership import Partner
from accord_common.api.schemas import AgreementView, RunView
from accord_common.enrolment import Delegation
from accord_common.expiry import of_delegation
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.auth import Caller
from accord_server.registry.budgets import combining, exceptions
from accord_server.registry.budgets.exceptions import Filter
from accord_server.registry.budgets.tables import TermsRow
from accord_server.registry.paging import equal
from accord_server.registry.partners import repository as partners
from accord_server.registry.runs import repository as runs
from accord_server.registry.runs.repository import Look
from accord_server.registry.web import pace as progress
from accord_server.registry.web.budgets import Fund, funds
from accord_server.registry.web.partners import Known, is_silent, known
from accord_server.registry.web.received import Received, received

_EXCEPTIONS = 20  # on a first page; the list has the rest
_PARTNERS = 200
_PROPOSALS = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """An open run, how far it is, and how it goes."""

    run: RunView
    percent: int
    pace: progress.Pace


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
    """What is under way, what stands still, and every party; `more` parties are not here."""

    running: list[Progress]
    blocked: list[RunView]
    unsigned: list[AgreementView]
    pending: list[Partner]
    sites: list[Known]
    more: bool

    @property
    def stuck(self) -> int:
        """How many things wait for somebody."""
        return len(self.blocked) + len(self.unsigned) + len(self.pending)


@dataclass(frozen=True, slots=True)
class Auditor:
    """What does not agree, what caps have left, and what is under way.

    `more` is where the exceptions go on that are not here.
    """

    exceptions: list[ExceptionRow]
    more: str | None
    budgets: list[Fund]
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
        silent=is_silent(own, look.moment),
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
    everybody = await partners.page(session, None, _PARTNERS + 1)
    sites = [one for one in everybody[:_PARTNERS] if one.role in ("data-holder", "aggregator")]
    return Coordinator(
        running=await _progress(session, found, look.moment),
        blocked=[run for run in found if run.standing is not None],
        unsigned=await agreements.proposals(session, caller.sees, _PROPOSALS, look.moment),
        pending=[one for one in everybody if one.status == "pending"],
        sites=[known(one, look.moment) for one in sites if one.status != "pending"],
        more=len(everybody) > _PARTNERS,
    )


async def auditor(session: AsyncSession, caller: Caller, look: Look) -> Auditor:
    """Read an auditor's first page."""
    wanted = Filter(reach=caller.sees)
    found = await exceptions.page(session, wanted, None, _EXCEPTIONS + 1, look.moment)
    return Auditor(
        exceptions=found[:_EXCEPTIONS],
        more=found[_EXCEPTIONS - 1].id if len(found) > _EXCEPTIONS else None,
        budgets=await _funds(session, caller, look.moment),
        running=await _progress(session, await _open_runs(session, caller, look), look.moment),
    )


async def _open_runs(session: AsyncSession, caller: Caller, look: Look) -> list[RunView]:
    return await runs.open_runs(session, caller.sees, caller.role, look)


async def _funds(session: AsyncSession, caller: Caller, moment: datetime) -> list[Fund]:
    """Of the caps that are in force."""
    terms, spent = await combining.all_balances(session, equal((TermsRow.owner, caller.sees)))
    standing = [one for one in terms if one.status(moment) == "active"]
    return await funds(session, standing, spent, moment)


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
