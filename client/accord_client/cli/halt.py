"""`accord-node agreement withdraw`, `suspend` and `resume`: the institution's own word.

Each is signed with the institution's key, holds at this node at once, with or without a daemon and
whether or not the registry can be reached, and waits on disk until the registry has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import (
    Format,
    FormatOption,
    PassphraseOption,
    YesOption,
    confirm,
    emit,
    note,
    read_passphrase,
)

if TYPE_CHECKING:
    from pathlib import Path

    from accord_client.leaving import Step

WITHDRAW_EXAMPLE = "Example: accord-node agreement withdraw 3f9a0c21 --reason 'study ended'"
SUSPEND_EXAMPLE = "Example: accord-node agreement suspend 3f9a0c21 --reason 'an audit'"
RESUME_EXAMPLE = "Example: accord-node agreement resume 3f9a0c21"

OwnHash = Annotated[
    str, typer.Argument(help="Hash of an agreement signed here, or the first digits of it.")
]
Reason = Annotated[str, typer.Option(help="Every party will read it.")]


def withdraw(
    agreement: OwnHash,
    reason: Reason,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """End your institution's part in an agreement for good; runs under it stop within a round.

    It cannot be taken back: a new agreement needs every party's signature. What was trained and
    released before stays released, and what was spent stays spent.
    """
    question = "Withdraw from it for good? Runs under it stop, and none can start."
    _say(home, agreement, "withdraw", reason, question, passphrase_file, yes, format_)


def suspend(
    agreement: OwnHash,
    reason: Reason,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Halt an agreement for now: runs under it stop within a round, and none starts until `resume`.

    A run that was stopped goes on later, with new consents, by the coordinator's `accord run
    resume`.
    """
    question = "Suspend it for now? Runs under it stop, and none starts until you resume it."
    _say(home, agreement, "suspend", reason, question, passphrase_file, yes, format_)


def resume(
    agreement: OwnHash,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take your institution's suspension back; runs may start again once nobody suspends it."""
    question = "Resume it? Runs may start again, unless another party suspends it."
    _say(home, agreement, "resume", "", question, passphrase_file, yes, format_)


def _say(
    home: Path,
    agreement: str,
    step: Step,
    reason: str,
    question: str,
    passphrase_file: Path | None,
    yes: bool,
    format_: Format,
) -> None:
    from accord_client import halts
    from accord_client.agreements import Agreements
    from accord_client.leaving import DONE, catch_up, runs_under, send, statement_of

    opened = open_home(home)
    own = Agreements.of(opened)
    hash_, terms = own.find(agreement)
    catch_up(opened, own, note)
    if halts.withdrawn(own, hash_):
        note("A party has withdrawn from this agreement already; it has ended.")
    made = statement_of(own, hash_, step, reason)
    note(f"{terms.title}, version {terms.version}, {hash_}")
    note(f"Runs under way here: {', '.join(runs_under(opened, hash_)) or 'none'}.")
    confirm(question, yes=yes)
    halts.say(own, made, opened.identity(read_passphrase(passphrase_file)))
    told = send(opened, own, note)
    where = (
        "Every party is told."
        if told
        else "The registry has yet to be told: the daemon does it as soon as it can be reached "
        "(accord-node start)."
    )
    emit(
        {"hash": hash_, "title": terms.title, "state": DONE[step], "posted": told},
        format_,
        f"{terms.title!r} is {DONE[step]} by this institution; this node acts by it from now on. "
        f"{where}",
    )
