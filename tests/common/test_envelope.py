"""DSSE envelopes: what decodes, what verifies, what is refused and with which code."""

import base64
import json
from typing import Any

import pytest

from accord_common.canonical import canonical_bytes
from accord_common.envelope import MAX_ENVELOPE_BYTES, Envelope, join, pae, record_hash, sign
from accord_common.errors import FormatError, VerificationError
from accord_common.fields import Count, Name, Record
from accord_common.identity import SigningKey


class Note(Record):
    text: Name
    count: Count


ANN, BEN, EVE = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
NOTE = Note(text="hello", count=3)


def wire(envelope: Envelope) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(envelope.to_bytes())
    return value


def refused(value: dict[str, Any]) -> str:
    with pytest.raises(FormatError) as caught:
        Envelope.from_bytes(canonical_bytes(value))
    return caught.value.code


def test_an_envelope_comes_back_and_verifies() -> None:
    envelope = Envelope.from_bytes(sign("note", NOTE, ANN, BEN).to_bytes())
    envelope.verify([ANN.public, BEN.public])
    assert envelope.kind == "note"
    assert Note.from_bytes(envelope.payload) == NOTE


def test_the_encoding_is_dsse_v1() -> None:
    assert pae("note", b"{}") == b"DSSEv1 32 application/vnd.accord.note+json 2 {}"


def test_the_record_hash_does_not_depend_on_who_signed() -> None:
    assert sign("note", NOTE, ANN).hash == sign("note", NOTE, BEN, ANN).hash
    assert sign("note", NOTE, ANN).hash == record_hash("note", NOTE.to_bytes())
    assert sign("note", NOTE, ANN).hash != sign("other-note", NOTE, ANN).hash


def test_exactly_the_required_keys_must_sign() -> None:
    envelope = sign("note", NOTE, ANN, EVE)
    for required, code in (
        ([ANN.public], "unexpected-signature"),
        ([ANN.public, EVE.public, BEN.public], "missing-signature"),
        ([BEN.public, EVE.public], "missing-signature"),
    ):
        with pytest.raises(VerificationError) as caught:
            envelope.verify(required)
        assert caught.value.code == code


def test_a_signature_of_another_kind_or_body_does_not_hold() -> None:
    envelope = sign("note", NOTE, ANN)
    other_kind = Envelope("letter", envelope.payload, envelope.signatures)
    other_body = Envelope("note", Note(text="hello", count=4).to_bytes(), envelope.signatures)
    for forged in (other_kind, other_body):
        with pytest.raises(VerificationError) as caught:
            forged.verify([ANN.public])
        assert caught.value.code == "bad-signature"


def test_repeated_and_reordered_signatures_are_refused() -> None:
    value = wire(sign("note", NOTE, ANN, BEN))
    value["signatures"].reverse()
    assert refused(value) == "unsorted-signatures"
    value["signatures"] = [value["signatures"][0]] * 2
    assert refused(value) == "repeated-signature"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("payloadType", "application/vnd.accord.Note+json", "bad-record"),
        ("payloadType", "text/plain", "bad-record"),
        ("payload", "e30", "bad-base64"),
        ("payload", "e31=", "bad-base64"),
        ("payload", "e30=\n", "bad-base64"),
        ("payload", "_-8=", "bad-base64"),
        ("signatures", [], "bad-record"),
        ("extra", 1, "bad-record"),
    ],
)
def test_malformed_envelopes_are_refused(field: str, value: object, code: str) -> None:
    body = wire(sign("note", NOTE, ANN))
    body[field] = value
    assert refused(body) == code


def test_a_signature_of_the_wrong_length_is_refused() -> None:
    body = wire(sign("note", NOTE, ANN))
    body["signatures"][0]["sig"] = base64.b64encode(bytes(63)).decode()
    assert refused(body) == "bad-record"


def test_trailing_bytes_and_oversize_are_refused() -> None:
    data = sign("note", NOTE, ANN).to_bytes()
    for bad, code in (
        (data + b"\n", "not-canonical"),
        (b" " * (MAX_ENVELOPE_BYTES + 1), "too-large"),
    ):
        with pytest.raises(FormatError) as caught:
            Envelope.from_bytes(bad)
        assert caught.value.code == code


def test_joining_collects_signatures_of_one_record_only() -> None:
    joined = join([sign("note", NOTE, BEN), sign("note", NOTE, ANN)])
    joined.verify([ANN.public, BEN.public])
    with pytest.raises(VerificationError) as caught:
        join([sign("note", NOTE, ANN), sign("note", Note(text="x", count=0), BEN)])
    assert caught.value.code == "different-records"


@pytest.mark.parametrize(
    "body", [{"text": "a"}, {"text": "a", "count": 1, "x": 1}, {"text": "a", "count": "1"}, []]
)
def test_a_body_with_missing_unknown_or_mistyped_fields_is_refused(body: object) -> None:
    with pytest.raises(FormatError) as caught:
        Note.from_bytes(canonical_bytes(body))  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.code == "bad-record"


@pytest.mark.parametrize("text", ["", "x" * 101, "a\nb", "a\x00b", "\x7f"])
def test_names_have_bounds(text: str) -> None:
    with pytest.raises(FormatError):
        Note.from_json({"text": text, "count": 1})
