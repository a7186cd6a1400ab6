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
    from collections.abc import Callable
    from pathlib import Path

    from accord_client.agreements import Agreements
    from accord_common.agreement import Resumption, Suspension, Withdrawal
    from accord_common.home import Home

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

    def body(own: Agreements, hash_: str, created: str) -> Withdrawal:
        from accord_common.agreement import Withdrawal

        return Withdrawal(agreement=hash_, party=own.party, reason=reason, created=created)

    question = "Withdraw from it for good? Runs under it stop, and none can start."
    _say(home, agreement, "withdrawn", body, question, passphrase_file, yes, format_)


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

    def body(own: Agreements, hash_: str, created: str) -> Suspension:
        from accord_client import halts
        from accord_common.agreement import Suspension

        previous = halts.newest_resumption(own, hash_)
        return Suspension(
            agreement=hash_, party=own.party, previous=previous, reason=reason, created=created
        )

    question = "Suspend it for now? Runs under it stop, and none starts until you resume it."
    _say(home, agreement, "suspended", body, question, passphrase_file, yes, format_)


def resume(
    agreement: OwnHash,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take your institution's suspension back; runs may start again once nobody suspends it."""

    def body(own: Agreements, hash_: str, created: str) -> Resumption:
        from accord_client import halts
        from accord_common.agreement import Resumption

        suspension = halts.own_suspension(own, hash_)
        return Resumption(agreement=hash_, party=own.party, suspension=suspension, created=created)

    question = "Resume it? Runs may start again, unless another party suspends it."
    _say(home, agreement, "resumed", body, question, passphrase_file, yes, format_)


def _say(
    home: Path,
    agreement: str,
    done: str,
    body: Callable[[Agreements, str, str], Withdrawal | Suspension | Resumption],
    question: str,
    passphrase_file: Path | None,
    yes: bool,
    format_: Format,
) -> None:
    from accord_client import halts
    from accord_client.agreements import Agreements
    from accord_common.fields import format_time, now

    opened = open_home(home)
    own = Agreements.of(opened)
    hash_, terms = own.find(agreement)
    _catch_up(opened, own)
    if halts.withdrawn(own, hash_):
        note("A party has withdrawn from this agreement already; it has ended.")
    made = body(own, hash_, format_time(now()))
    note(f"{terms.title}, version {terms.version}, {hash_}")
    note(_runs(opened, hash_))
    confirm(question, yes=yes)
    halts.say(own, made, opened.identity(read_passphrase(passphrase_file)))
    told = _tell(opened, own)
    where = (
        "Every party is told."
        if told
        else "The registry has yet to be told: the daemon does it as soon as it can be reached "
        "(accord-node start)."
    )
    emit(
        {"hash": hash_, "title": terms.title, "state": done, "posted": told},
        format_,
        f"{terms.title!r} is {done} by this institution; this node acts by it from now on. {where}",
    )


def _catch_up(home: Home, own: Agreements) -> None:
    """What this institution said before, from another copy of this folder, say."""
    from accord_client.registry_sync import take_halts
    from accord_common.errors import AccordError

    try:
        with home.registry() as registry:
            take_halts(own, registry, {})
    except AccordError as error:
        note(f"The registry was not asked: {error.message}")


def _tell(home: Home, own: Agreements) -> bool:
    from accord_client import halts
    from accord_client.outbox import FILE_NAME, Outbox
    from accord_common.errors import AccordError

    try:
        with home.registry() as registry:
            halts.post_waiting(own, Outbox(home.path / FILE_NAME, home.node_key()), registry)
    except AccordError as error:
        note(f"error [{error.code}]: {error.message}")
    return not halts.waiting(own)


def _runs(home: Home, agreement_hash: str) -> str:
    """Which runs that this node has accepted stand on an agreement."""
    from accord_client import state
    from accord_client.state import State
    from accord_common.api.schemas import FINAL_STATES
    from accord_common.manifest import RunManifest

    memory = State(home.path / state.FILE_NAME)
    try:
        found = [
            run.title
            for run in memory.runs()
            if run.decision == "accept"
            and run.state not in FINAL_STATES
            and RunManifest.from_bytes(memory.record(run.manifest).payload).agreement
            == agreement_hash
        ]
    finally:
        memory.close()
    return f"Runs under way here: {', '.join(found) or 'none'}."
