"""`accord people`: the persons who speak for this party, in a browser or with a token.

They are of the folder's party, whichever it is: `--home` takes a node's folder too.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from accord_common.api.access_schemas import PersonInvitation, PersonView
from accord_common.api.client import RegistryClient
from accord_common.cli import Format, FormatOption, emit, read_passphrase, table, verbs
from accord_common.errors import NotFoundError
from accord_common.home import Home
from accord_server.cli.options import DEFAULT_HOME, HomeOption

PASSWORD_VARIABLE = "ACCORD_PASSWORD"

app = verbs("Invite persons, and say what they may do.")


class PersonRole(StrEnum):
    """Roles of persons."""

    OWNER = "owner"
    COORDINATOR = "coordinator"
    STEWARD = "steward"
    AUDITOR = "auditor"


PersonArgument = Annotated[str, typer.Argument(help="Login or id.")]
RoleOption = Annotated[
    PersonRole,
    typer.Option(
        help="owner: accounts and tokens; coordinator: runs; steward: looks, at the own "
        "institution's; auditor: reads everything."
    ),
]
PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file", help=f"File with the password; else ${PASSWORD_VARIABLE}, else asked."
    ),
]


@app.command(epilog="Example: accord people invite ada@example.org --name 'Ada L.' --role owner")
def invite(
    login: Annotated[str, typer.Argument(help="What the person signs in with; an e-mail address.")],
    name: Annotated[str, typer.Option(help="The person's name.")],
    role: RoleOption,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make an account; hand its one-time link over by a way that only the person reads."""
    with Home.open(home.expanduser()).registry() as client:
        made = client.invite_person(login, name, role.value)
    _emit_code(made, format_)


@app.command("list", epilog="Example: accord people list --format json")
def list_(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """List this party's persons."""
    with Home.open(home.expanduser()).registry() as client:
        found = client.people()
    rows = [
        [one.login, one.name, one.role, one.status, _factor(one), one.organisation] for one in found
    ]
    emit(
        found,
        format_,
        table("login", "name", "role", "status", "signs in with", "party", rows=rows),
    )


@app.command(epilog="Example: accord people show ada@example.org")
def show(
    person: PersonArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Show one person."""
    with Home.open(home.expanduser()).registry() as client:
        found = _find(client, person)
    emit(found, format_, _describe(found))


@app.command(epilog="Example: accord people role ada@example.org steward")
def role(
    person: PersonArgument,
    role: Annotated[PersonRole, typer.Argument(help="The new role.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Give a person another role; sessions and tokens end."""
    with Home.open(home.expanduser()).registry() as client:
        found = client.change_role(_find(client, person).id, role.value)
    emit(found, format_, _describe(found))


@app.command(epilog="Example: accord people disable ada@example.org")
def disable(
    person: PersonArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Shut an account, at once; sessions and tokens end."""
    with Home.open(home.expanduser()).registry() as client:
        found = client.disable_person(_find(client, person).id)
    emit(found, format_, _describe(found))


@app.command(epilog="Example: accord people enable ada@example.org")
def enable(
    person: PersonArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Open an account again, with the password that it had."""
    with Home.open(home.expanduser()).registry() as client:
        found = client.enable_person(_find(client, person).id)
    emit(found, format_, _describe(found))


@app.command(epilog="Example: accord people reset ada@example.org --second-factor")
def reset(
    person: PersonArgument,
    second_factor: Annotated[
        bool, typer.Option("--second-factor", help="Take the second factor away too.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """End a person's password, sessions and tokens; a one-time link makes the next password."""
    with Home.open(home.expanduser()).registry() as client:
        made = client.reset_person(_find(client, person).id, second_factor=second_factor)
    _emit_code(made, format_)


@app.command(epilog="Example: accord people accept CODE")
def accept(
    code: Annotated[
        str, typer.Argument(help="What invite or reset printed, behind # in the link.")
    ],
    password_file: PasswordFileOption = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Set the password by a one-time code, where there is no browser."""
    password = read_passphrase(
        password_file, confirm=True, variable=PASSWORD_VARIABLE, of="account"
    )
    with Home.open(home.expanduser()).registry() as client:
        client.set_password(code, password)
    emit({"status": "set"}, format_, "The password is set; sign in with it.")


def _find(client: RegistryClient, text: str) -> PersonView:
    people = client.people()
    for person in people:
        if text.lower() in (person.id, person.login):
            return person
    known = ", ".join(person.login for person in people) or "nobody"
    raise NotFoundError("unknown-person", f"nobody signs in as {text!r}", hint=f"Known: {known}.")


def _emit_code(made: PersonInvitation, format_: Format) -> None:
    text = (
        f"{made.link}\n\nOnce, until {made.expires}: for {made.person.name}, "
        f"{made.person.role} of {made.person.organisation}.\n"
        f"Without a browser: accord people accept {made.code}"
    )
    emit(made, format_, text)


def _factor(person: PersonView) -> str:
    ways = ["provider"] if person.provider else []
    ways += ["password"] if person.status != "invited" and not person.provider else []
    return ", ".join(ways) + (" + code" if person.second_factor else "")


def _describe(person: PersonView) -> str:
    return (
        f"{person.name}, {person.role} of {person.organisation}, {person.status}\n"
        f"id             {person.id}\n"
        f"login          {person.login}\n"
        f"signs in with  {_factor(person) or '-'}\n"
        f"since          {person.created}"
    )
