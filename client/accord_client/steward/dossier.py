"""What a steward reads before deciding: a run with its price, an agreement with what it changes.

Guarantees: a run's records come through the registry and count only as the checks of `consent` find
them; costs are the ledger's own, for all attempts at once, with what other runs may still charge
set aside. Of an agreement that was signed here the own copy is read.
"""

from dataclasses import dataclass
from datetime import datetime

from accord_client import consent, halts
from accord_client.agreements import Agreements
from accord_client.answering import Pending, look_at
from accord_client.forecasts import MANY, Forecast, foresee, of_manifest
from accord_client.signing import Proposed, propose
from accord_client.stores import Stores
from accord_common.agreement import Agreement, Dataset
from accord_common.amendments import Change, changes
from accord_common.api.client import RegistryClient
from accord_common.errors import AccordError
from accord_common.fields import parse_time
from accord_common.permissions import guessed_right
from accord_common.summaries import statement


@dataclass(frozen=True, slots=True)
class Price:
    """A run against one cap: epsilon before, after, and what guesses about one person come to."""

    forecast: Forecast
    before: float
    after: float
    guess_before: float | None
    guess_after: float | None

    @property
    def rounds_that_fit(self) -> int | None:
        """How many such rounds would fit; None for more than anybody counts."""
        found = self.forecast.rounds_that_fit
        return None if found >= MANY else found


@dataclass(frozen=True, slots=True)
class RunDossier:
    """A run that waits; `objections` is empty where it may be approved."""

    pending: Pending
    terms: Agreement | None
    prices: list[Price]
    objections: dict[str, str]

    @property
    def allowed(self) -> bool:
        """Whether the checks accept it."""
        return self.pending.considered.verdict.decision == "accept"


@dataclass(frozen=True, slots=True)
class AgreementDossier:
    """An agreement; `signed` where its own copy is kept here."""

    hash: str
    terms: Agreement
    own: list[Dataset]
    changes: list[Change] | None
    words: str
    signed: bool
    missing: list[str]
    state: str
    reasons: list[tuple[str, str]]
    own_suspension: bool


def run_dossier(stores: Stores, registry: RegistryClient, run: str) -> RunDossier:
    """Look at a run; raises as `look_at`."""
    pending = look_at(stores, registry, run)
    facts = pending.considered.facts
    found = {error.code: error.message for error in consent.objections(facts)}
    prices: list[Price] = []
    terms = None
    if facts.agreement is not None:
        terms = facts.terms
        try:
            prices = [_price(one) for one in foresee(stores, of_manifest(stores, facts.manifest))]
        except AccordError as error:  # an objection has said so, but for a cap that is missing
            found.setdefault(error.code, error.message)
    return RunDossier(pending, terms, prices, found)


def _price(forecast: Forecast) -> Price:
    rule, base = forecast.balance.rule, forecast.balance.base
    before = rule.epsilon(base)
    after = before + forecast.needs
    return Price(forecast, before, after, guessed_right(before), guessed_right(after))


def signed_dossier(own: Agreements, agreement_hash: str, now: datetime) -> AgreementDossier | None:
    """Read an agreement that was signed here; None where it was not."""
    envelope = own.signed().get(agreement_hash)
    if envelope is None:
        return None
    terms = Agreement.from_bytes(envelope.payload)
    kept = own.signed().get(terms.previous or "")
    before = None if kept is None else Agreement.from_bytes(kept.payload)
    return _dossier(own, Proposed(agreement_hash, terms, before), now)


def proposed_dossier(
    stores: Stores, registry: RegistryClient, agreement_hash: str, now: datetime
) -> AgreementDossier:
    """Read an agreement that waits for this institution's signature; raises as `propose`."""
    proposed = propose(stores.home, stores.agreements, registry, agreement_hash)
    return _dossier(stores.agreements, proposed, now)


def _dossier(own: Agreements, proposed: Proposed, now: datetime) -> AgreementDossier:
    terms, hash_ = proposed.terms, proposed.hash
    copy = own.signed().get(hash_)
    signers = frozenset() if copy is None else copy.signers
    missing = [party.name for party in terms.parties if party.identity_key not in signers]
    said = halts.suspensions(own, hash_).values()
    return AgreementDossier(
        hash=hash_,
        terms=terms,
        own=[dataset for dataset in terms.datasets if dataset.owner == own.party],
        changes=None if proposed.before is None else changes(proposed.before, terms),
        words=statement(terms, hash_, own.party, proposed.before),
        signed=copy is not None,
        missing=missing,
        state=_state(own, hash_, terms, copy is not None, missing, now),
        reasons=[(terms.party(party).name, why) for party, why in halts.reasons(own, hash_)],
        own_suspension=any(body.party == own.party for body in said),
    )


def _state(
    own: Agreements, hash_: str, terms: Agreement, signed: bool, missing: list[str], now: datetime
) -> str:
    """As far as this node knows."""
    if halted := halts.state(own, hash_):
        return halted
    if own.successor(hash_, now) is not None:
        return "superseded"
    if parse_time(terms.valid_until) <= now:
        return "expired"
    if not signed:
        return "unsigned"
    return "proposed" if missing else "active"


def signed_dossiers(own: Agreements, now: datetime) -> list[AgreementDossier]:
    """Every agreement that was signed here, the newest version first."""
    found = [signed_dossier(own, hash_, now) for hash_ in own.signed()]
    return sorted(
        (one for one in found if one is not None),
        key=lambda one: (one.terms.title, -one.terms.version),
    )
