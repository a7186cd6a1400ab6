"""Budgets for auditors: figures from signed events, and everything that does not agree."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest

from accord_common.api import schemas
from accord_common.api.budget_schemas import BudgetRow, ExceptionRow
from accord_common.api.client import RegistryClient
from accord_common.api.notebooks import Client
from accord_common.api.schemas import RecordView
from accord_common.enrolment import REVOCATION, Revocation
from accord_common.envelope import Envelope, sign
from accord_common.errors import UsageError, VerificationError
from accord_common.fields import format_time, now
from accord_common.identity import SigningKey
from accord_common.manifest import RunManifest
from accord_common.privacy.accounting import Tally, bounded_up
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.report import bounded_epsilon
from accord_common.receipts import NODE_RECEIPT, NodeReceipt
from accord_server.registry.budgets.exceptions import GRACE
from tests.server.registry.stack import Stack, complete, run_id
from tests.server.registry.tables import execute
from tests.world import Actor, RunKeys

CAP, DELTA = "3", "0.00001"
WEAK = {"local": {"steps": 40, "learning_rate": "0.5", "clipping_norm": "1", "clipping": "flat"}}


def tally(attempts: int, steps: int = 5) -> Tally:
    """So many attempts of the world's manifests."""
    return Tally("add-remove", (("2", "0.1", attempts * steps),) if attempts else ())


def price(attempts: int, steps: int = 5) -> float:
    """What they count against a cap."""
    return RdpFilter(Cap(epsilon=CAP, delta=DELTA)).epsilon(tally(attempts, steps))


def begin(stack: Stack, **changes: object) -> tuple[RunKeys, Envelope, dict[str, str]]:
    """A run that has been accepted and leased, with the heads of the sites' chains."""
    keys = stack.offer()
    manifest = stack.start(keys, **changes)
    heads = stack.accept(manifest)
    stack.client(stack.world.aggregator).lease(run_id(stack, manifest), "aggregator-1", 60)
    return keys, manifest, heads


def charge(
    stack: Stack, actor: Actor, manifest: Envelope, heads: dict[str, str], entry: int, round_: int
) -> str:
    """Post a receipt whose ledger entry stands at `entry`."""
    made = stack.world.node_receipt(actor, manifest, heads[actor.id], round_)
    body = NodeReceipt.from_bytes(made.payload)
    ledger = body.ledger.model_copy(update={"sequence": entry})
    envelope = sign(NODE_RECEIPT, body.model_copy(update={"ledger": ledger}), actor.node)
    heads[actor.id] = stack.client(actor).post(envelope).hash
    return envelope.hash


def one(client: RegistryClient, code: str) -> ExceptionRow:
    (found,) = client.exceptions(code=code)
    return found


def test_spent_reserved_and_left_sum_to_the_cap(stack: Stack) -> None:
    client, actor = stack.client(stack.world.coordinator), stack.world.hospitals[0]
    keys, manifest, heads = begin(stack)
    run = run_id(stack, manifest)
    for charged in range(3):
        (row,) = client.budgets(run=run, dataset=actor.dataset)
        assert (row.attempts, row.most) == (charged, 4)
        assert row.epsilon == bounded_up(price(charged))
        assert row.reserved == bounded_up(price(4) - price(charged))
        (balance,) = client.balances(dataset=actor.dataset)
        assert balance.spent == bounded_up(price(charged))
        parts = (balance.spent, balance.reserved, balance.left)
        assert sum(float(part or "nan") for part in parts) == pytest.approx(3, abs=3e-4)
        assert (balance.status, balance.institution) == ("active", actor.name)
        if charged < 2:
            charge(stack, actor, manifest, heads, charged, charged)

    institutions = {row.id: row for row in client.combined("institution")}
    assert institutions[actor.id].spent_sum == bounded_up(price(2))
    assert institutions[actor.id].left == balance.left
    (agreement,), (whole,) = client.combined("agreement"), client.combined("run")
    for combined in (agreement, whole):
        assert (combined.attempts, combined.populations) == (2, 3)
        assert combined.spent_greatest == combined.spent_sum == bounded_up(price(2))
        assert combined.reserved_greatest == bounded_up(price(4) - price(2))
        assert combined.reserved_sum == bounded_up(3 * price(4) - price(2))
        assert (combined.delta_greatest, combined.delta_sum) == (DELTA, "0.00003")
    assert (agreement.left, whole.left) == (balance.left, None)

    spends = client.spends(run=run)
    assert [(s.round, s.number, s.epsilon) for s in spends] == [
        (0, 1, bounded_up(price(1))),
        (1, 2, bounded_up(price(2))),
    ]
    assert spends[1].receipt == heads[actor.id] and client.spends(after=spends[1].sequence) == []
    failed = stack.world.result(keys, manifest, manifest.hash, None, status="failed", rounds=0)
    stack.client(stack.world.aggregator).post(failed)
    assert {row.reserved for row in client.budgets(run=run)} == {"0"}


