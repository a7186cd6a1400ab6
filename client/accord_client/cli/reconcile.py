"""`accord-node reconcile`: charge what this node's receipts show and its ledger lacks."""

from __future__ import annotations

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, YesOption, confirm, emit, note, table

EXAMPLE = "Example: accord-node reconcile (stop the node first, and start it again after)"


def reconcile(
    home: HomeOption = DEFAULT_HOME, yes: YesOption = False, format_: FormatOption = Format.TEXT
) -> None:
    """Charge what receipts at the registry show and the ledger lacks; then the node serves again.

    A ledger that was restored from an older copy is frozen until this is done. What is charged is
    charged for good. Receipts that wait, because node.db alone was restored, go on from those at
    the registry. Shares of rounds under way are dropped. Caps and overlaps that were set after the
    copy was made have to be set again.
    """
    from accord_client import reconciling
    from accord_client.lock import only_daemon
    from accord_client.stores import open_stores
    from accord_common.fields import now

    opened = open_home(home)
    with only_daemon(opened.path), opened.registry() as registry, open_stores(opened) as stores:
        reconciling.compare(stores, registry)
        chains = reconciling.chains(stores, registry)
        waiting = reconciling.parted(stores, chains)
        if reconciling.behind(stores) is None and not waiting:
            nothing: dict[str, object] = {"charged": 0, "entries": [], "signed_anew": 0}
            emit(nothing, format_, "The ledger lacks nothing.")
            return
        missing = reconciling.missing(stores, chains)
        entries = [
            {
                "receipt": known.hash,
                "entry": known.receipt.ledger.sequence,
                "run": known.receipt.manifest,
                "round": known.receipt.round,
                "attempt": known.receipt.attempt,
                "population": known.receipt.ledger.spend.population,
            }
            for known in missing
        ]
        rows = [
            (
                k.ledger.sequence,
                k.manifest,
                k.round + 1,
                k.attempt + 1,
                k.ledger.spend.population,
                h,
            )
            for k, h in ((known.receipt, known.hash) for known in missing)
        ]
        if rows:
            note(table("entry", "run", "round", "attempt", "population", "receipt", rows=rows))
        if waiting:
            note(f"{waiting} receipts that wait are signed anew, behind those at the registry.")
        confirm(f"Charge {len(entries)} spends, for good?", yes=yes)
        charged = reconciling.reconcile(stores, chains, now)
    emit(
        {"charged": charged, "entries": entries, "signed_anew": waiting},
        format_,
        f"Charged {charged} spends. The node may start again.",
    )
