"""`accord-node init` and `accord-node enroll`: keys and ledger first, then a registry."""

from typing import Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, PassphraseOption, emit, read_passphrase

INIT_EXAMPLE = (
    "Example: accord-node init --name 'Hospital A' --jurisdiction DE --contact trial@a.example"
)
ENROLL_EXAMPLE = "Example: accord-node enroll accord-invite:eyJjYSI6..."


def init(
    name: Annotated[str, typer.Option(help="The institution's name, as agreements show it.")],
    jurisdiction: Annotated[
        str, typer.Option(help="The institution's country, two letters, as agreements show it.")
    ],
    contact: Annotated[str, typer.Option(help="Whom partners write to.")] = "",
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make the institution's keys, an empty privacy ledger and the node's folder.

    The identity key is sealed with a passphrase and signs agreements; the daemon never uses it. The
    daemon's own keys are delegated for a year.
    """
    import shutil

    from accord_client.ledger import Ledger
    from accord_client.stores import LEDGER_FILE
    from accord_common.home import Home

    passphrase = read_passphrase(passphrase_file, confirm=True)
    made = Home.create(
        home.expanduser(),
        name=name,
        role="data-holder",
        jurisdiction=jurisdiction,
        contact=contact or name,
        passphrase=passphrase,
    )
    try:
        Ledger.create(made.path / LEDGER_FILE, made.node_key()).close()
    except BaseException:
        shutil.rmtree(made.path)  # the folder is whole or not at all
        raise
    profile = made.profile
    emit(
        {
            "home": str(made.path),
            "party": profile.party,
            "name": profile.name,
            "role": profile.role,
            "identity_key": profile.identity_key,
        },
        format_,
        f"{profile.name}: {made.path}\n"
        f"identity key {profile.identity_key}\n"
        "Keep the passphrase safe: without it, every agreement needs a new version.\n"
        "Back it up every day (accord-node backup FILE); never use an older copy of the folder.\n"
        "Next: accord-node enroll INVITATION",
    )


def enroll(
    invitation: Annotated[str, typer.Argument(help="The line that starts with accord-invite:")],
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Join the registry that an invitation names, and pin its certificate authority."""
    from accord_common.joining import enrol

    joined = enrol(open_home(home), invitation, read_passphrase(passphrase_file)).profile
    emit(
        {"party": joined.party, "name": joined.name, "registry": joined.registry_url},
        format_,
        f"{joined.name} joined {joined.registry_url}\n"
        "The coordinator must approve it now; compare the identity key with them by phone:\n"
        f"  {joined.identity_key}\n"
        "Next: accord-node dataset add FILE --schema SCHEMA --name NAME --size N",
    )
