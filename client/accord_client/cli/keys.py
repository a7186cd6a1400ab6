"""`accord-node renew` and `accord-node revoke`: what the institution lets this node do."""

from __future__ import annotations

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import (
    Format,
    FormatOption,
    PassphraseOption,
    ReasonOption,
    RotateKeyOption,
    YesOption,
    emit,
    read_passphrase,
)

RENEW_EXAMPLE = "Example: accord-node renew (yearly; the node may run meanwhile)"
REVOKE_EXAMPLE = "Example: accord-node revoke --reason 'the server was stolen'"


def renew(
    rotate_key: RotateKeyOption = False,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Delegate the node's keys for another year; the running node goes on with its runs.

    With --rotate-key it gets new keys, and the old ones end: stop the node first. While an accepted
    run is under way, or receipts wait, that is refused, unless the old keys were revoked.
    """
    from contextlib import nullcontext

    from accord_client.lock import only_daemon
    from accord_client.rotating import clear, require_idle
    from accord_client.stores import open_stores
    from accord_common.delegating import describe, is_exchanging, renew
    from accord_common.fields import now

    opened = open_home(home)
    exchanges = rotate_key or is_exchanging(opened)
    alone = only_daemon(opened.path) if exchanges else nullcontext()
    with alone, opened.registry() as registry, open_stores(opened) as stores:
        done = renew(
            opened,
            registry,
            read_passphrase(passphrase_file),
            rotate_key=rotate_key,
            before_rotating=lambda: require_idle(opened, stores),
            moment=now(),
        )
        if done.rotated:
            clear(stores, now())
    emit(*describe(done, "accord-node enroll INVITATION", format_))


def revoke(
    reason: ReasonOption,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take back everything that this node may do, at once: its server was lost, or broken into.

    Any copy of the node's folder will do, a restored backup too: the identity key is what counts.
    Registry and aggregator take nothing more under the old keys, the node's tokens end, and runs go
    on without it. Then: renew --rotate-key, and enroll with a new invitation.
    """
    from accord_common import revoking_cli

    opened = open_home(home)
    revoking_cli.revoke(
        opened,
        reason,
        passphrase_file,
        yes=yes,
        format_=format_,
        whose=f"{opened.profile.name}'s node",
        renew="accord-node renew",
    )
