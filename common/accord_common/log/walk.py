"""The log's records, verified one after the other: signatures, chains, spends; pure.

Guarantees, for what `Walk.take` was given in order of sequence: every record was signed by the keys
that SPEC.md's table names; every chain is whole from its first record and has no fork; a node
receipt's spend follows from manifest and agreement; a run's models form one chain; every head that
a record carries was signed by the log key that its agreement names.

Not covered: the time at which something was allowed (validity of delegations, states, leases),
which was when it was appended; a chain's missing end; and who the agreements' parties are, which is
for the caller to know (`audit`).
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from accord_common.agreement import (
    AGREEMENT,
    RESUMPTION,
    SUSPENSION,
    Agreement,
    Resumption,
    Suspension,
    Withdrawal,
    verify_agreement,
)
from accord_common.catalogue import (
    DATASET_ENTRY,
    CatalogueEntry,
    ReleasedProfile,
    verify_entry,
    verify_profile,
)
from accord_common.chain import VerifiedRun, fetch_run, verify_consent
from accord_common.enrolment import (
    DELEGATION,
    OFFER,
    REVOCATION,
    Delegation,
    Offer,
    Revocation,
    verify_delegation,
    verify_enrolment,
    verify_offer,
    verify_revocation,
)
from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.log.checkpoint import Head
from accord_common.log.runs import RunFacts, check_spend
from accord_common.manifest import MANIFEST
from accord_common.receipts import (
    RESULT,
    AggregatorReceipt,
    Consent,
    Evaluation,
    NodeReceipt,
    RunResult,
)

_MOST_RUNS = 32  # verified ones at hand; a manifest of 50 sites holds about 100 KiB
_NAMED = frozenset(
    {
        *(SUSPENSION, RESUMPTION, AGREEMENT, DELEGATION, REVOCATION, OFFER, MANIFEST, RESULT),
        DATASET_ENTRY,
    }
)


@dataclass(frozen=True, slots=True)
class Witness:
    """A head that a record carries: who signed that it saw this tree, and where it says so."""

    head: Head
    log: str
    party: str
    place: str


@dataclass(slots=True)
class Walk:
    """See the module.

    Attributes:
        facts: by manifest hash, what its receipts and its result say.
        agreements: every fully signed agreement so far, by hash.
        witnesses: heads in records, the first record for each.
    """

    facts: dict[str, RunFacts] = field(default_factory=dict)
    agreements: dict[str, Agreement] = field(default_factory=dict)
    witnesses: dict[tuple[str, int, str], Witness] = field(default_factory=dict)
    _named: dict[str, Envelope] = field(default_factory=dict)
    _identities: dict[str, str] = field(default_factory=dict)
    _heads: dict[tuple[str, ...], str] = field(default_factory=dict)
    _runs: OrderedDict[str, VerifiedRun] = field(default_factory=OrderedDict)

    def take(self, envelope: Envelope, place: str = "") -> str | None:
        """Verify the next record; return the id of the run that it belongs to, if to one.

        Args:
            envelope: the record.
            place: how it is called in what is said of it.

        Raises:
            AccordError: the first thing that does not hold.
        """
        if envelope.kind in _NAMED:
            self._named[envelope.hash] = envelope
        match envelope.kind:
            case "enrolment":
                enrolment = verify_enrolment(envelope)
                known = self._identities.setdefault(enrolment.party, enrolment.identity_key)
                _same("identity key", enrolment.identity_key, known)
            case "delegation":
                delegation = Delegation.from_bytes(envelope.payload)
                party = delegation.party
                verify_delegation(envelope, identity_key=self._identity(party), party=party)
                self._follow(envelope, delegation.previous, DELEGATION, party)
            case "revocation":
                revocation = Revocation.from_bytes(envelope.payload)
                party = revocation.party
                verify_revocation(envelope, identity_key=self._identity(party), party=party)
                self._follow(envelope, revocation.previous, DELEGATION, party)
            case "aggregator-offer":
                named = Offer.from_bytes(envelope.payload).delegation
                verify_offer(envelope, Delegation.from_bytes(self._lookup(named).payload), named)
            case "agreement":
                agreement = verify_agreement(envelope)
                self._follow(envelope, agreement.previous, AGREEMENT, agreement.id)
                self.agreements[envelope.hash] = agreement
            case "withdrawal":
                withdrawal = Withdrawal.from_bytes(envelope.payload)
                left = Agreement.from_bytes(self._lookup(withdrawal.agreement).payload)
                envelope.verify([left.party(withdrawal.party).identity_key])
                self._follow(envelope, None, "left", withdrawal.agreement, withdrawal.party)
            case "suspension" | "resumption":
                self._of_halt(envelope)
            case "dataset-entry" | "dataset-profile":
                self._of_dataset(envelope)
            case "manifest":
                run = self.run(envelope.hash)
                self._follow(envelope, None, "id", run.manifest.id)
                self._heads["run", envelope.hash] = envelope.hash
                self.facts[envelope.hash] = RunFacts(run.manifest.id, run.agreement_hash)
                return run.manifest.id
            case _:
                return self._of_run(envelope, place)
        return None

    def run(self, manifest_hash: str) -> VerifiedRun:
        """The verified run of a manifest that came before."""
        if manifest_hash not in self._runs:
            while len(self._runs) >= _MOST_RUNS:
                self._runs.popitem(last=False)
            self._runs[manifest_hash] = fetch_run(self._lookup, manifest_hash)
        return self._runs[manifest_hash]

    def _of_halt(self, envelope: Envelope) -> None:
        body: Suspension | Resumption
        if envelope.kind == SUSPENSION:
            body = Suspension.from_bytes(envelope.payload)
            named, before = body.previous, RESUMPTION
        else:
            body = Resumption.from_bytes(envelope.payload)
            named, before = body.suspension, SUSPENSION
        agreement = Agreement.from_bytes(self._lookup(body.agreement, AGREEMENT).payload)
        envelope.verify([agreement.party(body.party).identity_key])
        if named is not None:
            self._lookup(named, before)
        self._follow(envelope, named, SUSPENSION, body.agreement, body.party)

    def _of_dataset(self, envelope: Envelope) -> None:
        if envelope.kind == DATASET_ENTRY:
            entry = CatalogueEntry.from_bytes(envelope.payload)
            verify_entry(envelope, self._delegation(entry.delegation))
            self._follow(envelope, entry.previous, DATASET_ENTRY, entry.party, entry.dataset)
            return
        told = ReleasedProfile.from_bytes(envelope.payload)
        entry = CatalogueEntry.from_bytes(self._lookup(told.entry, DATASET_ENTRY).payload)
        agreement = Agreement.from_bytes(self._lookup(told.agreement, AGREEMENT).payload)
        verify_profile(envelope, self._delegation(told.delegation), entry, agreement)
        self._follow(envelope, told.previous, "profile", told.party, told.dataset, told.agreement)

    def _delegation(self, record_hash: str) -> Delegation:
        return Delegation.from_bytes(self._lookup(record_hash, DELEGATION).payload)

    def _of_run(self, envelope: Envelope, place: str) -> str:
        match envelope.kind:
            case "consent":
                consent = Consent.from_bytes(envelope.payload)
                run = self.run(consent.manifest)
                verify_consent(envelope, run)
                self._follow(envelope, None, "site", consent.manifest, consent.party)
                self._witness(consent.log, run, consent.party, place)
            case "node-receipt":
                receipt = NodeReceipt.from_bytes(envelope.payload)
                run = self.run(receipt.manifest)
                check_spend(receipt, run)
                envelope.verify([run.delegations[receipt.party].node_key])
                chain = ("site", receipt.manifest, receipt.party)
                self._follow(envelope, receipt.previous, *chain)
                self._witness(receipt.log, run, receipt.party, place)
                self.facts[receipt.manifest].take_receipt(receipt, place)
            case "aggregator-receipt":
                said = AggregatorReceipt.from_bytes(envelope.payload)
                run = self._of_aggregator(envelope, said.manifest, said.previous)
                self.facts[said.manifest].take_attempt(said, run)
            case "result":
                result = RunResult.from_bytes(envelope.payload)
                run = self._of_aggregator(envelope, result.manifest, result.previous)
                self.facts[result.manifest].take_result(result, place)
            case "evaluation":
                evaluation = Evaluation.from_bytes(envelope.payload)
                run = self.run(evaluation.manifest)
                (coordinator,) = run.agreement.with_role("coordinator")
                envelope.verify([coordinator.identity_key])
                measured = RunResult.from_bytes(self._lookup(evaluation.result, RESULT).payload)
                _same("manifest", measured.manifest, evaluation.manifest)
                _same("model", measured.model or "", evaluation.model)
            case _:
                raise VerificationError("wrong-kind", f"a {envelope.kind} is no record of the log")
        return run.manifest.id

    def _of_aggregator(self, envelope: Envelope, manifest: str, previous: str) -> VerifiedRun:
        run = self.run(manifest)
        envelope.verify([run.manifest.aggregator.receipt_key])
        self._follow(envelope, previous, "run", manifest)
        return run

    def _witness(self, head: Head | None, run: VerifiedRun, party: str, place: str) -> None:
        if head is None:
            return
        log = run.agreement.log_key
        key = (log, head.size, head.root)
        if key not in self.witnesses:
            head.verify(log)
            name = run.agreement.party(party).name
            self.witnesses[key] = Witness(head, log, name, place)

    def _identity(self, party: str) -> str:
        if party not in self._identities:
            raise VerificationError("missing-predecessor", f"party {party} has not enrolled")
        return self._identities[party]

    def _lookup(self, record_hash: str, kind: str | None = None) -> Envelope:
        if (found := self._named.get(record_hash)) is None:
            raise VerificationError(
                "missing-predecessor", f"record {record_hash[:16]}, which it names, is not there"
            )
        if kind is not None and found.kind != kind:
            raise VerificationError("wrong-predecessor", f"a {found.kind} is no {kind}")
        return found

    def _follow(self, envelope: Envelope, named: str | None, *chain: str) -> None:
        _same("predecessor", named or "", self._heads.get(chain) or "")
        self._heads[chain] = envelope.hash


def _same(what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise VerificationError(
            "wrong-predecessor",
            f"its {what} is {found[:16] or 'none'}, not {wanted[:16] or 'none'}",
        )