def test_a_result_is_compared_with_the_events(stack: Stack) -> None:
    """The world's result says epsilon 0.5 of two attempts, where receipts show three."""
    keys = stack.offer()
    manifest = stack.start(keys)
    result = complete(stack, keys, manifest)
    client = stack.client(stack.world.coordinator)
    plan = bounded_up(bounded_epsilon(tally(2), DELTA))
    for row in client.budgets():
        assert (row.attempts, row.told, row.told_epsilon) == (3, 2, "0.5")
        assert row.recomputed == plan and row.epsilon == bounded_up(price(3))
    differs = client.exceptions(code="result-differs")
    assert len(differs) == 3
    for finding in differs:
        assert finding.records == [result.hash, manifest.hash]
        assert finding.message == "receipts show 3 attempts, the result 2"
        assert finding.run == run_id(stack, manifest)

    here = Client(client).recompute(run_id(stack, manifest))
    assert {(r.attempts, r.registry_attempts, r.told, r.agrees) for r in here} == {(3, 3, 2, False)}
    assert {r.fixed_plan for r in here} == {bounded_up(bounded_epsilon(tally(3), DELTA))}
    assert {r.epsilon for r in here} == {bounded_up(price(3))}


def test_honest_results_and_figures_agree(stack: Stack) -> None:
    keys, manifest, heads = begin(stack)
    world, client = stack.world, stack.client(stack.world.coordinator)
    for actor in world.hospitals:
        charge(stack, actor, manifest, heads, 0, 0)
    plan = bounded_up(bounded_epsilon(tally(1), DELTA))
    told = [
        {
            "party": site.party,
            "dataset": site.dataset,
            "attempts": 1,
            "epsilon": plan,
            "delta": DELTA,
        }
        for site in RunManifest.from_bytes(manifest.payload).roster
    ]
    stack.client(world.aggregator).post(
        world.result(keys, manifest, manifest.hash, None, status="failed", rounds=0, epsilon=told)
    )
    run = run_id(stack, manifest)
    assert client.exceptions() == []
    assert all(row.agrees for row in Client(client).recompute(run))
    execute(stack.settings.database, "UPDATE run_budgets SET attempts = 0")
    assert not any(row.agrees for row in Client(client).recompute(run))


def test_spending_beyond_what_was_agreed_names_the_receipts(stack: Stack) -> None:
    client, actor = stack.client(stack.world.coordinator), stack.world.hospitals[0]
    _, manifest, heads = begin(stack, **WEAK, max_attempts_total=2)
    assert price(1, 40) < 3 < price(2, 40)
    agreement = stack.world.agreement_hash
    charge(stack, actor, manifest, heads, 0, 0)
    assert client.exceptions() == []
    second = charge(stack, actor, manifest, heads, 1, 1)
    assert one(client, "over-spend").records == [second, agreement]
    assert one(client, "over-spend").dataset == actor.dataset
    repeated = charge(stack, actor, manifest, heads, 1, 1)
    assert one(client, "repeated-attempt").records == [repeated, second]
    assert [row.attempts for row in client.budgets(dataset=actor.dataset)] == [2]
    (balance,) = client.balances(dataset=actor.dataset)
    assert balance.left == "0" and float(balance.spent or "nan") > 3

    stack.client(actor).post(stack.world.withdrawal(actor))
    withdrawn = client.records(kind="withdrawal")[0]
    execute(
        stack.settings.database,
        "DROP TRIGGER records_no_UPDATE"
        if stack.settings.database.startswith("sqlite")
        else "DROP TRIGGER records_no_update ON records",
        f"UPDATE records SET received = received - 3600000000 WHERE hash = '{withdrawn.hash}'",
    )
    other = stack.world.hospitals[1]
    late = charge(stack, other, manifest, heads, 7, 0)
    assert one(client, "after-end").records == [late, withdrawn.hash]
    execute(
        stack.settings.database,
        f"UPDATE agreements SET valid_until = valid_from - 86400000000 WHERE hash = '{agreement}'",
    )
    third = stack.world.hospitals[2]
    expired = charge(stack, third, manifest, heads, 3, 0)
    (of_third,) = client.exceptions(code="after-end", party=third.id)
    assert of_third.records == [expired, agreement]  # it ran out before anybody withdrew
    again = charge(stack, other, manifest, heads, 7, 1)
    assert one(client, "ledger-repeats").records == [again, late]
    others = {row.code for row in client.exceptions(dataset=other.dataset)}
    assert others == {"after-end", "ledger-repeats", "over-spend"}


