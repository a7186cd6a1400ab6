"""A steward reads a proposed agreement and signs it: what the console and the page both do.

Guarantees: what is signed are the bytes that were shown, found by their whole hash; terms about own
tables that are not as they are registered are refused; the copy that was signed is kept before
anybody else has the signature, and the outbox has its line before it leaves.
"""

from dataclasses import dataclass

from accord_client.agreements import Agreements
from accord_client.catalogue import Catalogue
from accord_client.datasets import Datasets
from accord_client.outbox import FILE_NAME, Outbox
from accord_common.agreement import Agreement
from accord_common.api.client import RegistryClient
from accord_common.api.finding import agreement_to_sign, version_before
from accord_common.api.schemas import AgreementView
from accord_common.canonical import sha256_hex
from accord_common.errors import NotFoundError, PolicyError
from accord_common.home import Home
from accord_common.identity import SigningKey


@dataclass(frozen=True, slots=True)
class Proposed:
    """An agreement as its steward is shown it; `before` is the version that it replaces."""

    hash: str
    terms: Agreement
    before: Agreement | None


def propose(home: Home, own: Agreements, registry: RegistryClient, whole_hash: str) -> Proposed:
    """Fetch what a signature is asked for, verified against its hash.

    Raises:
        UsageError: `hash-incomplete`.
        VerificationError: `wrong-hash`, `wrong-kind`.
        PolicyError: `not-a-party`, `dataset-differs`, `catalogue-stricter`.
        TransportError: the registry cannot be reached.
    """
    view = agreement_to_sign(registry, whole_hash)
    terms = own.read(view.envelope, whole_hash)
    check_own_datasets(home, terms)
    return Proposed(whole_hash, terms, before(own, registry, terms))


def sign_proposed(
    home: Home, own: Agreements, registry: RegistryClient, proposed: Proposed, key: SigningKey
) -> AgreementView:
    """Sign, keep the copy, and send the signature; who still has to sign is in the answer."""
    envelope = own.sign(proposed.terms, key)
    data = envelope.to_bytes()
    outbox = Outbox(home.path / FILE_NAME, home.node_key())
    outbox.append("agreement-signature", "registry", sha256_hex(data), len(data))
    view = registry.sign_agreement(envelope)
    if not view.missing:
        own.complete(view.envelope)
    return view


def before(own: Agreements, registry: RegistryClient, terms: Agreement) -> Agreement | None:
    """The version that is replaced: the own copy, else the registry's, by its hash."""
    kept = own.signed().get(terms.previous or "")
    if kept is not None:
        return Agreement.from_bytes(kept.payload)
    try:
        return version_before(registry, terms)
    except NotFoundError:
        return None


def check_own_datasets(home: Home, agreement: Agreement) -> None:
    """Refuse terms about this institution's tables that its registrations do not bear out.

    Raises:
        PolicyError: `dataset-differs`, `catalogue-stricter`.
    """
    local = {dataset.id: dataset for dataset in Datasets.of(home.path).all()}
    for agreed in agreement.datasets:
        if agreed.owner != home.profile.party:
            continue
        dataset = local.get(agreed.id)
        found = dataset and (dataset.population, dataset.table.hash, dataset.size, dataset.unit)
        if found != (agreed.population, agreed.schema_hash, agreed.size, agreed.unit):
            raise PolicyError(
                "dataset-differs",
                f"the agreement describes {agreed.name!r} otherwise than it is registered here",
                hint="Compare with accord-node dataset show; the coordinator must amend the draft.",
            )
        Catalogue(home).check(agreed.id, agreement)
