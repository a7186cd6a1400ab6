"""Checks of a run's records, before they are appended.

What a registry can know: keys, chains, states, hashes. Whether an agreement permits the run, nodes
decide for themselves.
"""

from collections.abc import Collection

from sqlalchemy import func, select

from accord_common.chain import VerifiedRun, check_dates, verify_consent
from accord_common.envelope import Envelope
from accord_common.errors import ConflictError, PolicyError, VerificationError
from accord_common.log.checkpoint import Head
from accord_common.log.runs import check_spend
from accord_common.manifest import MANIFEST, PROTOCOL, RunManifest
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    CONSENT,
    NODE_RECEIPT,
    RESULT,
    AggregatorReceipt,
    Consent,
    Evaluation,
    NodeReceipt,
    RunResult,
)
from accord_server.registry.agreements.status import require_active
from accord_server.registry.blobs.repository import has_blob
from accord_server.registry.records.bodies import body_of
from accord_server.registry.records.lookup import load_one, run_row, verify_run
from accord_server.registry.records.posting import Posting
from accord_server.registry.runs.bars import require_admitted, require_key
from accord_server.registry.tables import (
    AgreementRow,
    ClosureRow,
    LeaseRow,
    OfferRow,
    PartnerRow,
    RoundRow,
    RunRow,
    SiteRow,
)

_AGGREGATOR_CHAIN = frozenset({MANIFEST, AGGREGATOR_RECEIPT, RESULT})
_NODE_CHAIN = frozenset({CONSENT, NODE_RECEIPT})


async def manifest(posting: Posting) -> None:
    """The coordinator signed it under an active agreement, with a fresh offer and known keys."""
    body = RunManifest.from_bytes(posting.envelope.payload)
    posting.require_role("coordinator")
    if body.protocol != PROTOCOL:
        raise VerificationError(
            "protocol-mismatch", f"protocol {body.protocol}, this registry keeps {PROTOCOL}"
        )
    run = await verify_run(posting.session, posting.envelope)
    (coordinator,) = run.agreement.with_role("coordinator")
    posting.require_signer(coordinator.id)
    await require_active(posting.session, body.agreement, posting.moment)
    check_dates(run, posting.moment)
    if await posting.session.get(RunRow, body.id) is not None:
        raise ConflictError("run-exists", f"run {body.id} has a manifest already")
    offer = await posting.session.get(OfferRow, body.aggregator.offer)
    if offer is None or offer.manifest is not None:
        raise ConflictError(
            "offer-used",
            f"offer {body.aggregator.offer[:16]} belongs to another manifest",
            hint="Sign the manifest again with an unused offer.",
        )
    named = {site.party: site.delegation for site in body.roster}
    for party, given in (named | {run.offer.party: run.offer.delegation}).items():
        partner = await posting.session.get(PartnerRow, party)
        if partner is None or partner.delegation != given:
            raise ConflictError(
                "stale-delegation",
                f"{party} has a newer delegation than the manifest, or its offer, names",
                hint="Sign the manifest again with the party's present delegation or offer.",
            )
    parties = [body.aggregator.party, *(site.party for site in body.roster)]
    await require_admitted(posting.session, parties)
    wanted = {"initial model": body.initial_model}
    if body.adaptation is not None:
        wanted["base"] = body.adaptation.base
    for what, name in wanted.items():
        if not await has_blob(posting.session, name):
            raise VerificationError(
                "missing-blob",
                f"the {what} {name[:16]} was not uploaded",
                hint="Upload it before the manifest.",
            )


async def consent(posting: Posting) -> None:
    """A site's delegated key answers, once, while the run waits or has been refused."""
    body = Consent.from_bytes(posting.envelope.payload)
    posting.require_signer(body.party)
    run = await posting.runs.get(posting.session, body.manifest)
    verify_consent(posting.envelope, run)
    check_head(body.log, run)
    run.delegations[body.party].check_valid_at(posting.moment)
    row = await run_row(posting.session, run.manifest.id)
    site = await _site(posting, row, body.party)
    require_key(site)
    if site.decision is not None:
        raise ConflictError("forked-chain", f"{body.party} answered {site.decision} before")
    closure = await posting.session.get(ClosureRow, row.id)
    if closure is not None or row.state not in {"awaiting-consent", "refused"}:
        state = row.state if closure is None else closure.state
        raise ConflictError("run-not-waiting", f"run {row.id} is {state}")
    if body.decision == "accept" and row.withdrawn is not None:
        agreement = await posting.session.get(AgreementRow, row.agreement)
        withdrawn = agreement is not None and agreement.withdrawal is not None
        raise PolicyError("agreement-withdrawn" if withdrawn else "run-stopping", row.withdrawn)


async def node_receipt(posting: Posting) -> None:
    """A site's delegated key, next in that site's chain, for a run that has started.

    Also after the run's end: what a node spent must not be lost because its line was slow.
    """
    body = body_of(NodeReceipt, posting.envelope)
    posting.require_signer(body.party)
    run = await posting.runs.get(posting.session, body.manifest)
    run.manifest.site(body.party)
    posting.envelope.verify([run.delegations[body.party].node_key])
    row = await run_row(posting.session, run.manifest.id)
    await _require_started(posting, row)
    check_spend(body, run)
    check_head(body.log, run)
    _require_round(body.round, run)
    site = await _site(posting, row, body.party)
    require_key(site)
    await posting.require_head(body.previous, site.head, _NODE_CHAIN, row.id)


