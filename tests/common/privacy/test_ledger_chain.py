"""A ledger's chains: the first record that does not hold is named, whatever is wrong with it."""

from typing import Any

import pytest

from accord_common.envelope import Envelope, sign
from accord_common.errors import VerificationError
from accord_common.fields import new_id
from accord_common.identity import SigningKey
from accord_common.privacy.events import LEDGER_ENTRY, NO_PREDECESSOR, LedgerEntry
from accord_common.privacy.ledger_chain import (
    LEDGER_HEADER,
    LedgerHeader,
    check_signer,
    follow,
    read_header,
)
from accord_common.privacy.rules import LEDGER_RULE, CapRule, LedgerRule
from tests.common.privacy.spends import POPULATION, rounds

KEY = SigningKey.generate()
OWN = {KEY.public}
RECORDED = "2026-01-31T12:00:00Z"


def header(*orders: str, kind: str = LEDGER_HEADER) -> Envelope:
    return sign(kind, LedgerHeader(version=1, ledger=new_id(), orders=list(orders)), KEY)


def entries(count: int) -> list[Envelope]:
    chain: list[Envelope] = []
    for number, one in enumerate(rounds(count)):
        previous = chain[-1].hash if chain else NO_PREDECESSOR
        chain.append(
            sign(
                LEDGER_ENTRY,
                LedgerEntry(sequence=number, previous=previous, spend=one, recorded=RECORDED),
                KEY,
            )
        )
    return chain


def resigned(envelope: Envelope, kind: str = LEDGER_ENTRY, **changes: Any) -> Envelope:
    """An entry with changes that the node's own key signed."""
    entry = LedgerEntry.from_bytes(envelope.payload)
    return sign(kind, entry.model_copy(update=changes), KEY)


def refusal(call: Any, *arguments: Any) -> tuple[str, str]:
    with pytest.raises(VerificationError) as caught:
        list(call(*arguments))
    return caught.value.code, caught.value.message


def test_a_header_is_one_whose_orders_rise_from_above_one() -> None:
    for orders in (["1.5"], ["2", "3"]):
        assert read_header(header(*orders)).orders == orders
    for wrong in (
        header("2", "3", kind=LEDGER_ENTRY),
        header("1", "3"),
        header("0.5", "3"),
        header("3", "2"),
        header("2", "2"),
    ):
        assert refusal(read_header, wrong) == (
            "ledger-broken",
            "header: not the header of a ledger, or orders out of order",
        )


def test_a_header_that_was_changed_or_is_none_is_broken() -> None:
    signed = header("2", "3")
    for payload in (signed.payload.replace(b'"3"', b'"4"'), b"{}"):
        code, message = refusal(read_header, Envelope(LEDGER_HEADER, payload, signed.signatures))
        assert code == "ledger-broken" and message.startswith("header: ")
    other = sign(LEDGER_HEADER, LedgerEntry.from_bytes(entries(1)[0].payload), KEY)
    assert refusal(read_header, other)[0] == "ledger-broken"


def test_a_chain_is_followed_to_its_end() -> None:
    chain = entries(3)
    followed = list(follow(chain, LedgerEntry, OWN))
    assert [entry.to_bytes() for entry, _ in followed] == [one.payload for one in chain]
    assert [hash_ for _, hash_ in followed] == [one.hash for one in chain]


def test_the_first_record_that_does_not_hold_is_named() -> None:
    chain = entries(2)
    first, second = chain
    undecoded = sign(LEDGER_ENTRY, LedgerEntry.from_bytes(first.payload).spend, KEY)
    stray = Envelope(LEDGER_ENTRY, second.payload, first.signatures)
    unknown = Envelope(LEDGER_ENTRY, second.payload, (("f" * 64, second.signatures[0][1]),))
    for wrong, code, why in (
        ([undecoded], "ledger-broken", "entry 0: LedgerEntry."),
        ([first, undecoded], "ledger-broken", "entry 1: LedgerEntry."),
        ([first, stray], "ledger-broken", "entry 1: the signature"),
        ([first, unknown], "ledger-unknown-key", "entry 1 is signed by ffff"),
        ([second], "ledger-broken", "entry 0 is numbered 1, a ledger-entry"),
        ([first, resigned(second, sequence=2)], "ledger-broken", "entry 1 is numbered 2, a"),
        (
            [first, resigned(second, LEDGER_RULE)],
            "ledger-broken",
            "entry 1 is numbered 1, a ledger-rule",
        ),
        (
            [first, resigned(second, previous=NO_PREDECESSOR)],
            "ledger-broken",
            f"entry 1 does not follow {first.hash[:16]}",
        ),
    ):
        told, message = refusal(follow, wrong, LedgerEntry, OWN)
        assert told == code and message.startswith(why), message


def test_rules_are_followed_as_rules() -> None:
    rule = LedgerRule(
        sequence=0,
        previous=NO_PREDECESSOR,
        entries=0,
        rule=CapRule(type="cap", population=POPULATION, cap=None),
        recorded=RECORDED,
    )
    assert list(follow([sign(LEDGER_RULE, rule, KEY)], LedgerRule, OWN)) == [
        (rule, sign(LEDGER_RULE, rule, KEY).hash)
    ]
    code, message = refusal(follow, [sign(LEDGER_ENTRY, rule, KEY)], LedgerRule, OWN)
    assert (code, message) == ("ledger-broken", "rule 0 is numbered 0, a ledger-entry")


def test_whoever_signed_must_be_known_and_have_signed_these_bytes() -> None:
    (one,) = entries(1)
    check_signer("it", one, {*OWN, "f" * 64})
    assert refusal(check_signer, "it", one, {"f" * 64}) == (
        "ledger-unknown-key",
        f"it is signed by {KEY.public[:16]}, no key of this node",
    )
    forged = Envelope(one.kind, one.payload + b" ", one.signatures)
    code, message = refusal(check_signer, "it", forged, OWN)
    assert code == "ledger-broken" and message.startswith("it: ")
