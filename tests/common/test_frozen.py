"""Protocol 1, byte for byte: frozen vectors made by other code (tests/vectors/make.py)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_common.agreement import (
    AGREEMENT,
    RESUMPTION,
    SUSPENSION,
    WITHDRAWAL,
    Agreement,
    Resumption,
    Suspension,
    Withdrawal,
)
from accord_common.enrolment import (
    DELEGATION,
    ENROLMENT,
    OFFER,
    REVOCATION,
    Delegation,
    Enrolment,
    Offer,
    Revocation,
)
from accord_common.envelope import Envelope, sign
from accord_common.fields import Record
from accord_common.identity import SigningKey
from accord_common.log.checkpoint import CHECKPOINT, Checkpoint
from accord_common.manifest import MANIFEST, RunManifest, context
from accord_common.receipts import (
    AGGREGATOR_RECEIPT,
    CONSENT,
    EVALUATION,
    NODE_RECEIPT,
    RESULT,
    AggregatorReceipt,
    Consent,
    Evaluation,
    NodeReceipt,
    RunResult,
)
from accord_common.rings import Z32, ring_of
from accord_common.secagg.channels import (
    PeerShares,
    open_answer,
    open_shares,
    seal_answer,
    seal_shares,
)
from accord_common.secagg.draw import commitment, seed
from accord_common.secagg.graph import Parameters, drawn
from accord_common.secagg.keystream import Keystream
from accord_common.secagg.masks import Pair, add_masks, pair_key, self_key
from accord_common.secagg.messages import (
    Advertisement,
    Commitment,
    Confirmation,
    Reveal,
    Shares,
    Unmasking,
    Upload,
    cohort_hash,
    sharers_hash,
    upload_root,
    uploads_hash,
)
from accord_common.secagg.sealing import seal, unseal
from accord_common.secagg.shamir import Share, combine

VECTORS = Path(__file__).parents[1] / "vectors"
RECORDS: dict[str, dict[str, str]] = json.loads((VECTORS / "records.json").read_text())
MASKS: dict[str, Any] = json.loads((VECTORS / "masks.json").read_text())
CHANNELS: dict[str, Any] = json.loads((VECTORS / "channels.json").read_text())
GRAPH: dict[str, Any] = json.loads((VECTORS / "graph.json").read_text())
SHAMIR: list[dict[str, Any]] = json.loads((VECTORS / "shamir.json").read_text())
KINDS: dict[str, type[Record]] = {
    CHECKPOINT: Checkpoint,
    ENROLMENT: Enrolment,
    DELEGATION: Delegation,
    REVOCATION: Revocation,
    AGREEMENT: Agreement,
    WITHDRAWAL: Withdrawal,
    SUSPENSION: Suspension,
    RESUMPTION: Resumption,
    MANIFEST: RunManifest,
    OFFER: Offer,
    CONSENT: Consent,
    NODE_RECEIPT: NodeReceipt,
    AGGREGATOR_RECEIPT: AggregatorReceipt,
    RESULT: RunResult,
    EVALUATION: Evaluation,
    **{kind.KIND: kind for kind in (Advertisement, Shares, Upload, Confirmation, Unmasking)},
    **{kind.KIND: kind for kind in (Commitment, Reveal)},
}
KEYS = [SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32)) for byte in (1, 2)]


def private(start: int) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes(range(start, start + 32)))


def public(key: X25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def test_every_kind_has_its_vector() -> None:
    assert set(KINDS) == set(RECORDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_record_has_the_frozen_bytes_hash_and_signatures(kind: str) -> None:
    frozen = RECORDS[kind]
    record = KINDS[kind].from_bytes(frozen["payload"].encode())
    envelope = sign(kind, record, *KEYS)
    assert record.to_bytes().decode() == frozen["payload"]
    assert envelope.hash == frozen["hash"]
    assert envelope.to_bytes().decode() == frozen["envelope"]
    Envelope.from_bytes(frozen["envelope"].encode()).verify([key.public for key in KEYS])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_field_of_a_record_may_be_left_out_or_added(kind: str) -> None:
    body = json.loads(RECORDS[kind]["payload"])
    for field in body:
        if field == "log" and kind != CHECKPOINT:
            continue  # a head, which records of before there were heads lack (SPEC.md, Head)
        with pytest.raises(Exception, match="bad-record"):
            KINDS[kind].from_json({name: body[name] for name in body if name != field})
    with pytest.raises(Exception, match="bad-record"):
        KINDS[kind].from_json({**body, "also": 1})


def test_the_mask_stream_is_the_frozen_one() -> None:
    low, high = private(0), private(32)
    for own, peer in ((low, high), (high, low)):
        key = pair_key(
            own,
            public(peer),
            lower=MASKS["lower"],
            higher=MASKS["higher"],
            context=bytes.fromhex(MASKS["context"]),
            cohort=MASKS["cohort"],
            model=MASKS["model"],
        )
        assert key.hex() == MASKS["pair_key"]
    vector = np.zeros(16, np.uint32)
    add_masks(vector, [Pair(key, adds=True)])
    assert vector.astype("<u4").tobytes().hex() == MASKS["stream"]
    add_masks(vector, [Pair(key, adds=False)])
    assert not vector.any()


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_the_mask_words_of_every_ring_are_the_frozen_ones(bits: int) -> None:
    frozen = np.array(MASKS["words"][str(bits)], ring_of(bits).words)
    vector = np.zeros(frozen.size, ring_of(bits).words)
    add_masks(vector, [Pair(bytes.fromhex(MASKS["pair_key"]), adds=True)])
    assert np.array_equal(vector, frozen)


def test_the_shares_on_their_way_are_the_frozen_ones() -> None:
    values = [bytes.fromhex(value) for value in CHANNELS["values"]]
    place: dict[str, Any] = {
        "context": bytes.fromhex(CHANNELS["context"]),
        "source": CHANNELS["source"],
        "destination": CHANNELS["destination"],
    }
    low, high, cohort = private(0), private(32), CHANNELS["cohort"]
    sealed = seal_shares(PeerShares(*values), low, public(high), cohort=cohort, **place)
    assert sealed == CHANNELS["shares"]
    opened = open_shares(sealed, high, public(low), cohort=cohort, **place)
    assert [opened.seed, opened.key] == values

    uploads = CHANNELS["uploads"]
    answer = seal_answer(values, low, public(high), uploads=uploads, **place)
    assert answer == CHANNELS["answer"]
    assert open_answer(answer, high, public(low), count=2, uploads=uploads, **place) == values


def test_the_hashes_of_the_three_lists_are_the_frozen_ones() -> None:
    members = [Envelope.from_bytes(text.encode()) for text in CHANNELS["advertisements"]]
    assert cohort_hash(members) == CHANNELS["cohort_hash"]
    parties = [CHANNELS["source"], CHANNELS["destination"]]
    assert sharers_hash(parties) == CHANNELS["sharers_hash"]
    backwards = dict(reversed(CHANNELS["named_uploads"].items()))
    assert uploads_hash(backwards) == CHANNELS["uploads_hash"]


@pytest.mark.parametrize("by_gcm", [False, True, None])
def test_each_way_makes_the_frozen_keystream(by_gcm: bool | None) -> None:
    raw = bytearray(64)
    Keystream(bytes.fromhex(MASKS["pair_key"]), by_gcm=by_gcm).fill(memoryview(raw))
    assert raw.hex() == MASKS["stream"]


def test_the_sealed_chunk_is_the_frozen_one() -> None:
    stream = np.frombuffer(bytes.fromhex(MASKS["stream"]), "<u4").astype(np.uint32)
    ctx = bytes.fromhex(MASKS["context"])
    assert ctx == context("ab" * 32, 3, 1)
    source, destination = MASKS["lower"], MASKS["higher"]
    chunks = seal(
        stream,
        private(64),
        public(private(96)),
        context=ctx,
        source=source,
        destination=destination,
    )
    assert [chunk.hex() for chunk in chunks] == [MASKS["sealed"]]
    assert upload_root(chunks) == MASKS["root"]
    (piece,) = unseal(
        chunks,
        private(96),
        public(private(64)),
        words=16,
        ring=Z32,
        context=ctx,
        source=source,
        destination=destination,
    )
    assert np.array_equal(piece, stream)


def test_the_self_mask_key_is_the_frozen_one() -> None:
    seed, ctx = bytes.fromhex(MASKS["self_seed"]), bytes.fromhex(MASKS["context"])
    assert self_key(seed, context=ctx, party=MASKS["lower"]).hex() == MASKS["self_key"]


@pytest.mark.parametrize("case", SHAMIR, ids=lambda case: f"t{case['threshold']}")
def test_the_frozen_shares_give_the_frozen_secret(case: dict[str, Any]) -> None:
    shares = [Share(int(x), bytes.fromhex(value)) for x, value in case["shares"].items()]
    shares.sort(key=lambda share: share.x)
    threshold = case["threshold"]
    for some in (shares, shares[:threshold], shares[-threshold:], shares[::-1][:threshold]):
        assert combine(some, threshold).hex() == case["secret"]


def test_a_drawn_graph_is_the_frozen_one() -> None:
    ctx, values = bytes.fromhex(GRAPH["context"]), [bytes.fromhex(v) for v in GRAPH["values"]]
    found = [commitment(v, ctx, p) for v, p in zip(values, GRAPH["parties"], strict=True)]
    assert found == GRAPH["commitments"]
    drawn_from = seed(values, ctx, GRAPH["cohort"])
    assert drawn_from.hex() == GRAPH["seed"]
    circles = drawn(GRAPH["parties"], drawn_from, Parameters(4, 3)).circles
    assert {p: sorted({*c} - {p}) for p, c in circles.items()} == GRAPH["neighbours"]