def test_runs_outside_terms_and_changed_keys_are_named(stack: Stack) -> None:
    world, client = stack.world, stack.client(stack.world.coordinator)
    actor = world.hospitals[0]
    _, manifest, heads = begin(stack, rounds=101, max_attempts_total=101)
    terms = one(client, "outside-terms")
    assert terms.records == [manifest.hash, world.agreement_hash]
    assert "[too-many-rounds]" in terms.message

    _, short, heads = begin(stack, rounds=1, max_attempts_total=1)
    charge(stack, actor, short, heads, 0, 0)
    made = world.node_receipt(actor, short, heads[actor.id], 0, attempt=1)
    beyond = stack.client(actor).post(made).hash
    assert one(client, "too-many-attempts").records == [beyond, short.hash]

    first = world.delegations[actor.id].hash
    key = SigningKey.generate()
    second = stack.client(actor).post(actor.delegation(previous=first, node_key=key.public)).hash
    renewed = actor.delegation(
        previous=second, node_key=key.public, valid_until=format_time(now() + timedelta(days=400))
    )
    stack.client(actor).post(renewed)
    assert one(client, "key-changed").records == [second, first]
    assert one(client, "key-changed").institution == actor.name
    body = Revocation(
        previous=renewed.hash, party=actor.id, reason="stolen", created=format_time(now())
    )
    taken = stack.client().revoke(sign(REVOCATION, body, actor.identity)).hash
    assert one(client, "key-revoked").records == [taken, renewed.hash]
    assert "stolen" in one(client, "key-revoked").message

    assert {row.code for row in client.exceptions(party=actor.id)} >= {"key-changed", "key-revoked"}


def test_what_lasts_is_told_as_long_as_it_lasts(stack: Stack) -> None:
    world, client = stack.world, stack.client(stack.world.coordinator)
    keys, manifest, heads = begin(stack)
    for actor in world.hospitals[:2]:
        charge(stack, actor, manifest, heads, 0, 0)
    owes = world.hospitals[2]
    signed = world.aggregator_receipt(keys, manifest, manifest.hash, 0)
    stack.client(world.aggregator).post(signed)
    assert client.exceptions() == []  # it may still be on its way
    earlier = int((GRACE + timedelta(minutes=1)).total_seconds() * 1e6)
    execute(
        stack.settings.database,
        f"UPDATE owed_receipts SET since = since - {earlier}",
        f"UPDATE runs SET created = created - {earlier}",
        f"UPDATE pulse SET since = since - {earlier}",
        f"UPDATE tokens SET last_seen = last_seen - {earlier} WHERE party = '{owes.id}'",
    )
    missing, silent = client.exceptions()
    assert (missing.code, missing.records) == ("missing-receipt", [signed.hash, heads[owes.id]])
    assert (silent.code, silent.records) == ("silent-node", [heads[owes.id]])
    assert {missing.party, silent.party} == {owes.id}
    assert client.exceptions(code="silent-node") == [silent]
    assert client.exceptions(party=world.hospitals[0].id) == []
    charge(stack, owes, manifest, heads, 0, 0)
    assert client.exceptions() == []


def test_lists_page_by_place_and_come_as_csv(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = stack.offer()
    complete(stack, keys, stack.start(keys))
    begin(stack)
    client = stack.client(stack.world.coordinator)
    lists = (
        client.budgets,
        client.balances,
        client.exceptions,
        lambda: client.combined("institution"),
        lambda: client.combined("run"),
        lambda: Client(client).rounds(),
    )
    whole = [ask() for ask in lists]
    assert [len(rows) for rows in whole] == [6, 3, 6, 3, 2, 9]
    monkeypatch.setattr(schemas, "MAX_PAGE", 2)
    monkeypatch.setattr("accord_common.api.notebooks.MAX_PAGE", 2)
    assert [ask() for ask in lists] == whole
    for path, after in (("budgets", "x"), ("exceptions", "found-1"), ("exceptions", "x")):
        with pytest.raises(UsageError, match=r"bad-cursor"):
            client._page(BudgetRow, f"/v1/{path}", {"after": after})

    token = stack.tokens[stack.world.coordinator.id]
    headers = {"Authorization": f"Bearer {token}"}
    for path in ("budgets", "budgets/datasets", "budgets/rounds", "exceptions"):
        answer = stack.http.get(f"/v1/{path}?format=csv", headers=headers)
        assert answer.headers["content-type"].startswith("text/csv")
        plain = stack.http.get(f"/v1/{path}", headers=headers).json()
        table = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(table) == len(plain) > 0
        for told, row in zip(table, plain, strict=True):
            assert set(told) == set(row)
            for name, value in row.items():
                text = " ".join(value) if isinstance(value, list) else value
                assert told[name] == ("" if text is None else str(text))


def test_a_registry_that_keeps_a_receipt_back_is_caught(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, manifest, heads = begin(stack)
    client, actor = stack.client(stack.world.coordinator), stack.world.hospitals[0]
    first = charge(stack, actor, manifest, heads, 0, 0)
    charge(stack, actor, manifest, heads, 1, 1)
    run = run_id(stack, manifest)
    shown = client.records

    def without(**asked: Any) -> list[RecordView]:
        return [one for one in shown(**asked) if one.hash != first]

    assert Client(client).recompute(run)[0].attempts == 2
    monkeypatch.setattr(client, "records", without)
    with pytest.raises(VerificationError, match=r"broken-receipts"):
        Client(client).recompute(run)
