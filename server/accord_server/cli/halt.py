"""`accord agreement withdraw`, `suspend` and `resume`, for all but data holders."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from accord_common.agreement import (
    RESUMPTION,
    SUSPENSION,
    WITHDRAWAL,
    Resumption,
    Suspension,
    Withdrawal,
)
from accord_common.api.client import RegistryClient
from accord_common.api.finding import find_agreement
from accord_common.api.schemas import MAX_PAGE, AgreementView
from accord_common.cli import (
    Format,
    FormatOption,
    PassphraseOption,
    YesOption,
    confirm,
    emit,
    read_passphrase,
)
from accord_common.envelope import sign
from accord_common.errors import ConflictError
from accord_common.fields import format_time, now
from accord_common.home import Home
from accord_server.cli.options import DEFAULT_HOME, HashArgument, HomeOption
from accord_server.cli.signing import brief, signatures

WITHDRAW_EXAMPLE = "Example: accord agreement withdraw 3f9a0c21 --reason 'study ended'"
SUSPEND_EXAMPLE = "Example: accord agreement suspend 3f9a0c21 --reason 'an audit'"
RESUME_EXAMPLE = "Example: accord agreement resume 3f9a0c21"

_KINDS = {Withdrawal: WITHDRAWAL, Suspension: SUSPENSION, Resumption: RESUMPTION}

Reason = Annotated[str, typer.Option(help="Every party will read it.")]


Body = Withdrawal | Suspension | Resumption


def withdraw(
    agreement: HashArgument,
    reason: Reason,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """End your part in an agreement for good: runs in flight stop, none can start."""

    def body(_: RegistryClient, view: AgreementView, party: str) -> Body:
        moment = format_time(now())
        return Withdrawal(agreement=view.hash, party=party, reason=reason, created=moment)

    _say(agreement, "Withdraw from {!r} for good?", body, home, passphrase_file, yes, format_)


def suspend(
    agreement: HashArgument,
    reason: Reason,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Halt an agreement for now: runs in flight stop, and none starts until you resume it."""

    def body(client: RegistryClient, view: AgreementView, party: str) -> Body:
        return Suspension(
            agreement=view.hash,
            party=party,
            previous=_newest_resumption(client, view.hash, party),
            reason=reason,
            created=format_time(now()),
        )

    _say(agreement, "Suspend {!r} for now?", body, home, passphrase_file, yes, format_)


def resume(
    agreement: HashArgument,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take your own suspension back; runs may start again once nobody suspends it."""

    def body(_: RegistryClient, view: AgreementView, party: str) -> Body:
        suspension, moment = _own_suspension(view, party), format_time(now())
        return Resumption(agreement=view.hash, party=party, suspension=suspension, created=moment)

    _say(agreement, "Resume {!r}?", body, home, passphrase_file, yes, format_)


def _say(
    agreement: str,
    question: str,
    body: Callable[[RegistryClient, AgreementView, str], Body],
    home: Path,
    passphrase_file: Path | None,
    yes: bool,
    format_: Format,
) -> None:
    """Find the agreement, ask, sign what `body` says of it, and post that."""
    opened = Home.open(home.expanduser())
    with opened.registry() as client:
        view = find_agreement(client, agreement)
        said = body(client, view, opened.profile.party)
        confirm(question.format(view.agreement.title), yes=yes)
        key = opened.identity(read_passphrase(passphrase_file))
        client.post(sign(_KINDS[type(said)], said, key))
        view = client.agreement(view.hash)
    emit(brief(view), format_, signatures(view))


def _own_suspension(view: AgreementView, party: str) -> str:
    for halt in view.halts:
        if (halt.kind, halt.party) == ("suspension", party):
            return halt.record
    raise ConflictError("not-suspended", f"you do not suspend {view.agreement.title!r}")


def _newest_resumption(client: RegistryClient, agreement: str, party: str) -> str | None:
    """The party's last resumption of an agreement, which its next suspension follows."""
    newest, after = None, 0
    while page := client.records(after, kind=RESUMPTION):
        for record in page:
            body = Resumption.from_bytes(record.envelope.payload)
            if (body.agreement, body.party) == (agreement, party):
                newest = record.hash
        after = page[-1].sequence
        if len(page) < MAX_PAGE:
            break
    return newest
