"""Filling a bundle from a registry: records, proofs and checkpoints, all to one head.

Guarantees: what a run's or an agreement's bundle needs to be verified alone is in it, down to the
enrolments of the agreement's parties; proofs lead to the head, the checkpoint that was newest when
the collection began. Nothing is verified here: that is for whoever reads it (`audit`).
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from accord_common.agreement import (
    AGREEMENT,
    RESUMPTION,
    SUSPENSION,
    WITHDRAWAL,
    Agreement,
    Resumption,
    Suspension,
    Withdrawal,
)
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import RecordView
from accord_common.catalogue import (
    DATASET_ENTRY,
    DATASET_PROFILE,
    CatalogueEntry,
    ReleasedProfile,
)
from accord_common.enrolment import (
    DELEGATION,
    ENROLMENT,
    OFFER,
    REVOCATION,
    Delegation,
    Enrolment,
    Offer,
    Revocation,
)
from accord_common.envelope import Envelope
from accord_common.errors import FormatError
from accord_common.log.bundle import About, Entry, Joint, Writer
from accord_common.log.checkpoint import Checkpoint, Proof, verify_checkpoint
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.receipts import CONSENT, NODE_RECEIPT, Consent, NodeReceipt

_OF_AGREEMENTS: dict[str, type[Withdrawal | Suspension | Resumption | ReleasedProfile]] = {
    WITHDRAWAL: Withdrawal,
    SUSPENSION: Suspension,
    RESUMPTION: Resumption,
    DATASET_PROFILE: ReleasedProfile,
}


def collect_all(registry: RegistryClient, path: Path) -> int:
    """Write the whole log and every kept checkpoint; return the number of records."""
    head = registry.tree.checkpoint()
    size = verify_checkpoint(head).size
    with Writer(About(format=1, scope="all", subject=None, log=_log(head))) as writer:
        after = 0
        while page := registry.tree.checkpoints(after):
            for envelope in page:
                after = max(after + 1, Checkpoint.from_bytes(envelope.payload).size)
                if after < size:
                    writer.checkpoint(envelope)
        writer.checkpoint(head)
        count = 0
        for view in _listed(registry, size):
            writer.entry(_entry(view, None))
            count += 1
        writer.save(path)
    return count


def collect_run(
    registry: RegistryClient, run: str, path: Path, kept: Collection[Checkpoint] = ()
) -> int:
    """Write one run, by id, and all that it rests on; return the number of records.

    Args:
        registry: where it is.
        run: its id.
        path: the file.
        kept: checkpoints that somebody has, which the bundle shall join to its head too.
    """
    gathered = _Gathered(registry)
    gathered.add_run(run)
    return gathered.save("run", run, path, kept)


def collect_agreement(
    registry: RegistryClient, agreement: str, path: Path, kept: Collection[Checkpoint] = ()
) -> int:
    """Write an agreement, by hash, its runs, and all that they rest on; likewise."""
    gathered = _Gathered(registry)
    gathered.add(agreement)
    gathered.add_entries(agreement)
    for kind, record in _OF_AGREEMENTS.items():
        for view in _listed(registry, gathered.size, kind=kind):
            if record.from_bytes(view.envelope.payload).agreement == agreement:
                gathered.add(view.hash)
    for view in _listed(registry, gathered.size, kind=MANIFEST):
        body = RunManifest.from_bytes(view.envelope.payload)
        if body.agreement == agreement:
            gathered.add_run(body.id)
    return gathered.save("agreement", agreement, path, kept)


class _Gathered:
    """Records by sequence, each with its proof to one head."""

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._head = registry.tree.checkpoint()
        self.size = verify_checkpoint(self._head).size
        self._known: set[str] = set()
        self._entries: dict[int, Entry] = {}
        self._enrolments: dict[str, list[str]] | None = None

    def add_run(self, run: str) -> None:
        """Add what was posted for a run, and all that it names."""
        proofs = {item.sequence: item.proof for item in self._registry.tree.proofs(self.size, run)}
        views = list(_listed(self._registry, self.size, run=run))
        for view in views:
            if view.sequence not in proofs:
                raise FormatError("bad-answer", f"the registry proves no record {view.sequence}")
            self._keep(_entry(view, proofs[view.sequence]))
        for view in views:
            self._add_named(view.envelope)
            if view.kind == MANIFEST:
                self.add_entries(RunManifest.from_bytes(view.envelope.payload).agreement)

    def add_entries(self, agreement: str) -> None:
        """Add what was declared of an agreement's datasets, before it was signed and after."""
        body = Agreement.from_bytes(self._registry.record(agreement).payload)
        named = {dataset.id for dataset in body.datasets}
        for view in _listed(self._registry, self.size, kind=DATASET_ENTRY):
            if CatalogueEntry.from_bytes(view.envelope.payload).dataset in named:
                self.add(view.hash)

    def add(self, record_hash: str) -> None:
        """Add a record, and all that it names, directly or through others."""
        waiting = [record_hash]
        while waiting:
            name = waiting.pop()
            if name in self._known:
                continue
            found = self._registry.tree.inclusion(name, self.size)
            envelope = self._registry.record(name)
            self._keep(
                Entry(
                    sequence=found.sequence, leaf=found.leaf, envelope=envelope, proof=found.proof
                )
            )
            waiting += self._named(envelope)

    def save(self, scope: str, subject: str, path: Path, kept: Collection[Checkpoint]) -> int:
        """Write the bundle; return the number of records."""
        about = About.model_validate(
            {"format": 1, "scope": scope, "subject": subject, "log": _log(self._head)}
        )
        with Writer(about) as writer:
            writer.checkpoint(self._head)
            for _, entry in sorted(self._entries.items()):
                writer.entry(entry)
            held = {checkpoint.size for checkpoint in kept}
            for size in sorted(_witnessed(self._entries.values()) | held):
                if size < self.size:
                    proof = self._registry.tree.consistency(size, self.size)
                    writer.joint(Joint(size=size, proof=proof))
            writer.save(path)
        return len(self._entries)

    def _keep(self, entry: Entry) -> None:
        self._known.add(entry.envelope.hash)
        self._entries[entry.sequence] = entry

    def _add_named(self, envelope: Envelope) -> None:
        for name in self._named(envelope):
            self.add(name)

    def _named(self, envelope: Envelope) -> list[str]:
        """The records that one names, but for those of its own run."""
        match envelope.kind:
            case _ if envelope.kind == MANIFEST:
                manifest = RunManifest.from_bytes(envelope.payload)
                sites = [site.delegation for site in manifest.roster]
                return [manifest.agreement, manifest.aggregator.offer, *sites]
            case _ if envelope.kind == OFFER:
                return [Offer.from_bytes(envelope.payload).delegation]
            case _ if envelope.kind == DELEGATION:
                before = Delegation.from_bytes(envelope.payload).previous
                return [] if before is None else [before]
            case _ if envelope.kind == REVOCATION:
                return [Revocation.from_bytes(envelope.payload).previous]
            case _ if envelope.kind == WITHDRAWAL:
                return [Withdrawal.from_bytes(envelope.payload).agreement]
            case _ if envelope.kind == SUSPENSION:
                halt = Suspension.from_bytes(envelope.payload)
                return [halt.agreement] + ([] if halt.previous is None else [halt.previous])
            case _ if envelope.kind == RESUMPTION:
                end = Resumption.from_bytes(envelope.payload)
                return [end.agreement, end.suspension]
            case _ if envelope.kind == DATASET_ENTRY:
                entry = CatalogueEntry.from_bytes(envelope.payload)
                return [entry.delegation] + ([] if entry.previous is None else [entry.previous])
            case _ if envelope.kind == DATASET_PROFILE:
                told = ReleasedProfile.from_bytes(envelope.payload)
                named = [told.delegation, told.entry, told.agreement]
                return named + ([] if told.previous is None else [told.previous])
            case _ if envelope.kind == AGREEMENT:
                agreement = Agreement.from_bytes(envelope.payload)
                earlier = [] if agreement.previous is None else [agreement.previous]
                return earlier + [
                    name for party in agreement.parties for name in self._enrolled(party.id)
                ]
            case _:
                return []

    def _enrolled(self, party: str) -> list[str]:
        if self._enrolments is None:
            self._enrolments = {}
            for view in _listed(self._registry, self.size, kind=ENROLMENT):
                body = Enrolment.from_bytes(view.envelope.payload)
                self._enrolments.setdefault(body.party, []).append(view.hash)
        return self._enrolments.get(party, [])


def _listed(
    registry: RegistryClient, size: int, kind: str | None = None, run: str | None = None
) -> Iterator[RecordView]:
    """Records of the tree of `size`, in order."""
    after = 0
    while page := registry.records(after, kind=kind, run=run):
        for view in page:
            if view.sequence <= after:
                raise FormatError("bad-answer", f"record {view.sequence} comes after {after}")
            after = view.sequence
            if after > size:
                return
            yield view


def _entry(view: RecordView, proof: Proof | None) -> Entry:
    return Entry(sequence=view.sequence, leaf=view.leaf, envelope=view.envelope, proof=proof)


def _witnessed(entries: Iterable[Entry]) -> set[int]:
    """Sizes of the heads that records carry."""
    sizes = set()
    for entry in entries:
        payload = entry.envelope.payload
        if entry.envelope.kind == CONSENT:
            head = Consent.from_bytes(payload).log
        elif entry.envelope.kind == NODE_RECEIPT:
            head = NodeReceipt.from_bytes(payload).log
        else:
            continue
        if head is not None:
            sizes.add(head.size)
    return sizes


def _log(head: Envelope) -> str:
    return Checkpoint.from_bytes(head.payload).log
