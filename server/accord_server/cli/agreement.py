"""`accord agreement`: from short terms to what every party has signed."""

from pathlib import Path
from typing import Annotated

import typer

from accord_common.agreement import AGREEMENT, WITHDRAWAL, Agreement, Withdrawal
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import AgreementView
from accord_common.cli import (
    Format,
    FormatOption,
    PassphraseOption,
    YesOption,
    confirm,
    emit,
    note,
    read_passphrase,
    table,
    verbs,
)
from accord_common.envelope import record_hash, sign
from accord_common.errors import NotFoundError, PolicyError, UsageError
from accord_common.fields import MAX_RECORD_BYTES, format_time, now
from accord_common.home import Home, replace_file
from accord_common.summaries import agreement_summary
from accord_server.cli.options import DEFAULT_HOME, HomeOption
from accord_server.coordinator import documents
from accord_server.coordinator.drafting import draft as draft_agreement
from accord_server.coordinator.terms_file import TermsFile

app = verbs("Draft, propose, show and sign agreements.")

HashArgument = Annotated[str, typer.Argument(help="Hash, or the first digits of it.")]


@app.command(epilog="Example: accord agreement draft terms.yaml -o agreement.json")
def draft(
    terms: Annotated[Path, typer.Argument(help="Short YAML: names instead of keys and ids.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the agreement goes.")],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write the full agreement that short terms mean; nothing is signed or sent."""
    wanted = documents.read(terms, TermsFile)
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
    _refuse_another_key(agreement, opened)
    digest = record_hash(AGREEMENT, agreement.to_bytes())
    if not yes:
        note(agreement_summary(agreement, digest))
    confirm(f"Sign this as {opened.profile.name!r} and propose it?", yes=yes)
    key = opened.identity(read_passphrase(passphrase_file))
    with opened.registry() as client:
        view = client.propose(sign(AGREEMENT, agreement, key))
    emit(_brief(view), format_, _signatures(view))


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
    emit([_brief(view) for view in views], format_, table(*columns, rows=rows))


@app.command(epilog="Example: accord agreement show 3f9a0c21")
def show(
    agreement: HashArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Show an agreement in plain words, who signed it, and who is missing."""
    with Home.open(home.expanduser()).registry() as client:
        view = _find(client, agreement)
    answer = _brief(view) | {"agreement": view.agreement.to_json()}
    emit(answer, format_, f"{agreement_summary(view.agreement, view.hash)}\n\n{_signatures(view)}")


@app.command("sign", epilog="Example: accord agreement sign 3f9a0c21")
def sign_(
    agreement: HashArgument,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Sign an agreement as the party of this folder; data holders use accord-node."""
    opened = Home.open(home.expanduser())
    with opened.registry() as client:
        view = _find(client, agreement)
        _refuse_another_key(view.agreement, opened)
        if not yes:
            note(agreement_summary(view.agreement, view.hash))
        confirm(f"Sign this as {opened.profile.name!r}?", yes=yes)
        key = opened.identity(read_passphrase(passphrase_file))
        view = client.sign_agreement(sign(AGREEMENT, view.agreement, key))
    emit(_brief(view), format_, _signatures(view))


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
        view = _find(client, agreement)
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
    emit(_brief(view), format_, f"{view.agreement.title}: {view.status}")


def _read(file: Path) -> Agreement:
    try:
        data = file.expanduser().read_bytes()
    except OSError as error:
        raise UsageError("unreadable-file", f"{file}: {error.strerror}") from error
    return Agreement.from_bytes(data.rstrip(b"\n"), max_bytes=MAX_RECORD_BYTES)


def _refuse_another_key(agreement: Agreement, home: Home) -> None:
    """A signature under terms that name another key of ours would be worth nothing."""
    profile = home.profile
    party = agreement.party(profile.party)
    if party.identity_key != profile.identity_key:
        raise PolicyError(
            "own-key-exchanged",
            f"the agreement names key {party.identity_key[:16]} for {profile.name!r}, this "
            f"folder's is {profile.identity_key[:16]}",
            hint="Do not sign; ask the coordinator how it came about.",
        )


def _find(client: RegistryClient, text: str) -> AgreementView:
    if len(text) == 64:
        return client.agreement(text)
    found = [view for view in client.agreements() if view.hash.startswith(text)]
    if len(found) != 1 or len(text) < 6:
        raise NotFoundError(
            "unknown-agreement",
            f"{len(found)} agreements have a hash that begins with {text!r}, one is needed",
            hint="Give at least 6 digits; accord agreement list",
        )
    return found[0]


def _brief(view: AgreementView) -> dict[str, object]:
    name = {party.id: party.name for party in view.agreement.parties}
    return {
        "hash": view.hash,
        "title": view.agreement.title,
        "version": view.agreement.version,
        "status": view.status,
        "signed": [name[party] for party in view.signed],
        "missing": [name[party] for party in view.missing],
        "valid_until": view.agreement.valid_until,
    }


def _signatures(view: AgreementView) -> str:
    name = {party.id: party.name for party in view.agreement.parties}
    lines = [
        f"{view.agreement.title}, version {view.agreement.version}: {view.status}",
        f"hash    {view.hash}",
        f"signed  {', '.join(name[party] for party in view.signed) or 'nobody'}",
    ]
    if view.missing:
        lines += [
            f"missing {', '.join(name[party] for party in view.missing)}",
            "",
            f"Data holders: accord-node agreement sign {view.hash[:16]}",
            f"Aggregator:   accord aggregator sign {view.hash[:16]}",
        ]
    return "\n".join(lines)
