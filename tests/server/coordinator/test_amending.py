"""An agreement becomes terms that make its next version, and nothing else changes by itself."""

from datetime import timedelta

from accord_common.agreement import Agreement
from accord_common.amendments import changes
from accord_common.api.schemas import AgreementView
from accord_common.fields import parse_time
from accord_server.coordinator.amending import terms_of
from accord_server.coordinator.documents import decode
from accord_server.coordinator.drafting import draft
from accord_server.coordinator.terms_file import TermsFile
from tests.server.coordinator.test_drafting import dataset, partner
from tests.world import World, make_world


def again(world: World, text: str) -> Agreement:
    old = AgreementView(
        hash=world.agreement_hash,
        agreement=world.agreement,
        envelope=world.agreement_envelope,
        status="suspended",
        signed=[],
        missing=[],
    )
    return draft(
        decode(text.encode(), TermsFile, "next.yaml"),
        coordinator=world.coordinator.id,
        partners=[partner(actor, contact=actor.contact) for actor in world.actors],
        datasets=[dataset(actor) for actor in world.hospitals],
        log_key=world.log_key.public,
        moment=parse_time(world.agreement.valid_from) + timedelta(days=3),
        replaced=old,
    )


def test_terms_drafted_unchanged_differ_in_the_first_day_alone() -> None:
    world = make_world()
    terms = [item.model_dump() for item in world.agreement.datasets]
    terms[0]["privacy"]["epsilon_cap"] = "2"
    terms[1]["duo"] = ["DUO:0000007"]
    share = {world.hospitals[0].id: "0.5"}
    world = world.amended(datasets=terms, benefit={"rule": "declared-shares", "shares": share})
    text = terms_of(world.agreement, world.agreement_hash)
    made = again(world, text)
    assert [change.what for change in changes(world.agreement, made)] == ["valid from"]
    assert (made.version, made.previous) == (2, world.agreement_hash)
    wider = again(world, text.replace("retention_days: 365", "retention_days: 4000"))
    assert [change.direction for change in changes(made, wider)] == ["wider"]


def test_terms_of_one_that_ended_for_good_begin_a_new_agreement() -> None:
    world = make_world()
    text = terms_of(world.agreement, world.agreement_hash, withdrawn=True)
    made = again(world, text)
    assert (made.version, made.previous) == (1, None) and made.id != world.agreement.id
    assert [dataset.privacy for dataset in made.datasets] == [
        dataset.privacy for dataset in world.agreement.datasets
    ]
    assert world.agreement_hash in text and "until a party withdrew" in text
