"""The pages of partners: who is enrolled, with which keys and releases, and what ends when.

Guarantees: keys and their terms are of the signed records that each partner's row names; a release
is what its machine says, and said to be that. Letting in and shutting out is the API's.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from accord_common.api.membership import Partner
from accord_common.authorities import fingerprint_of, read_bundle
from accord_common.enrolment import Delegation
from accord_common.expiry import WARN_DAYS, Term, of_delegation
from accord_common.fields import Id, now, parse_time
from accord_server.registry.partners import repository as partners
from accord_server.registry.settings import Settings
from accord_server.registry.tables import SuspensionRow, TrustRow
from accord_server.registry.web.visit import Signed

router = APIRouter(include_in_schema=False)

_PER_PAGE = 100
_SILENT_S = 120.0  # a node polls every 30 s at most


@dataclass(frozen=True, slots=True)
class Until:
    """When something ends: `state` is valid, ending (within `WARN_DAYS`) or over."""

    moment: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Known:
    """A partner, and what follows from its records at a moment."""

    partner: Partner
    delegation: Delegation | None
    until: Until | None
    silent: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that the registry shows, or that signed it."""

    fingerprint: str
    subject: str
    until: Until


def known(partner: Partner, moment: datetime) -> Known:
    """What a partner's newest records say at a moment."""
    given = None
    if partner.delegation is not None:
        given = Delegation.from_bytes(partner.delegation.payload)
    return Known(
        partner,
        given,
        None if given is None else _until(of_delegation(given, partner.name, ""), moment),
        is_silent(partner, moment),
    )


def is_silent(partner: Partner, moment: datetime) -> bool:
    """Whether a machine that asks by itself has not been heard of lately."""
    if partner.status != "approved" or partner.role not in ("data-holder", "aggregator"):
        return False
    heard = None if partner.last_seen is None else parse_time(partner.last_seen)
    return heard is None or (moment - heard).total_seconds() > _SILENT_S


def _until(term: Term, moment: datetime) -> Until:
    if term.until <= moment:
        return Until(term.until, "over")
    return Until(term.until, "ending" if term.trouble(moment) else "valid")


@router.get("/partners")
async def all_partners(visit: Signed, after: Annotated[Id | None, Query()] = None) -> Response:
    """Everybody who enrolled, and the registry's own certificates."""
    moment = now()
    async with visit.registry.database.read() as session:
        found = await partners.page(session, after, _PER_PAGE + 1)
    return visit.page(
        "partners.html",
        "/partners",
        live=True,
        partners=[known(one, moment) for one in found[:_PER_PAGE]],
        more=found[_PER_PAGE - 1].id if len(found) > _PER_PAGE else None,
        paged=after is not None,
        certificates=await asyncio.to_thread(_certificates, visit.registry.settings, moment),
        release=version("accord"),
        warn_days=WARN_DAYS,
        invites=visit.may("POST", "/v1/invitations"),
    )


@router.get("/partners/{party}")
async def one_partner(visit: Signed, party: Id) -> Response:
    """One partner: keys, authorities, releases."""
    moment = now()
    async with visit.registry.database.read() as session:
        row = await partners.partner_row(session, party)
        (found,) = await partners.views(session, [row])
        shut = await session.get(SuspensionRow, party)
        trusted = None
        if visit.may("GET", "/v1/trust"):
            trusted = await _trusted(session, party)
    certificates = await asyncio.to_thread(_certificates, visit.registry.settings, moment)
    return visit.page(
        "partner.html",
        "/partners",
        live=True,
        known=known(found, moment),
        head=row.delegation,
        shut=shut,
        told_why=party == visit.who.party or visit.may("GET", "/v1/trust"),
        trusted=trusted,
        own={one.fingerprint for one in certificates},
        release=version("accord"),
        manages=visit.may("POST", "/v1/partners/{party}/approve") and party != visit.who.party,
    )


async def _trusted(session: AsyncSession, party: str) -> Sequence[str]:
    row = await session.get(TrustRow, party)
    return [] if row is None else row.ca


def _certificates(settings: Settings, moment: datetime) -> list[Certificate]:
    """The server's certificate first, then the authorities."""
    server, *_ = read_bundle(settings.certificate.read_bytes())
    shown = [server, *read_bundle(settings.ca.read_bytes())]
    return [
        Certificate(
            fingerprint_of(one),
            one.subject.rfc4514_string(),
            _until(Term("", one.not_valid_after_utc, ""), moment),
        )
        for one in shown
    ]
