"""The dialogue of `accord-node revoke` and `accord aggregator revoke`."""

from pathlib import Path

from accord_common import delegating
from accord_common.cli import Format, confirm, emit, read_passphrase
from accord_common.fields import now
from accord_common.home import Home


def revoke(
    home: Home,
    reason: str,
    passphrase_file: Path | None,
    *,
    yes: bool,
    format_: Format,
    whose: str,
    renew: str,
) -> None:
    """Ask, revoke, and say what comes next.

    Args:
        home: the party's folder.
        reason: for those who watch runs.
        passphrase_file: of the identity key; None asks at the terminal.
        yes: do not ask.
        format_: of the answer.
        whose: who may do nothing any more, for people.
        renew: the verb that makes new keys.
    """
    confirm(f"Revoke every key that {home.profile.name} has delegated?", yes=yes)
    passphrase = read_passphrase(passphrase_file)
    with home.registry() as registry:
        envelope = delegating.revoke(home, registry, passphrase, reason, now())
    emit(
        {"party": home.profile.party, "revocation": envelope.hash},
        format_,
        f"{whose} may do nothing any more.\n"
        f"Next: {renew} --rotate-key, and enroll with a new invitation",
    )
