"""A registry that lies about partners, offers, schemas or agreements starts no run."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from accord_common.agreement import Agreement
from accord_common.api.client import RegistryClient
from accord_common.api.dataset_schemas import CatalogueView
from accord_common.api.membership import Partner
from accord_common.api.schemas import AgreementView, OfferView
from accord_common.enrolment import Offer
from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.fields import format_time, now
from accord_common.identity import SigningKey
from accord_server.coordinator import desk
from tests.server.cli.office import Office


class Lying(RegistryClient):
    """The client of a registry whose answers were exchanged."""

    told_partners: list[Partner] | None = None
    told_offers: list[OfferView] | None = None
    told_datasets: list[CatalogueView] | None = None
    told_agreements: list[AgreementView] | None = None

    def partners(self) -> list[Partner]:
        return super().partners() if self.told_partners is None else self.told_partners

    def offers(self) -> list[OfferView]:
        return super().offers() if self.told_offers is None else self.told_offers

    def datasets(
        self, duo: str | None = None, party: str | None = None, column: str | None = None
    ) -> list[CatalogueView]:
        return super().datasets() if self.told_datasets is None else self.told_datasets

    def agreements(self) -> list[AgreementView]:
        return super().agreements() if self.told_agreements is None else self.told_agreements


@pytest.fixture
def liar(office: Office) -> Iterator[Lying]:
    token = (office.home / "token").read_text()
    with Lying(office.url, office.ca_pem, token) as client:
        yield client


def agreement_of(liar: Lying) -> Agreement:
    return desk.active_agreement(liar, "Tumour screening")[1]


def delegate(liar: Lying, office: Office, envelope: Envelope | None) -> AccordError | None:
    """Try to start with this as the first hospital's delegation."""
    agreement, hospital = agreement_of(liar), office.world.hospitals[0]
    liar.told_partners = [
        partner.model_copy(update={"delegation": envelope})
        if partner.id == hospital.id
        else partner
        for partner in RegistryClient.partners(liar)
    ]
    try:
        desk.delegation_hashes(liar, agreement, agreement.datasets, now())
    except AccordError as error:
        return error
    return None


def test_delegations_must_come_from_the_agreed_keys(office: Office, liar: Lying) -> None:
    hospital = office.world.hospitals[0]
    assert delegate(liar, office, office.world.delegations[hospital.id]) is None
    stranger = replace(hospital, identity=SigningKey.generate()).delegation()
    neighbour = office.world.delegations[office.world.hospitals[1].id]
    expired = hospital.delegation(
        valid_from=format_time(now() - timedelta(days=9)),
        valid_until=format_time(now() - timedelta(days=8)),
    )
    keyless = hospital.delegation(flower_key=None)
    for envelope, code in (
        (stranger, "missing-signature"),
        (neighbour, "missing-signature"),
        (expired, "delegation-expired"),
        (keyless, "no-flower-key"),
        (None, "no-delegation"),
    ):
        error = delegate(liar, office, envelope)
        assert error is not None and error.code == code


def view(envelope: Envelope) -> OfferView:
    offer = Offer.from_bytes(envelope.payload)
    return OfferView(hash=envelope.hash, offer=offer, envelope=envelope, last_seen=offer.created)


def test_an_offer_must_come_from_the_agreed_aggregator(office: Office, liar: Lying) -> None:
    agreement, world = agreement_of(liar), office.world
    impostor = replace(world.aggregator, node=SigningKey.generate())
    forged = view(replace(world, aggregator=impostor).run_keys().offer)
    liar.told_offers = [forged]
    with pytest.raises(AccordError, match="missing-signature"):
        desk.fresh_offer(liar, agreement, now())
    other = replace(world.aggregator, id=world.hospitals[0].id)
    elsewhere = replace(world, aggregator=other)
    liar.told_offers = [view(elsewhere.run_keys().offer)]
    with pytest.raises(AccordError, match="no-offer"):
        desk.fresh_offer(liar, agreement, now())


def test_a_good_offer_behind_a_forged_one_is_found(office: Office, liar: Lying) -> None:
    world = office.world
    impostor = replace(world.aggregator, node=SigningKey.generate())
    good = view(world.run_keys().offer)
    liar.told_offers = [view(replace(world, aggregator=impostor).run_keys().offer), good]
    found, offer = desk.fresh_offer(liar, agreement_of(liar), now())
    assert (found, offer) == (good.hash, good.offer)


def test_a_schema_counts_by_its_hash(office: Office, liar: Lying) -> None:
    (honest, *_) = RegistryClient.datasets(liar)
    assert desk.schema_of(liar, honest.schema_hash) == honest.table
    wider = honest.table.model_copy(update={"minimum_rows": 21})
    liar.told_datasets = [honest.model_copy(update={"table": wider})]
    with pytest.raises(AccordError, match="unknown-schema"):
        desk.schema_of(liar, honest.schema_hash)


def test_an_agreement_called_active_must_carry_every_signature(office: Office, liar: Lying) -> None:
    (honest,) = RegistryClient.agreements(liar)
    partly = office.world.partly_signed(*office.world.actors[:-1])
    liar.told_agreements = [honest.model_copy(update={"envelope": partly})]
    with pytest.raises(AccordError, match="missing-signature"):
        agreement_of(liar)
