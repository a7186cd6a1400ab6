"""`accord init` and `accord enroll`: keys first, then a registry."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from accord_common.agreement import Role
from accord_common.cli import Format, FormatOption, PassphraseOption, emit, read_passphrase
from accord_common.home import Home
from accord_common.joining import enrol
from accord_server.cli.options import (
    DEFAULT_HOME,
    ContactOption,
    CountryOption,
    HomeOption,
    InvitationArgument,
    NameOption,
)

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
    name: NameOption,
    jurisdiction: CountryOption,
    role: Annotated[OwnRole, typer.Option(help="What this party does.")] = OwnRole.COORDINATOR,
    contact: ContactOption = "",
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make this party's keys and folder; the identity key is sealed with a passphrase.

    Data holders use `accord-node init`, the aggregator `accord aggregator init`.
    """
    make_home(
        home,
        role.value,
        name=name,
        jurisdiction=jurisdiction,
        contact=contact,
        passphrase_file=passphrase_file,
        format_=format_,
        following="accord enroll INVITATION",
    )


@enroll_app.command(epilog="Example: accord enroll accord-invite:eyJjYSI6...")
def enroll(
    invitation: InvitationArgument,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Join the registry that an invitation names, and pin its certificate authority."""
    join(Home.open(home.expanduser()), invitation, passphrase_file, format_)


def make_home(
    home: Path,
    role: Role,
    *,
    name: str,
    jurisdiction: str,
    contact: str,
    passphrase_file: Path | None,
    format_: Format,
    following: str,
) -> None:
    """Make a party's folder and tell about it; `following` is the next command."""
    made = Home.create(
        home.expanduser(),
        name=name,
        role=role,
        jurisdiction=jurisdiction,
        contact=contact or name,
        passphrase=read_passphrase(passphrase_file, confirm=True),
    )
    profile = made.profile
    answer = {
        "home": str(made.path),
        "party": profile.party,
        "name": profile.name,
        "role": profile.role,
        "identity_key": profile.identity_key,
    }
    text = (
        f"{name}, {role}: {made.path}\n"
        f"identity key {profile.identity_key}\n"
        "Keep the passphrase safe: without it, every agreement needs a new version.\n"
        f"Next: {following}"
    )
    emit(answer, format_, text)


def join(home: Home, invitation: str, passphrase_file: Path | None, format_: Format) -> None:
    """Join the invitation's registry as the party of a folder, and tell what comes next."""
    joined = enrol(home, invitation, read_passphrase(passphrase_file)).profile
    answer = {"party": joined.party, "name": joined.name, "registry": joined.registry_url}
    following = (
        "Next: accord partner invite --role data-holder --name NAME"
        if joined.role == "coordinator"
        else "The coordinator must approve it now; compare the identity key with them by phone:\n"
        f"  {joined.identity_key}"
    )
    emit(answer, format_, f"{joined.name} joined {joined.registry_url}\n{following}")
