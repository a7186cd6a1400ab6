"""An exported ledger: by itself, and beside the receipts that its node posted."""

import io
from dataclasses import replace
from typing import Any

import pytest

from accord_common.enrolment import DELEGATION, Delegation
from accord_common.envelope import MAX_ENVELOPE_BYTES, Envelope, sign
from accord_common.errors import AccordError, FormatError, VerificationError
from accord_common.fields import new_id
from accord_common.identity import SigningKey
from accord_common.privacy.accounting import ORDERS, Tally
from accord_common.privacy.audit import (
    Exported,
    check_receipts,
    lines_of,
    read_export,
    write_export,
)
from accord_common.privacy.events import LEDGER_ENTRY, NO_PREDECESSOR, LedgerEntry, Spend
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.ledger_chain import LEDGER_HEADER, LedgerHeader
from accord_common.privacy.rules import LEDGER_RULE, LedgerRule, OverlapRule, Rules
from accord_common.receipts import NODE_RECEIPT, NodeReceipt
from tests.common.privacy.spends import POPULATION, rounds, spend
from tests.world import make_actor, make_world

ACTOR = make_actor("hospital", "data-holder")
OTHER = new_id()
RECORDED = "2026-01-31T12:00:00Z"
HEADER = sign(
    LEDGER_HEADER, LedgerHeader(version=1, ledger=new_id(), orders=["2", "4", "8"]), ACTOR.node
)


def entries(*spends: Spend) -> list[Envelope]:
    chain: list[Envelope] = []
    for number, one in enumerate(spends):
        previous = chain[-1].hash if chain else NO_PREDECESSOR
        entry = LedgerEntry(sequence=number, previous=previous, spend=one, recorded=RECORDED)
        chain.append(sign(LEDGER_ENTRY, entry, ACTOR.node))
    return chain


def overlap() -> Envelope:
    rule = LedgerRule(
        sequence=0,
        previous=NO_PREDECESSOR,
        entries=0,
        rule=OverlapRule(type="overlap", populations=sorted([POPULATION, OTHER]), holds=True),
        recorded=RECORDED,
    )
    return sign(LEDGER_RULE, rule, ACTOR.node)


def lines(*envelopes: Envelope) -> list[bytes]:
    return [one.to_bytes() + b"\n" for one in envelopes]


def refusal(*given: bytes) -> tuple[str, str]:
    with pytest.raises(AccordError) as caught:
        read_export(given)
    return caught.value.code, caught.value.message


def test_an_export_says_what_was_spent_and_by_whom() -> None:
    mine, theirs = rounds(2, steps=100), spend(population=OTHER, round=2, steps=50)
    chain = entries(*mine, theirs)
    written = list(write_export(HEADER, [ACTOR.delegation()], [overlap(), *chain]))
    assert written[0] == HEADER.to_bytes() + b"\n"
    exported = read_export(written)
    assert (exported.party, exported.identity, exported.node_keys) == (
        *(ACTOR.id, ACTOR.identity.public, (ACTOR.node.public,)),
    )
    assert exported.head == chain[-1].hash
    assert exported.orders == (2, 4, 8)
    assert [entry.to_bytes() for entry in exported.entries] == [one.payload for one in chain]
    assert exported.populations == sorted([POPULATION, OTHER])
    assert exported.tally(POPULATION) == Tally.of(mine)
    assert exported.tally(OTHER, overlapping=True) == Tally.of([*mine, theirs])
    rule = RdpFilter(Cap(epsilon="0", delta="0.00001"), (2, 4, 8))
    assert exported.epsilon(OTHER, "0.00001") == rule.epsilon([theirs])
    assert exported.epsilon(OTHER, "0.00001", overlapping=True) == rule.epsilon([*mine, theirs])


def test_an_export_over_two_node_keys_holds_under_both() -> None:
    first = ACTOR.delegation()
    key = SigningKey.generate()
    second = ACTOR.delegation(first.hash, node_key=key.public)
    (one,) = entries(spend())
    entry = LedgerEntry(sequence=1, previous=one.hash, spend=spend(round=1), recorded=RECORDED)
    chain = [one, sign(LEDGER_ENTRY, entry, key)]
    exported = read_export(write_export(HEADER, [first, second], chain))
    assert exported.node_keys == (ACTOR.node.public, key.public)
    assert len(exported.entries) == 2
    assert refusal(*lines(HEADER, first, *chain))[0] == "ledger-unknown-key"
    assert refusal(*lines(HEADER, first, first, one)) == (
        "ledger-broken",
        "a delegation stands there twice",
    )
    stranger = make_actor("other", "data-holder").delegation()
    assert refusal(*lines(HEADER, first, stranger, one)) == (
        "ledger-broken",
        "the delegations are not one institution's",
    )


def test_an_export_may_have_some_of_every_kind() -> None:
    first = ACTOR.delegation()
    second = ACTOR.delegation(first.hash)
    exported = read_export(lines(HEADER, first, second, overlap(), *entries(spend())))
    assert len(exported.entries) == 1 and exported.rules.group(POPULATION) == [POPULATION, OTHER]


def test_an_export_of_nothing_is_one() -> None:
    exported = read_export(lines(HEADER, ACTOR.delegation()))
    assert (exported.entries, exported.head) == ((), NO_PREDECESSOR)
    assert exported.rules == Rules({}, frozenset())