async def aggregator_receipt(posting: Posting) -> None:
    """The run's receipt key, next in the aggregator's chain, from where the round before ended."""
    body = body_of(AggregatorReceipt, posting.envelope)
    run, row = await _from_aggregator(posting, body.manifest)
    await _require_started(posting, row)
    await posting.require_head(body.previous, row.head, _AGGREGATOR_CHAIN, row.id)
    _require_open(row)
    _require_round(body.round, run)
    if body.round != row.round or body.model_before != (row.model or row.initial_model):
        raise VerificationError(
            "broken-model-chain",
            f"round {body.round} attempt {body.attempt} does not start where the round before it "
            "ended",
        )
    query = select(func.max(RoundRow.attempt)).where(
        RoundRow.run == row.id, RoundRow.round == body.round
    )
    if (last := (await posting.session.execute(query)).scalar_one()) is not None:
        if body.attempt <= last:
            raise ConflictError("repeated-attempt", f"attempt {last} of round {body.round} is over")
    _require_roster(set(body.cohort) | set(body.lost) | body.refused.keys(), run)


async def result(posting: Posting) -> None:
    """The run's receipt key ends a run that is not over; only a started one can be completed.

    Where the registry has ended it, the result must say the same.
    """
    body = RunResult.from_bytes(posting.envelope.payload)
    run, row = await _from_aggregator(posting, body.manifest)
    _require_roster(body.refused.keys(), run)
    await posting.require_head(body.previous, row.head, _AGGREGATOR_CHAIN, row.id)
    _require_open(row)
    if body.status == "completed":
        await _require_started(posting, row)
    closure = await posting.session.get(ClosureRow, row.id)
    if closure is not None and (body.status, body.code) != (closure.state, closure.code):
        raise ConflictError(
            "run-over",
            f"the registry found run {row.id} {closure.state} [{closure.code}]; that is final",
            hint="Its rounds are kept: accord run resume",
        )
    if body.rounds != row.round:
        raise VerificationError(
            "wrong-round-count", f"the result says {body.rounds} rounds, receipts show {row.round}"
        )
    if body.model != row.model and (body.model is not None or body.status == "completed"):
        raise VerificationError("broken-model-chain", "the result names another model")


async def evaluation(posting: Posting) -> None:
    """The coordinator's identity key measured the model of a stored result."""
    body = Evaluation.from_bytes(posting.envelope.payload)
    posting.require_role("coordinator")
    envelope: Envelope = await load_one(posting.session, body.result)
    if envelope.kind != RESULT:
        raise VerificationError("wrong-predecessor", f"a {envelope.kind} is no {RESULT}")
    measured = RunResult.from_bytes(envelope.payload)
    run = await posting.runs.get(posting.session, measured.manifest)
    (coordinator,) = run.agreement.with_role("coordinator")
    posting.require_signer(coordinator.id)
    posting.envelope.verify([coordinator.identity_key])
    if (body.manifest, body.model) != (measured.manifest, measured.model):
        raise VerificationError("wrong-model", "the evaluation is of another model than the result")


def require_fence(held: LeaseRow, fence: int) -> None:
    """Raise ConflictError `lease-lost` unless `fence` is the newest."""
    if held.fence != fence:
        raise ConflictError(
            "lease-lost",
            f"run {held.run} is driven by {held.holder} under fence {held.fence}, not {fence}",
            hint="Two aggregators have the same files; stop one of them.",
        )


def check_head(head: Head | None, run: VerifiedRun) -> None:
    """Refuse a head that the log key never signed: `wrong-head`.

    One that it signed and that is not this log's is kept: it is evidence against this registry.
    """
    if head is not None:
        head.verify(run.agreement.log_key)


async def _from_aggregator(posting: Posting, manifest_hash: str) -> tuple[VerifiedRun, RunRow]:
    run = await posting.runs.get(posting.session, manifest_hash)
    posting.require_signer(run.manifest.aggregator.party)
    posting.envelope.verify([run.manifest.aggregator.receipt_key])
    row = await run_row(posting.session, run.manifest.id)
    lease = await posting.session.get(LeaseRow, row.id)
    closure = await posting.session.get(ClosureRow, row.id)  # then nobody drives it any more
    if posting.fence is not None and lease is not None and closure is None:
        require_fence(lease, posting.fence)
    return run, row


async def _site(posting: Posting, row: RunRow, party: str) -> SiteRow:
    site = await posting.session.get(SiteRow, (row.id, party))
    if site is None:
        raise VerificationError("not-in-roster", f"{party} is not in the roster of run {row.id}")
    return site


async def _require_started(posting: Posting, row: RunRow) -> None:
    if await posting.session.get(LeaseRow, row.id) is None:
        raise ConflictError(
            "run-not-running", f"run {row.id} is {row.state}; no aggregator has leased it"
        )


def _require_open(row: RunRow) -> None:
    if row.result is not None or row.state == "refused":
        raise ConflictError("run-over", f"run {row.id} is {row.state}; that is final")


def _require_roster(parties: Collection[str], run: VerifiedRun) -> None:
    if strays := set(parties) - {site.party for site in run.manifest.roster}:
        raise VerificationError("not-in-roster", f"{min(strays)} is not in the run's roster")


def _require_round(round_: int, run: VerifiedRun) -> None:
    if round_ >= run.manifest.rounds:
        raise VerificationError(
            "wrong-round", f"round {round_} of a run of {run.manifest.rounds} (from 0)"
        )
