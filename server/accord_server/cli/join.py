"""`accord init` and `accord enroll`: keys first, then a registry."""

from enum import StrEnum
from typing import Annotated

import typer

from accord_common.cli import Format, FormatOption, PassphraseOption, emit, read_passphrase
from accord_common.home import Home
from accord_common.joining import enrol
from accord_server.cli.options import DEFAULT_HOME, HomeOption

init_app = typer.Typer(add_completion=False)
enroll_app = typer.Typer(add_completion=False)


class OwnRole(StrEnum):
    """Roles whose folder this command makes; the others have their own."""

    COORDINATOR = "coordinator"
    AUDITOR = "auditor"


@init_app.command(
    epilog="Example: accord init --name 'Trial office' --role coordinator --jurisdiction DE "
    "--contact trial@example.org"
)
def init(
    name: Annotated[str, typer.Option(help="The party's name, as agreements will show it.")],
    role: Annotated[OwnRole, typer.Option(help="What this party does.")] = OwnRole.COORDINATOR,
    jurisdiction: Annotated[str, typer.Option(help="Country, two letters.")] = "DE",
    contact: Annotated[str, typer.Option(help="Whom partners write to.")] = "",
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make this party's keys and folder; the identity key is sealed with a passphrase.

    Data holders use `accord-node init`, the aggregator `accord aggregator init`.
    """
    passphrase = read_passphrase(passphrase_file, confirm=True)
    made = Home.create(
        home.expanduser(),
        name=name,
        role=role.value,
        jurisdiction=jurisdiction,
        contact=contact or name,
        passphrase=passphrase,
    )
    answer = {
        "home": str(made.path),
        "party": made.profile.party,
        "name": made.profile.name,
        "role": made.profile.role,
        "identity_key": made.profile.identity_key,
    }
    text = (
        f"{name}, {role.value}: {made.path}\n"
        f"identity key {made.profile.identity_key}\n"
        "Keep the passphrase safe: without it, every agreement needs a new version.\n"
        "Next: accord enroll INVITATION"
    )
    emit(answer, format_, text)


@enroll_app.command(epilog="Example: accord enroll accord-invite:eyJjYSI6...")
def enroll(
    invitation: Annotated[str, typer.Argument(help="The line that starts with accord-invite:")],
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Join the registry that an invitation names, and pin its certificate authority."""
    opened = Home.open(home.expanduser())
    joined = enrol(opened, invitation, read_passphrase(passphrase_file)).profile
    answer = {"party": joined.party, "name": joined.name, "registry": joined.registry_url}
    next_step = (
        "Next: accord partner invite --role data-holder --name NAME"
        if joined.role == "coordinator"
        else "Next: wait for the coordinator's approval."
    )
    emit(answer, format_, f"{joined.name} joined {joined.registry_url}\n{next_step}")
