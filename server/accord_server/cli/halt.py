"""`accord agreement withdraw`, `suspend` and `resume`, for all but data holders."""

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

Reason = Annotated[str, typer.Option(help="Every party will read it.")]


def withdraw(
    agreement: HashArgument,
    reason: Reason,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """End your part in an agreement for good: runs in flight stop, none can start."""
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
    emit(brief(view), format_, signatures(view))


def suspend(
    agreement: HashArgument,
    reason: Reason,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Halt an agreement for now: runs in flight stop, and none starts until you resume it."""
    opened = Home.open(home.expanduser())
    with opened.registry() as client:
        view = find_agreement(client, agreement)
        confirm(f"Suspend {view.agreement.title!r} for now?", yes=yes)
        key = opened.identity(read_passphrase(passphrase_file))
        body = Suspension(
            agreement=view.hash,
            party=opened.profile.party,
            previous=_newest_resumption(client, view.hash, opened.profile.party),
            reason=reason,
            created=format_time(now()),
        )
        client.post(sign(SUSPENSION, body, key))
        view = client.agreement(view.hash)
    emit(brief(view), format_, signatures(view))


def resume(
    agreement: HashArgument,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take your own suspension back; runs may start again once nobody suspends it."""
    opened = Home.open(home.expanduser())
    with opened.registry() as client:
        view = find_agreement(client, agreement)
        suspension = _own_suspension(view, opened.profile.party)
        confirm(f"Resume {view.agreement.title!r}?", yes=yes)
        key = opened.identity(read_passphrase(passphrase_file))
        body = Resumption(
            agreement=view.hash,
            party=opened.profile.party,
            suspension=suspension,
            created=format_time(now()),
        )
        client.post(sign(RESUMPTION, body, key))
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
