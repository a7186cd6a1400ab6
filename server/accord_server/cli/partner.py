"""`accord partner`: who takes part."""

from enum import StrEnum
from typing import Annotated

import typer

from accord_common.api.membership import Partner
from accord_common.cli import Format, FormatOption, ReasonOption, emit, table, verbs
from accord_common.errors import ConflictError, NotFoundError
from accord_common.home import Home
from accord_server.cli.options import DEFAULT_HOME, HomeOption

app = verbs("Invite, list, approve and suspend partners.")


class InvitedRole(StrEnum):
    """Roles that a coordinator invites."""

    DATA_HOLDER = "data-holder"
    AGGREGATOR = "aggregator"
    AUDITOR = "auditor"


@app.command(epilog="Example: accord partner invite --role data-holder --name 'Hospital North'")
def invite(
    role: Annotated[InvitedRole, typer.Option(help="What the partner will do.")],
    name: Annotated[str, typer.Option(help="Whom the invitation is for.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a one-time invitation; hand it over by a way that only the invitee reads."""
    with Home.open(home.expanduser()).registry() as client:
        made = client.invite(role.value, name)
    answer = {"invitation": made.text, "name": name, "role": role.value, "expires": made.expires}
    verb = {
        InvitedRole.DATA_HOLDER: "accord-node enroll",
        InvitedRole.AGGREGATOR: "accord aggregator enroll",
        InvitedRole.AUDITOR: "accord enroll",
    }[role]
    text = f"{made.text}\n\nOnce, until {made.expires}. The invitee runs: {verb} INVITATION"
    emit(answer, format_, text)


@app.command("list", epilog="Example: accord partner list --format json")
def list_(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """List everybody who enrolled."""
    with Home.open(home.expanduser()).registry() as client:
        partners = client.partners()
    rows = [[p.name, p.role, p.status, p.jurisdiction, p.last_seen or "never"] for p in partners]
    emit(partners, format_, table("name", "role", "status", "country", "last seen", rows=rows))


@app.command(epilog="Example: accord partner show 'Hospital North'")
def show(
    partner: Annotated[str, typer.Argument(help="Name or id.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show one partner with its identity key, to compare by telephone before you approve it."""
    with Home.open(home.expanduser()).registry() as client:
        found = _find(client.partners(), partner)
    emit(found, format_, _describe(found))


@app.command(epilog="Example: accord partner approve 'Hospital North'")
def approve(
    partner: Annotated[str, typer.Argument(help="Name or id.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Admit a partner that has enrolled; agreements can then name it."""
    with Home.open(home.expanduser()).registry() as client:
        found = client.approve(_find(client.partners(), partner).id)
    emit(found, format_, _describe(found))


@app.command(epilog="Example: accord partner suspend 'Hospital North' --reason 'server stolen'")
def suspend(
    partner: Annotated[str, typer.Argument(help="Name or id.")],
    reason: ReasonOption,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Shut a partner out, at once: the registry takes nothing of it, runs go on without it.

    This is for the telephone call at night. The institution's own word is a revocation
    (accord-node revoke); a suspension is nobody's signature, and lasts until: partner readmit
    """
    with Home.open(home.expanduser()).registry() as client:
        found = client.suspend(_find(client.partners(), partner).id, reason)
    emit(found, format_, _describe(found))


@app.command(epilog="Example: accord partner readmit 'Hospital North'")
def readmit(
    partner: Annotated[str, typer.Argument(help="Name or id.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Let a suspended partner in again; open runs take it back when it connects."""
    with Home.open(home.expanduser()).registry() as client:
        found = client.readmit(_find(client.partners(), partner).id)
    emit(found, format_, _describe(found))


def _find(partners: list[Partner], text: str) -> Partner:
    found = [partner for partner in partners if text in (partner.id, partner.name)]
    if len(found) > 1:
        raise ConflictError(
            "ambiguous-party",
            f"{len(found)} parties are called {text!r}",
            hint=f"Give an id: {', '.join(partner.id for partner in found)}.",
        )
    if not found:
        known = ", ".join(partner.name for partner in partners)
        raise NotFoundError("unknown-party", f"no party is called {text!r}", hint=f"Known: {known}")
    return found[0]


def _describe(partner: Partner) -> str:
    return (
        f"{partner.name}, {partner.role}, {partner.status}\n"
        f"id            {partner.id}\n"
        f"identity key  {partner.identity_key}\n"
        f"country       {partner.jurisdiction}\n"
        f"contact       {partner.contact}\n"
        f"last seen     {partner.last_seen or 'never'}\n"
        f"release       {partner.software or 'not told'}"
    )
