"""What an attempt costs this site, its charge, and the receipt that says so.

Guarantees: what was charged is on disk before this returns; the receipt names the ledger's entry
and the record before it, and is queued as it becomes the run's newest.

Not covered: marking an attempt as begun, and what is concealed of a refusal (`session`); bringing
receipts away (`delivery`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from accord_client.consent import spend_for
from accord_client.deciding import caps_of
from accord_client.stores import Stores
from accord_client.witness import RunWitness
from accord_common.agreement import verify_agreement
from accord_common.envelope import sign
from accord_common.fields import Hash, format_time
from accord_common.manifest import RunManifest
from accord_common.privacy.events import LedgerEntry, Spend
from accord_common.privacy.filter import Cap
from accord_common.receipts import NODE_RECEIPT, NodeReceipt


@dataclass(frozen=True, slots=True)
class Charging:
    """One run's attempts at one site."""

    stores: Stores
    manifest: RunManifest
    manifest_hash: Hash
    witness: RunWitness
    clock: Callable[[], datetime]

    def check(self, round_: int, attempt: int) -> None:
        """Raise where the charge would be refused now; nothing is written.

        Raises:
            PolicyError: `budget-exceeded`, `already-charged`.
        """
        spend, caps = self._cost(round_, attempt)
        self.stores.ledger.check([spend], caps)

    def charge(self, round_: int, attempt: int) -> LedgerEntry:
        """Pay for an attempt that was begun, before the table is opened; raises as `check`."""
        spend, caps = self._cost(round_, attempt)
        entry, _ = self.stores.ledger.charge(spend, caps, self.clock)
        return entry

    def report(self, entry: LedgerEntry, *, model: Hash, upload: Hash, upload_bytes: int) -> None:
        """Sign and queue the receipt of a charged attempt."""
        run = self.stores.state.run(self.manifest.id)
        assert run is not None and run.head is not None  # an accepted run has its consent
        spend = entry.spend
        receipt = NodeReceipt(
            previous=run.head,
            manifest=self.manifest_hash,
            party=self.stores.party,
            round=spend.round,
            attempt=spend.attempt,
            model=model,
            upload=upload,
            upload_bytes=upload_bytes,
            ledger=entry,
            created=format_time(self.clock()),
            log=self.witness.carried(),
        )
        envelope = sign(NODE_RECEIPT, receipt, self.stores.key)
        self.stores.state.report(self.manifest.id, spend.round, spend.attempt, envelope)

    def _cost(self, round_: int, attempt: int) -> tuple[Spend, list[Cap]]:
        agreement = self.stores.agreements.signed().get(self.manifest.agreement)
        assert agreement is not None  # `Standing.check` saw it in this very message
        spend = spend_for(
            verify_agreement(agreement),
            self.manifest,
            self.manifest_hash,
            self.stores.party,
            round_=round_,
            attempt=attempt,
        )
        dataset = self.manifest.site(self.stores.party).dataset
        return spend, caps_of(agreement, dataset, self.stores.ledger.group)
