"""`accord agreement`: from short terms to what every party has signed."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from accord_common.agreement import AGREEMENT, Agreement
from accord_common.amendments import changes, diff_text
from accord_common.api.client import RegistryClient
from accord_common.api.finding import find_agreement, version_before
from accord_common.cli import (
    Format,
    FormatOption,
    PassphraseOption,
    YesOption,
    emit,
    table,
    verbs,
)
from accord_common.envelope import record_hash, sign
from accord_common.errors import NotFoundError
from accord_common.fields import now
from accord_common.files import replace_file
from accord_common.home import Home
from accord_common.summaries import agreement_summary
from accord_server.cli import allowed, halt
from accord_server.cli.amend import AMEND_EXAMPLE, DIFF_EXAMPLE, amend, diff, read_file
from accord_server.cli.options import DEFAULT_HOME, HashArgument, HomeOption, WholeHashArgument
from accord_server.cli.signing import brief, key_to_sign, sign_agreement, signatures
from accord_server.coordinator import documents
from accord_server.coordinator.drafting import draft as draft_agreement
from accord_server.coordinator.templates import Template, text_of, write_new
from accord_server.coordinator.terms_file import TermsFile

app = verbs("Draft, propose, show and sign agreements.")


@app.command(epilog="Example: accord agreement new --template clinical --output terms.yaml")
def new(
    template: Annotated[
        Template, typer.Option(help="What kind of institutions; each with its defaults and why.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the terms go.")] = Path(
        "terms.yaml"
    ),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write commented terms to begin with; fill in every <...>, then draft them."""
    write_new(output, text_of(template))
    emit(
        {"file": str(output), "template": template.value},
        format_,
        f"Written to {output}. Fill in every <...>, and read each number's reason.\n"
        f"Next: accord agreement draft {output} --out agreement.json",
    )


@app.command(epilog="Example: accord agreement draft terms.yaml -o agreement.json")
def draft(
    terms: Annotated[Path, typer.Argument(help="Short YAML: names instead of keys and ids.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the agreement goes.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write the full agreement that short terms mean; nothing is signed or sent."""
    written = documents.read_with_places(terms, TermsFile)
    wanted = written.content
    opened = Home.open(home.expanduser())
    with opened.registry() as client:
        made = draft_agreement(
            wanted,
            coordinator=opened.profile.party,
            partners=client.partners(),
            datasets=client.datasets(),
            log_key=client.info().log_key,
            moment=now(),
            replaced=(before := client.agreement(wanted.replaces) if wanted.replaces else None),
            source=written.source,
        )
    replace_file(out, made.to_bytes() + b"\n")
    digest = record_hash(AGREEMENT, made.to_bytes())
    next_step = f"\n\nWritten to {out}. Next: accord agreement propose {out}"
    emit(
        {"file": str(out), "hash": digest, "title": made.title, "version": made.version},
        format_,
        (f"{diff_text(before.agreement, made)}\n\n" if before else "")
        + agreement_summary(made, digest)
        + next_step,
    )


@app.command(epilog="Example: accord agreement propose agreement.json --yes")
def propose(
    file: Annotated[Path, typer.Argument(help="What `draft` wrote.")],
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Read the terms once more, sign them with the identity key, and put them to every party."""
    agreement = read_file(file)
    opened = Home.open(home.expanduser())
    question = f"Sign this as {opened.profile.name!r} and propose it?"
    with opened.registry() as client:
        before = _before(client, agreement)
        key = key_to_sign(agreement, opened, question, passphrase_file, before, yes=yes)
        view = client.propose(sign(AGREEMENT, agreement, key))
    emit(brief(view), format_, signatures(view))


@app.command("list", epilog="Example: accord agreement list")
def list_(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """List the agreements that name you."""
    with Home.open(home.expanduser()).registry() as client:
        views = client.agreements()
    rows = [
        [
            view.hash,
            view.agreement.title,
            str(view.agreement.version),
            view.status,
            f"{len(view.signed)}/{len(view.agreement.parties)}",
            view.agreement.valid_until[:10],
        ]
        for view in views
    ]
    columns = ("hash", "title", "version", "status", "signed", "until")
    emit([brief(view) for view in views], format_, table(*columns, rows=rows))


@app.command(epilog="Example: accord agreement show 3f9a0c21")
def show(
    agreement: HashArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Show an agreement in plain words, who signed it, and who is missing."""
    with Home.open(home.expanduser()).registry() as client:
        view = find_agreement(client, agreement)
        before = _before(client, view.agreement)
    found = None if before is None else changes(before, view.agreement)
    answer = brief(view) | {
        "agreement": view.agreement.to_json(),
        "changes": None if found is None else [asdict(change) for change in found],
    }
    text = [agreement_summary(view.agreement, view.hash), signatures(view)]
    if before is not None:
        text.insert(1, diff_text(before, view.agreement))
    emit(answer, format_, "\n\n".join(text))


def _before(client: RegistryClient, agreement: Agreement) -> Agreement | None:
    """The version that is replaced, where there is one and the registry shows it."""
    try:
        return version_before(client, agreement)
    except NotFoundError:
        return None


@app.command("sign", epilog="Example: accord agreement sign 3f9a0c21... (all 64 digits)")
def sign_(
    agreement: WholeHashArgument,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Sign an agreement as the party of this folder; data holders use accord-node."""
    view = sign_agreement(Home.open(home.expanduser()), agreement, passphrase_file, yes=yes)
    emit(brief(view), format_, signatures(view))


app.command(epilog=allowed.CHECK_EXAMPLE)(allowed.check)
app.command(epilog=AMEND_EXAMPLE)(amend)
app.command(epilog=DIFF_EXAMPLE)(diff)
app.command(epilog=halt.WITHDRAW_EXAMPLE)(halt.withdraw)
app.command(epilog=halt.SUSPEND_EXAMPLE)(halt.suspend)
app.command(epilog=halt.RESUME_EXAMPLE)(halt.resume)