def test_what_is_not_an_export_is_refused() -> None:
    delegation, chain = ACTOR.delegation(), entries(*rounds(2))
    stranger = replace(chain[0], kind="receipt")
    for wrong in (
        [],
        [HEADER],
        [HEADER, overlap(), *chain],
        [delegation, HEADER, *chain],
        [HEADER, delegation, *chain, overlap()],
        [HEADER, delegation, stranger],
    ):
        assert refusal(*lines(*wrong)) == (
            "bad-export",
            "not a ledger's header, its node's delegation, rules and entries, in this order",
        )


def test_a_line_is_one_envelope_and_ends() -> None:
    first, second = lines(HEADER, ACTOR.delegation())
    cut = "is too long, or has no end"
    assert refusal(first, second[:-1]) == ("bad-export", f"line 2 {cut}")
    assert refusal(b"x" * (MAX_ENVELOPE_BYTES + 1) + b"\n") == ("bad-export", f"line 1 {cut}")
    code, message = refusal(b"x" * MAX_ENVELOPE_BYTES + b"\n")  # may be one, but is not
    assert code == "bad-export" and message.startswith("line 1: ")


def test_an_export_rests_on_one_institutions_delegation() -> None:
    delegation, chain = ACTOR.delegation(), entries(*rounds(1))
    body = Delegation.from_bytes(delegation.payload)
    both = sign(DELEGATION, body, ACTOR.identity, SigningKey.generate())
    assert refusal(*lines(HEADER, both, *chain)) == (
        "ledger-broken",
        "the delegation has more than one signature",
    )
    forged = replace(delegation, payload=delegation.payload.replace(b'"valid', b'"valud', 1))
    for wrong in (forged, replace(delegation, signatures=HEADER.signatures)):
        code, message = refusal(*lines(HEADER, wrong, *chain))
        assert code == "ledger-broken" and message.startswith("delegation: ")


def test_another_keys_header_or_entries_are_not_the_nodes() -> None:
    other = SigningKey.generate()
    header = sign(LEDGER_HEADER, LedgerHeader.from_bytes(HEADER.payload), other)
    code, message = refusal(*lines(header, ACTOR.delegation()))
    assert code == "ledger-unknown-key" and message.startswith("header is signed by")
    (one,) = entries(spend())
    entry = sign(LEDGER_ENTRY, LedgerEntry.from_bytes(one.payload), other)
    code, message = refusal(*lines(HEADER, ACTOR.delegation(), entry))
    assert code == "ledger-unknown-key" and message.startswith("entry 0 is signed by")


@pytest.mark.parametrize("changes", [{"round": 1}, {"attempt": 1}, {"run": "c" * 64}])
def test_one_attempt_is_charged_once(changes: dict[str, Any]) -> None:
    delegation = ACTOR.delegation()
    different = entries(spend(), spend(**changes))
    assert len(read_export(lines(HEADER, delegation, *different)).entries) == 2
    twice = entries(spend(), spend(**changes), spend(**changes, steps=1))
    assert refusal(*lines(HEADER, delegation, *twice)) == (
        "ledger-broken",
        "entry 2 charges an attempt that was charged before",
    )


def test_every_receipt_of_the_node_must_name_an_entry_of_the_file() -> None:
    world = make_world(3)
    manifest = world.manifest(world.run_keys())
    mine, other = world.hospitals[:2]
    receipts = [world.node_receipt(mine, manifest, manifest.hash, number) for number in range(2)]
    entries = tuple(NodeReceipt.from_bytes(one.payload).ledger for one in receipts)
    exported = Exported(
        ledger=new_id(),
        party=mine.id,
        identity=mine.identity.public,
        node_keys=(mine.node.public,),
        orders=ORDERS,
        rules=Rules({}, frozenset()),
        entries=entries,
        head=NO_PREDECESSOR,
    )
    strangers = world.node_receipt(other, manifest, manifest.hash, 0)
    assert check_receipts(exported, [strangers, *receipts]) == 2
    body, second = NodeReceipt.from_bytes(receipts[0].payload), SigningKey.generate()
    two_keys = replace(exported, node_keys=(mine.node.public, second.public))
    assert check_receipts(two_keys, [sign(NODE_RECEIPT, body, mine.node, second)]) == 0  # nobody's
    forged = replace(receipts[0], signatures=((mine.node.public, bytes(64)),))
    with pytest.raises(VerificationError) as caught:
        check_receipts(exported, [forged])
    assert caught.value.code == "bad-signature"
    earlier = replace(exported, entries=entries[:1])
    with pytest.raises(VerificationError) as caught:
        check_receipts(earlier, receipts)
    assert caught.value.code == "export-behind" and "entry 1" in caught.value.message
    owed = entries[1].spend.model_copy(update={"run": receipts[1].hash})
    charged = entries[1].model_copy(update={"spend": owed})
    assert check_receipts(replace(exported, entries=(entries[0], charged)), receipts) == 2
    cheaper = charged.model_copy(
        update={"spend": owed.model_copy(update={"noise_multiplier": "1000"})}
    )
    with pytest.raises(VerificationError) as caught:
        check_receipts(replace(exported, entries=(entries[0], cheaper)), receipts)
    assert caught.value.code == "export-behind"


def test_a_line_without_an_end_is_read_no_further_than_lines_may_be() -> None:
    file = io.BytesIO(bytes(3 * MAX_ENVELOPE_BYTES))
    with pytest.raises(FormatError, match="line 1 is too long"):
        read_export(lines_of(file))
    assert file.tell() == MAX_ENVELOPE_BYTES + 2
