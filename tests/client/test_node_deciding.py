"""From a manifest to a signed consent: what a node looks up, decides, stores and tells."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from accord_client import halts
from accord_client.agreements import Agreements
from accord_client.consent import Verdict
from accord_client.deciding import Considered, answer, caps_of, consider
from accord_client.stores import LEDGER_FILE, Stores
from accord_common.envelope import Envelope, sign
from accord_common.errors import (
    ConflictError,
    FormatError,
    NotFoundError,
    UsageError,
    VerificationError,
)
from accord_common.fields import now
from accord_common.manifest import MANIFEST, RunManifest
from accord_common.privacy.events import NO_PREDECESSOR
from accord_common.privacy.filter import Cap
from accord_common.receipts import CONSENT, Consent
from accord_common.vectors import update_bound
from tests.client.institutions import Institutions, make_institutions


@pytest.fixture
def three(tmp_path: Path) -> Institutions:
    return make_institutions(tmp_path)


@pytest.fixture
def stores(three: Institutions) -> Iterator[Stores]:
    with three.open(three.parties[0]) as stores:
        yield stores


def look(three: Institutions, stores: Stores, manifest: Envelope) -> Considered:
    return consider(stores, three.lookup(manifest), manifest.hash, now())


def test_an_acceptance_is_stored_with_what_it_rests_on(three: Institutions, stores: Stores) -> None:
    manifest = three.manifest()
    considered = look(three, stores, manifest)
    assert considered.verdict == Verdict("accept")
    run = answer(stores, considered, considered.verdict, "awaiting-consent", now())
    item = stores.state.next_queued()
    assert item is not None and item.envelope.kind == CONSENT
    item.envelope.verify([stores.key.public])
    consent = Consent.from_bytes(item.envelope.payload)
    assert (consent.manifest, consent.party) == (manifest.hash, stores.party)
    assert (consent.decision, consent.ledger_head) == ("accept", NO_PREDECESSOR)
    assert stores.state.record(manifest.hash) == manifest
    for site in RunManifest.from_bytes(manifest.payload).roster:
        assert stores.state.record(site.delegation) == three.world.delegations[site.party]
    assert stores.state.record(three.keys.offer.hash) == three.keys.offer
    stored = stores.state.run(run.id)
    assert stored is not None and stored.head == item.envelope.hash


def test_a_run_is_decided_once(three: Institutions, stores: Stores) -> None:
    considered = look(three, stores, three.manifest())
    answer(stores, considered, considered.verdict, "ready", now())
    with pytest.raises(ConflictError) as caught:
        answer(stores, considered, Verdict("refuse", "steward-refused", ""), "ready", now())
    assert caught.value.code == "already-decided"
    assert stores.state.queued() == 1


def test_a_run_that_waits_for_the_steward_is_decided_later(
    three: Institutions, stores: Stores
) -> None:
    considered = look(three, stores, three.manifest())
    run = considered.facts.run
    stores.state.ask(run.id, considered.facts.manifest.hash, run.title, "tumours", now())
    verdict = Verdict("refuse", "steward-refused", "not before the audit")
    answer(stores, considered, verdict, "awaiting-consent", now())
    stored = stores.state.run(run.id)
    assert stored is not None
    assert (stored.decision, stored.code) == ("refuse", "steward-refused")


def test_another_manifest_under_an_answered_id_is_refused(
    three: Institutions, stores: Stores
) -> None:
    first = three.manifest()
    three.accept(stores, first)
    run = RunManifest.from_bytes(first.payload)
    second = three.manifest(id=run.id, rounds=2)
    assert look(three, stores, second).verdict.code == "manifest-changed"


def test_a_run_over_the_budget_is_refused_without_telling_what_was_spent(
    three: Institutions, stores: Stores
) -> None:
    fits = look(three, stores, three.manifest(rounds=5, max_attempts_total=5)).facts
    spends = [fits.site, fits.run]
    assert spends
    from accord_client.consent import spend_for

    terms = three.world.agreement
    spend = spend_for(terms, fits.run, "77" * 32, stores.party, round_=0, attempt=0)
    greedy = spend.model_copy(update={"steps": 41, "noise_multiplier": "1.7"})
    stores.ledger.charge(greedy, [Cap(epsilon="100", delta="0.00001")], now)
    spent = stores.ledger.epsilon(spend.population, "0.00001")
    manifest = three.manifest(rounds=100, max_attempts_total=100)
    verdict = look(three, stores, manifest).verdict
    assert (verdict.decision, verdict.code) == ("refuse", "budget-exceeded")
    assert f"{spent:.1f}" not in verdict.reason and spend.population not in verdict.reason
    assert "100 attempts" in verdict.reason


def test_a_table_that_does_not_fit_is_refused_without_saying_how(
    three: Institutions, stores: Stores
) -> None:
    (dataset,) = stores.datasets.all()
    grown = dataset.mark.model_copy(update={"training": dataset.size + 1})
    stores.datasets.store(dataset.model_copy(update={"mark": grown}))
    considered = look(three, stores, three.manifest())
    run = answer(stores, considered, considered.verdict, "awaiting-consent", now())
    assert run.code == "dataset-outgrew-size"  # for the steward
    item = stores.state.next_queued()
    assert item is not None
    consent = Consent.from_bytes(item.envelope.payload)
    assert (consent.decision, consent.code) == ("refuse", "dataset-not-ready")
    assert not any(character.isdigit() for character in consent.reason)


def test_a_populations_tightest_cap_holds_for_all_its_tables(three: Institutions) -> None:
    datasets = three.world.agreement.model_dump()["datasets"]
    first, second = datasets[0], datasets[1]
    second["population"] = first["population"]
    first["privacy"]["epsilon_cap"], second["privacy"]["epsilon_cap"] = "1", "50"
    second["privacy"]["adjacency"] = "replace-one"
    agreement = three.world.amended(datasets=datasets).agreement_envelope

    def alone(population: str) -> list[str]:
        return [population]

    assert [cap.epsilon for cap in caps_of(agreement, first["id"], alone)] == ["1", "50"]
    assert [cap.epsilon for cap in caps_of(agreement, second["id"], alone)] == ["50", "1"]
    assert [cap.adjacency for cap in caps_of(agreement, first["id"], alone)][1] == "replace-one"
    assert len(caps_of(agreement, datasets[2]["id"], alone)) == 1


@pytest.mark.parametrize("table", ["entries", "rules"])
def test_a_damaged_ledger_refuses_without_naming_a_path(
    three: Institutions, stores: Stores, table: str
) -> None:
    with closing(sqlite3.connect(stores.home.path / LEDGER_FILE)) as db:
        db.execute(f"DROP TABLE {table}")
    verdict = look(three, stores, three.manifest()).verdict
    assert (verdict.decision, verdict.code) == ("refuse", "ledger-unusable")
    assert str(stores.home.path) not in verdict.reason


def test_a_bound_that_cannot_be_written_is_refused(three: Institutions, stores: Stores) -> None:
    local = RunManifest.from_bytes(three.manifest().payload).local.model_dump()
    secagg = RunManifest.from_bytes(three.manifest().payload).secagg.model_dump()
    for rate in ("9999999999999999", "0.000000000000000000000001"):
        wild = three.manifest(local=local | {"learning_rate": rate}, secagg=secagg)
        assert look(three, stores, wild).verdict.code in {"bad-bound", "scale-does-not-follow"}
    with pytest.raises(UsageError):
        update_bound(
            steps=5,
            learning_rate="9999999999999999",
            clip="1000000",
            noise_multiplier="9999",
            sampling_rate="0.001",
            population=1,
            dimension=3,
        )


def test_only_the_own_copy_of_the_agreement_counts(three: Institutions, stores: Stores) -> None:
    path = stores.home.path / "agreements" / f"{three.world.agreement_hash}.json"
    path.unlink()
    manifest = three.manifest()
    assert look(three, stores, manifest).verdict.code == "agreement-not-signed"
    others = three.world.partly_signed(three.world.coordinator, three.world.aggregator)
    path.write_bytes(others.to_bytes())  # somebody put it there: no signature of this institution
    assert look(three, stores, manifest).verdict.code == "agreement-not-signed"
    own = Agreements.of(stores.home)
    own.sign(three.world.agreement, three.actor(stores.party).identity)
    assert look(three, stores, manifest).verdict.code == "missing-signature"


def test_a_withdrawn_or_replaced_agreement_is_refused(three: Institutions, stores: Stores) -> None:
    manifest = three.manifest()
    newer = three.world.next_version()
    stores.agreements.sign(newer.agreement, three.actor(stores.party).identity)
    stores.agreements.complete(newer.agreement_envelope)
    assert look(three, stores, manifest).verdict.code == "agreement-superseded"
    halts.keep(stores.agreements, three.world.withdrawal(three.world.aggregator))
    assert look(three, stores, manifest).verdict.code == "agreement-withdrawn"


def test_a_registry_that_keeps_records_back_gets_a_refusal(
    three: Institutions, stores: Stores
) -> None:
    manifest = three.manifest()

    def only_manifest(record_hash: str) -> Envelope:
        if record_hash != manifest.hash:
            raise NotFoundError("unknown-record", record_hash)
        return manifest

    verdict = consider(stores, only_manifest, manifest.hash, now()).verdict
    assert (verdict.decision, verdict.code) == ("refuse", "delegation-missing")


def test_a_registry_that_exchanges_the_manifest_gets_no_answer(
    three: Institutions, stores: Stores
) -> None:
    asked, other = three.manifest(), three.manifest(rounds=2)
    with pytest.raises(VerificationError):
        consider(stores, lambda _: other, asked.hash, now())


def test_what_is_no_manifest_or_not_for_us_gets_no_answer(
    three: Institutions, stores: Stores
) -> None:
    with pytest.raises(FormatError):
        look(three, stores, three.keys.offer)
    body = RunManifest.from_bytes(three.manifest().payload)
    roster = [site for site in body.roster if site.party != stores.party]
    without = sign(
        MANIFEST, body.model_copy(update={"roster": roster}), three.world.coordinator.identity
    )
    with pytest.raises(NotFoundError):
        look(three, stores, without)


def test_a_monstrous_architecture_costs_no_memory(three: Institutions, stores: Stores) -> None:
    """2^16 x 2^16 x 31 weights would be 500 GiB: they are counted, not made."""
    architecture = {"name": "mlp", "args": {"hidden": [65_536] * 32}}
    verdict = look(three, stores, three.manifest(architecture=architecture)).verdict
    assert verdict.code == "layout-does-not-follow"


def test_a_missing_dataset_or_task_is_refused(three: Institutions, stores: Stores) -> None:
    task = {"name": "tabular-binary", "distribution": "accord", "version": "0.1.0"}
    strange = three.manifest(task=task | {"code_hash": "ab" * 32})
    assert look(three, stores, strange).verdict.code == "task-code-differs"
    (dataset,) = stores.datasets.all()
    stores.datasets.forget(dataset)
    assert look(three, stores, three.manifest()).verdict.code == "dataset-not-here"
