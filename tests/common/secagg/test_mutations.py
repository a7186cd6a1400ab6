"""Mutated messages at every decoder: refused with a code, never accepted, never a crash."""

import json
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from accord_common import wire
from accord_common.canonical import canonical_bytes
from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_common.secagg.messages import (
    Advertisement,
    Confirmation,
    Message,
    Shares,
    Unmasking,
    Upload,
    verify,
)
from tests.secagg_driver import Federation, drive, federation

Decoder = Callable[[bytes], object]
KINDS: dict[str, type[Message]] = {
    kind.KIND: kind for kind in (Advertisement, Shares, Upload, Confirmation, Unmasking)
}


def mutate(data: bytes, random: Random) -> bytes:
    """Change bytes, or change the JSON and write it canonically again."""
    kind = random.randrange(6)
    if kind < 4:
        raw = bytearray(data)
        at = random.randrange(len(raw))
        match kind:
            case 0:
                raw[at] ^= 1 << random.randrange(8)
            case 1:
                del raw[at : at + random.randint(1, 9)]
            case 2:
                raw[at:at] = random.randbytes(random.randint(1, 9))
            case 3:
                end = random.randrange(len(raw))
                raw[at : at + 20] = raw[end : end + 20]
        return bytes(raw)
    value = json.loads(data)
    _alter(value, random)
    try:
        return canonical_bytes(value)
    except AccordError:
        return b"{}"


def _alter(value: object, random: Random) -> None:
    """Replace, drop or repeat something at some depth."""
    if isinstance(value, dict) and value:
        key = random.choice(sorted(value))
        if isinstance(value[key], dict | list) and value[key] and random.random() < 0.7:
            _alter(value[key], random)
        else:
            match random.randrange(4):
                case 0:
                    del value[key]
                case 1:
                    value[key] = random.choice([None, 0, -1, 2**53, "", "00" * 32, [], {}, True])
                case 2:
                    value[key + "x"] = value[key]
                case _:
                    value[key] = _twisted(value[key], random)
    elif isinstance(value, list) and value:
        at = random.randrange(len(value))
        if isinstance(value[at], dict | list) and value[at] and random.random() < 0.7:
            _alter(value[at], random)
        elif random.random() < 0.5:
            value.append(value[at])
        else:
            del value[at]


def _twisted(value: object, random: Random) -> object:
    if isinstance(value, str) and value:
        at = random.randrange(len(value))
        return value[:at] + random.choice("0123456789abcdefA-_=\0") + value[at + 1 :]
    if isinstance(value, int):
        return value + random.choice([-1, 1, 2**31])
    return str(value)


def originals() -> list[tuple[bytes, Decoder, bool]]:
    """(bytes, decoder, whether it verifies a signature) of every message to and from one node."""
    fed = federation(5, min_cohort=4)
    drive(fed, fed.attempt())
    first = fed.parties[0]
    found: list[tuple[bytes, Decoder, bool]] = []
    for party, request, reply in fed.exchanges:
        if party != first:
            continue
        found.append((wire.encode(request), wire.decode_request, False))
        found.append((wire.encode(reply), wire.decode_reply, False))
        for value in (getattr(reply, name) for name in type(reply).model_fields):
            if isinstance(value, Envelope):
                kind = KINDS[value.kind]
                found.append((value.to_bytes(), partial(_verified, fed, kind, first), True))
    dump = fed.nodes[first].dump()
    assert dump is not None
    found.append((dump, lambda data: fed.machine(first).load(data), False))
    return found


def _verified(fed: Federation, kind: type[Message], party: str, data: bytes) -> Message:
    return verify(
        kind,
        Envelope.from_bytes(data),
        node_key=fed.peers[party],
        manifest=fed.manifest_hash,
        round_=0,
        attempt=0,
        party=party,
    )


@pytest.mark.soak(sample=500, full=100_000)
def test_a_mutated_message_is_refused_with_a_code(size: int, seed: int) -> None:
    random = Random(seed)
    cases = originals()
    assert len(cases) == 16
    refused = 0
    for turn in range(size):
        data, decode, signed = cases[turn % len(cases)]
        bad = mutate(data, random)
        if bad == data:
            continue
        try:
            decode(bad)
        except AccordError:
            refused += 1
        else:
            assert not signed, bad  # a header may decode: what it carries is verified one by one
    assert refused > size // 2
