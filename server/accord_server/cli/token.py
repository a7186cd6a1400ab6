"""`accord token`: persons' tokens, for notebooks and other programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from accord_common.api.access_schemas import MOST_TOKEN_DAYS, TokenView
from accord_common.api.client import RegistryClient
from accord_common.cli import Format, FormatOption, emit, read_passphrase, table, verbs
from accord_common.errors import AuthError, UsageError
from accord_common.home import Home, require_new
from accord_server.cli.options import DEFAULT_HOME, HomeOption
from accord_server.cli.people import PASSWORD_VARIABLE, PasswordFileOption

app = verbs("Make and revoke persons' tokens for programs.")


class TokenScope(StrEnum):
    """What a token may."""

    READ = "read"
    AUDIT = "audit"
    RUNS = "runs"
    PARTNERS = "partners"
    PEOPLE = "people"


@app.command(
    epilog="Example: accord token create ada@example.org --name notebook --scope read --days 90"
)
def create(
    login: Annotated[str, typer.Argument(help="Whose token; the password is asked for.")],
    name: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[list[TokenScope], typer.Option(help="What it may; again for more.")],
    days: Annotated[int, typer.Option(help="Days until it ends.", min=1, max=MOST_TOKEN_DAYS)] = 90,
    password_file: PasswordFileOption = None,
    factor: Annotated[
        str, typer.Option(help="Code of the second factor; asked for where it is wanted.")
    ] = "",
    to: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Make a folder that reads with this token: for --home of every verb that signs "
            "nothing. It holds no key, so the person may take it along.",
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a token as the person that signs in; it is shown once, or put into a folder.

    The registry is that of the folder. A token may never more than its person.
    """
    folder = Home.open(home.expanduser())
    if to is not None:
        require_new(to.expanduser())
    url = folder.profile.registry_url
    if url is None:
        raise UsageError(
            "not-enrolled", "this folder has not joined a registry", hint="accord enroll INVITATION"
        )
    password = read_passphrase(password_file, variable=PASSWORD_VARIABLE, of="account")
    with RegistryClient(url, folder.ca_path.read_bytes(), network=folder.network()) as client:
        try:
            client.sign_in(login, password, factor or None)
        except AuthError as error:
            if error.code != "second-factor-required" or factor:
                raise
            code: str = typer.prompt("Code of the second factor", err=True)
            client.sign_in(login, password, code)
        try:
            made = client.make_token(name, [one.value for one in scope], days)
        finally:
            client.sign_out()
    until = f"Until {made.token.expires}; may: {', '.join(made.token.scopes)}."
    if to is None:
        emit(made, format_, f"{made.secret}\n\n{until}")
        return
    reader = folder.reader(to.expanduser(), made.secret)
    emit(
        {"folder": str(reader.path), "token": made.token},
        format_,
        f"{reader.path} reads as {login}; it holds no key. {until}\n"
        f"Next: accord audit exceptions --home {reader.path}",
    )


@app.command("list", epilog="Example: accord token list")
def list_(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """List the tokens of this party's persons; none shows its secret."""
    with Home.open(home.expanduser()).registry() as client:
        found = client.tokens()
    emit(
        found,
        format_,
        table(
            "id", "login", "name", "may", "until", "last used", rows=[_row(one) for one in found]
        ),
    )


@app.command(epilog="Example: accord token revoke 0197c0de-7a5b-7c11-8d2e-3f4a5b6c7d8e")
def revoke(
    token: Annotated[str, typer.Argument(help="Id, as token list shows it.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """End a token of one of this party's persons, at once."""
    with Home.open(home.expanduser()).registry() as client:
        client.revoke_token(token)
    emit({"id": token, "status": "revoked"}, format_, f"{token} is worth nothing now.")


def _row(one: TokenView) -> list[object]:
    return [one.id, one.login, one.name, ", ".join(one.scopes), one.expires, one.last_used]
