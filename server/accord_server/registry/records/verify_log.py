"""The whole log, verified again from its first record: what a restored registry rests on.

Guarantees: sequences without a gap; kind, hash and leaf as stored; every signature by the keys that
SPEC.md's table names; every chain without a fork. Not looked at: the time at which something was
allowed (validity of delegations, states, leases), which was when it was appended.
"""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import (
    AGREEMENT,
    RESUMPTION,
    SUSPENSION,
    Agreement,
    Resumption,
    Suspension,
    Withdrawal,
)
from accord_common.chain import VerifiedRun, verify_consent
from accord_common.enrolment import (
    DELEGATION,
    Delegation,
    Offer,
    Revocation,
    verify_delegation,
    verify_enrolment,
    verify_offer,
    verify_revocation,
)
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, VerificationError
from accord_common.receipts import (
    RESULT,
    AggregatorReceipt,
    Consent,
    Evaluation,
    NodeReceipt,
    RunResult,
)
from accord_server.registry.records.append import leaf_hash
from accord_server.registry.records.lookup import RunCache, load_agreement, load_one
from accord_server.registry.tables import RecordRow

_PAGE = 500  # records read at once


class _Walk:
    """Where each chain stands: a party's delegations, a run's receipts, an agreement's versions."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._runs = RunCache()
        self._identities: dict[str, str] = {}
        self._heads: dict[tuple[str, ...], str | None] = {}

    async def take(self, envelope: Envelope) -> None:
        """Verify the next record."""
        match envelope.kind:
            case "enrolment":
                enrolment = verify_enrolment(envelope)
                known = self._identities.setdefault(enrolment.party, enrolment.identity_key)
                _same("identity key", enrolment.identity_key, known)
            case "delegation":
                delegation = Delegation.from_bytes(envelope.payload)
                party = delegation.party
                key = self._identities.get(party, "")
                verify_delegation(envelope, identity_key=key, party=party)
                self._follow(envelope, delegation.previous, DELEGATION, party)
            case "revocation":
                revocation = Revocation.from_bytes(envelope.payload)
                party = revocation.party
                key = self._identities.get(party, "")
                verify_revocation(envelope, identity_key=key, party=party)
                self._follow(envelope, revocation.previous, DELEGATION, party)
            case "aggregator-offer":
                named = Offer.from_bytes(envelope.payload).delegation
                given = Delegation.from_bytes((await self._load(named)).payload)
                verify_offer(envelope, given, named)
            case "agreement":
                agreement = Agreement.from_bytes(envelope.payload)
                envelope.verify(agreement.keys)
                self._follow(envelope, agreement.previous, AGREEMENT, agreement.id)
            case "withdrawal":
                withdrawal = Withdrawal.from_bytes(envelope.payload)
                left = await load_agreement(self._session, withdrawal.agreement)
                envelope.verify([left.party(withdrawal.party).identity_key])
            case "suspension" | "resumption":
                await self._of_halt(envelope)
            case "manifest":
                run = await self._runs.get(self._session, envelope.hash)
                self._heads["run", envelope.hash] = envelope.hash
                _same("manifest", run.manifest_hash, envelope.hash)
            case _:
                await self._of_run(envelope)

    async def _of_halt(self, envelope: Envelope) -> None:
        body: Suspension | Resumption
        if envelope.kind == SUSPENSION:
            body = Suspension.from_bytes(envelope.payload)
            named, before = body.previous, RESUMPTION
        else:
            body = Resumption.from_bytes(envelope.payload)
            named, before = body.suspension, SUSPENSION
        agreement = await load_agreement(self._session, body.agreement)
        envelope.verify([agreement.party(body.party).identity_key])
        if named is not None:
            _same("predecessor's kind", (await self._load(named)).kind, before)
        self._follow(envelope, named, SUSPENSION, body.agreement, body.party)

    async def _of_run(self, envelope: Envelope) -> None:
        match envelope.kind:
            case "consent":
                consent = Consent.from_bytes(envelope.payload)
                verify_consent(envelope, await self._run(consent.manifest))
                self._follow(envelope, None, "site", consent.manifest, consent.party)
            case "node-receipt":
                receipt = NodeReceipt.from_bytes(envelope.payload)
                run = await self._run(receipt.manifest)
                run.manifest.site(receipt.party)
                envelope.verify([run.delegations[receipt.party].node_key])
                chain = ("site", receipt.manifest, receipt.party)
                self._follow(envelope, receipt.previous, *chain)
            case "aggregator-receipt":
                await self._of_aggregator(envelope, AggregatorReceipt.from_bytes(envelope.payload))
            case "result":
                await self._of_aggregator(envelope, RunResult.from_bytes(envelope.payload))
            case "evaluation":
                evaluation = Evaluation.from_bytes(envelope.payload)
                run = await self._run(evaluation.manifest)
                (coordinator,) = run.agreement.with_role("coordinator")
                envelope.verify([coordinator.identity_key])
                _same("result's kind", (await self._load(evaluation.result)).kind, RESULT)
            case _:
                raise VerificationError("wrong-kind", f"a {envelope.kind} is no record")

    async def _of_aggregator(self, envelope: Envelope, body: AggregatorReceipt | RunResult) -> None:
        run = await self._run(body.manifest)
        envelope.verify([run.manifest.aggregator.receipt_key])
        self._follow(envelope, body.previous, "run", body.manifest)

    async def _run(self, manifest_hash: str) -> VerifiedRun:
        return await self._runs.get(self._session, manifest_hash)

    async def _load(self, record_hash: str) -> Envelope:
        return await load_one(self._session, record_hash)

    def _follow(self, envelope: Envelope, named: str | None, *chain: str) -> None:
        _same("predecessor", named or "", self._heads.get(chain) or "")
        self._heads[chain] = envelope.hash


async def verify_log(session: AsyncSession) -> tuple[int, str | None]:
    """Verify every record; return how many there are, and the last one's leaf.

    Raises:
        VerificationError: `damaged-record`, naming the first that does not hold and why.
    """
    walk, count, leaf = _Walk(session), 0, None
    while True:
        query = select(RecordRow).where(RecordRow.sequence > count).order_by(RecordRow.sequence)
        rows = list((await session.execute(query.limit(_PAGE))).scalars())
        if not rows:
            return count, leaf
        for row in rows:
            count += 1
            try:
                envelope = Envelope.from_bytes(row.envelope)
                leaf = leaf_hash(row.envelope)
                told = (row.sequence, row.kind, row.hash, row.leaf)
                if told != (count, envelope.kind, envelope.hash, leaf):
                    raise VerificationError("damaged-record", "its columns differ from its bytes")
                await walk.take(envelope)
            except AccordError as error:
                raise VerificationError(
                    "damaged-record", f"record {count} of the log does not hold: {error.message}"
                ) from error
            session.expunge(row)


def _same(what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise VerificationError(
            "wrong-predecessor",
            f"its {what} is {found[:16] or 'none'}, not {wanted[:16] or 'none'}",
        )
