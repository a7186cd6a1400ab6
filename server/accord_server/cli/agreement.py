"""`accord agreement`: from short terms to what every party has signed."""

from pathlib import Path
from typing import Annotated

import typer

from accord_common.agreement import AGREEMENT, WITHDRAWAL, Agreement, Withdrawal
from accord_common.api.finding import find_agreement
from accord_common.cli import (
    Format,
    FormatOption,
    PassphraseOption,
    YesOption,
    confirm,
    emit,
    read_passphrase,
    table,
    verbs,
)
from accord_common.envelope import record_hash, sign
from accord_common.errors import UsageError
from accord_common.fields import MAX_RECORD_BYTES, format_time, now
from accord_common.files import replace_file
from accord_common.home import Home
from accord_common.summaries import agreement_summary
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
            replaced=client.agreement(wanted.replaces) if wanted.replaces else None,
            source=written.source,
        )
    replace_file(out, made.to_bytes() + b"\n")
    digest = record_hash(AGREEMENT, made.to_bytes())
    next_step = f"\n\nWritten to {out}. Next: accord agreement propose {out}"
    emit(
        {"file": str(out), "hash": digest, "title": made.title, "version": made.version},
        format_,
        agreement_summary(made, digest) + next_step,
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
    agreement = _read(file)
    opened = Home.open(home.expanduser())
    question = f"Sign this as {opened.profile.name!r} and propose it?"
    key = key_to_sign(agreement, opened, question, passphrase_file, yes=yes)
    with opened.registry() as client:
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
    answer = brief(view) | {"agreement": view.agreement.to_json()}
    emit(answer, format_, f"{agreement_summary(view.agreement, view.hash)}\n\n{signatures(view)}")


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


@app.command(epilog="Example: accord agreement withdraw 3f9a0c21 --reason 'study ended'")
def withdraw(
    agreement: HashArgument,
    reason: Annotated[str, typer.Option(help="Every party will read it.")],
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """End your part in an agreement: runs in flight stop, none can start."""
    opened = Home.open(home.expanduser())
    with opened.registry() as client:
        view = find_agreement(client, agreement)
        confirm(f"Withdraw from {view.agreement.title!r} for good?", yes=yes)
        key = opened.identity(read_passphrase(passphrase_file))
        body = Withdrawal(
            agreement=view.hash,
            party=opened.profile.party,
            reason=reason,
            created=format_time(now()),
        )
        client.post(sign(WITHDRAWAL, body, key))
        view = client.agreement(view.hash)
    emit(brief(view), format_, f"{view.agreement.title}: {view.status}")


def _read(file: Path) -> Agreement:
    try:
        data = file.expanduser().read_bytes()
    except OSError as error:
        raise UsageError("unreadable-file", f"{file}: {error.strerror}") from error
    return Agreement.from_bytes(data.rstrip(b"\n"), max_bytes=MAX_RECORD_BYTES)
