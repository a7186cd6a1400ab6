"""Headers between aggregator and node decode strictly, and only to what was sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord_common import wire
from accord_common.canonical import canonical_bytes
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError, FormatError, PolicyError
from accord_common.fields import new_id
from accord_common.identity import SigningKey
from accord_common.parcel import MAX_HEADER_BYTES
from accord_common.secagg.messages import ADVERTISEMENT, Advertisement

HASH = "ab" * 32
PARTIES = [new_id(), new_id()]


def advertisement() -> Envelope:
    message = Advertisement(
        manifest=HASH,
        round=3,
        attempt=0,
        party=new_id(),
        mask_key="01" * 32,
        channel_key="02" * 32,
    )
    return sign(ADVERTISEMENT, message, SigningKey.generate())


def altered(message: wire.Request | wire.Reply, **changes: Any) -> bytes:
    return canonical_bytes(json.loads(wire.encode(message)) | changes)


def test_requests_come_back_as_they_were() -> None:
    share = wire.Share(manifest=HASH, round=1, attempt=0, cohort=[advertisement(), advertisement()])
    requests: tuple[wire.Request, ...] = (
        wire.Advertise(manifest=HASH, round=3, attempt=1),
        share,
        wire.Train(
            manifest=HASH,
            round=0,
            attempt=0,
            cohort=HASH,
            sharers=PARTIES,
            sealed={PARTIES[1]: "5a" * 82},
            model=HASH,
        ),
        wire.Confirm(
            manifest=HASH, round=0, attempt=0, uploads=dict.fromkeys(PARTIES, HASH), next=share
        ),
        wire.Confirm(
            manifest=HASH, round=0, attempt=0, uploads=dict.fromkeys(PARTIES, HASH), next=None
        ),
        wire.Unmask(
            manifest=HASH, round=0, attempt=0, confirmations=[advertisement(), advertisement()]
        ),
        wire.Finish(manifest=HASH, result=advertisement()),
    )
    for request in requests:
        assert wire.decode_request(wire.encode(request)) == request


def test_replies_come_back_as_they_were() -> None:
    for reply in (
        wire.AdvertisementReply(envelope=advertisement()),
        wire.SharesReply(envelope=advertisement()),
        wire.ConfirmationReply(envelope=advertisement(), shares=None),
        wire.ConfirmationReply(envelope=advertisement(), shares=advertisement()),
        wire.UnmaskingReply(envelope=advertisement()),
        wire.UpdateReply(upload=advertisement(), next=None),
        wire.UpdateReply(upload=advertisement(), next=advertisement()),
        wire.UpdateReply(upload=advertisement(), next=wire.Refusal(code="no", message="")),
        wire.Refusal(code="budget-exceeded", message="2.9 of 3"),
        wire.Done(),
    ):
        assert wire.decode_reply(wire.encode(reply)) == reply


def test_the_bytes_are_those_of_the_specification() -> None:
    assert wire.encode(wire.Advertise(manifest=HASH, round=7, attempt=2)) == (
        b'{"attempt":2,"manifest":"' + HASH.encode() + b'","round":7,"type":"advertise"}'
    )
    inner = advertisement()
    header = json.loads(wire.encode(wire.AdvertisementReply(envelope=inner)))
    assert header["envelope"] == json.loads(inner.to_bytes())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "update"}, "unknown-message"),
        ({"type": None}, "unknown-message"),
        ({"extra": 1}, "bad-record"),
        ({"round": -1}, "bad-record"),
        ({"round": "3"}, "bad-record"),
        ({"manifest": HASH[:-1]}, "bad-record"),
    ],
)
def test_an_altered_request_is_refused(changes: dict[str, Any], code: str) -> None:
    request = wire.Advertise(manifest=HASH, round=3, attempt=1)
    with pytest.raises(FormatError, match=code):
        wire.decode_request(altered(request, **changes))


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ("text", "bad-record"),
        ({}, "bad-record"),
        (json.loads(advertisement().to_bytes()) | {"payload": "_"}, "bad-base64"),
        (json.loads(advertisement().to_bytes()) | {"note": ""}, "bad-record"),
    ],
)
def test_an_envelope_inside_is_decoded_strictly(inner: Any, code: str) -> None:
    reply = wire.AdvertisementReply(envelope=advertisement())
    with pytest.raises(FormatError, match=code):
        wire.decode_reply(altered(reply, envelope=inner))


def test_an_update_must_say_what_comes_next() -> None:
    header = json.loads(wire.encode(wire.UpdateReply(upload=advertisement(), next=None)))
    del header["next"]
    with pytest.raises(FormatError, match=r"bad-record.*next"):
        wire.decode_reply(canonical_bytes(header))


def test_a_node_cannot_answer_with_a_request() -> None:
    with pytest.raises(FormatError, match="unknown-message"):
        wire.decode_reply(wire.encode(wire.Advertise(manifest=HASH, round=0, attempt=0)))


def test_headers_are_bounded() -> None:
    with pytest.raises(FormatError, match="too-large"):
        wire.decode_reply(b" " * (MAX_HEADER_BYTES + 1))


@given(st.binary(max_size=200))
def test_noise_is_refused_with_a_code(noise: bytes) -> None:
    with pytest.raises(AccordError):
        wire.decode_reply(noise)


def test_a_refusal_carries_an_error_without_its_control_characters() -> None:
    error = PolicyError("paused", "line\nbreak\ud800" + "x" * 5000, hint="for the node's people")
    reply = wire.refusal(error)
    assert wire.decode_reply(wire.encode(reply)) == reply
    assert reply.code == "paused"
    assert reply.message.startswith("line break xx")
    assert len(reply.message) == 4000
