"""What a run has spent, by the events that its nodes signed: a registry's figures, made anew.

Guarantees: every receipt that counts was signed by the node key that its institution delegated for
the run, stands in one chain that begins at the site's consent, and charges what manifest and
agreement say; the first one that does not is named. Pure.

Not covered: receipts that were kept back. A missing end of a chain does not show here; it shows
beside the aggregator's signed uploads, and in the ledger (`accord budget verify`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from accord_common.chain import VerifiedRun, verify_consent
from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.fields import Dec, Hash, Id
from accord_common.log.runs import check_spend
from accord_common.manifest import Site
from accord_common.privacy.accounting import Tally, bounded_up
from accord_common.privacy.events import Spend
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.report import bounded_epsilon
from accord_common.receipts import NODE_RECEIPT, NodeReceipt


@dataclass(frozen=True, slots=True)
class SiteSpending:
    """What one site's receipts show.

    Attributes:
        attempts: charged, each entry of the ledger once.
        head: the newest record of the site's chain; None where it has not answered.
        epsilon: what counts against the cap (RDP filter); None for infinity.
        fixed_plan: as a result tells it (PLD); None for infinity.
    """

    party: Id
    dataset: Id
    attempts: int
    head: Hash | None
    epsilon: Dec | None
    fixed_plan: Dec | None
    delta: Dec


def recompute(run: VerifiedRun, records: Iterable[Envelope]) -> list[SiteSpending]:
    """Verify consents and receipts of a run, and price what they charge; roster order.

    Args:
        run: verified before, with `chain.fetch_run`.
        records: the run's consents and node receipts, in any order; others are passed over.

    Raises:
        VerificationError: `broken-receipts` or `wrong-spend`, naming the record; or a signature
            does not hold.
    """
    known = list(records)
    return [_site(run, site, known) for site in run.manifest.roster]


def _site(run: VerifiedRun, site: Site, records: list[Envelope]) -> SiteSpending:
    key = run.delegations[site.party].node_key
    own = [one for one in records if one.signers == {key}]
    consents = [one for one in own if one.kind == "consent"]
    if len(consents) > 1:
        raise _broken(f"{site.party} answered twice, the second time in {consents[1].hash[:16]}")
    head = None
    for consent in consents:
        verify_consent(consent, run)
        head = consent.hash
    following = {}
    for envelope in own:
        if envelope.kind != NODE_RECEIPT:
            continue
        envelope.verify([key])
        receipt = NodeReceipt.from_bytes(envelope.payload)
        if receipt.previous in following:
            raise _broken(f"receipt {envelope.hash[:16]} follows what another one follows")
        following[receipt.previous] = envelope.hash, receipt
    spends: dict[tuple[int, int, int], Spend] = {}  # each entry of the ledger once
    while head in following:
        head, receipt = following.pop(head)
        try:
            check_spend(receipt, run)
        except VerificationError as error:
            raise VerificationError(error.code, f"receipt {head[:16]}: {error.message}") from error
        entry = receipt.ledger
        spends[receipt.round, receipt.attempt, entry.sequence] = entry.spend
    if following:
        stray, _ = next(iter(following.values()))
        raise _broken(f"receipt {stray[:16]} does not follow from the site's consent")
    delta = run.agreement.dataset(site.dataset).privacy.delta
    tally = Tally.of(spends.values())
    return SiteSpending(
        party=site.party,
        dataset=site.dataset,
        attempts=len(spends),
        head=head,
        epsilon=bounded_up(RdpFilter(Cap(epsilon="0", delta=delta)).epsilon(tally)),
        fixed_plan=bounded_up(bounded_epsilon(tally, delta)),
        delta=delta,
    )


def _broken(why: str) -> VerificationError:
    return VerificationError(
        "broken-receipts", why, hint="Keep what the registry sent: it shows who signed what."
    )
