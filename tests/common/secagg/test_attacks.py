"""One test for each attack that a reviewer tries first, by a server with every key but the nodes'.

What concerns the ledger, files and processes around the machines is tested where those are.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from accord_client.secagg import NodeSecAgg
from accord_client.secagg_memory import Begun
from accord_common import wire
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError, ProtocolError, VerificationError
from accord_common.fields import Record
from accord_common.identity import SigningKey
from accord_common.rings import dequantise, quantise, ring_of, scale_for
from accord_common.secagg.keystream import Keystream
from accord_common.secagg.masks import SEED_BYTES, self_key
from accord_common.secagg.messages import (
    Advertisement,
    Confirmation,
    Shares,
    Unmasking,
    Upload,
    upload_root,
)
from accord_common.secagg.shamir import SHARE_BYTES
from accord_common.terms import violations
from accord_server.aggregator.secagg import Attempt
from tests import world as worlds
from tests.secagg_driver import MODEL, Federation, drive, federation

BOTH_CHUNKS = (8 << 20) // 4 + 5  # words: the second chunk has five


def refused(code: str, action: Callable[..., object], *told: Any, **named: Any) -> None:
    with pytest.raises(AccordError) as caught:
        action(*told, **named)
    assert caught.value.code == code, caught.value


class Played:
    """One attempt of an honest server, as far as `reach` goes; the attacks go on from there."""

    def __init__(
        self, fed: Federation, reach: int, round_: int = 0, attempt: int = 0, model: str = MODEL
    ) -> None:
        self.fed = fed
        self.place = (round_, attempt)
        self.server: Attempt = fed.attempt(round_, attempt, model)
        self.cohort: list[Envelope] = []
        self.uploads: dict[str, str] = {}
        self.chunks: dict[str, tuple[Envelope, list[bytes]]] = {}
        self.confirmations: list[Envelope] = []
        for stage in (self._r0, self._r1, self._r2, self._r3)[:reach]:
            stage()

    @property
    def node(self) -> NodeSecAgg:
        """The victim."""
        return self.fed.nodes[self.fed.parties[0]]

    def _each(self) -> list[tuple[str, NodeSecAgg]]:
        return list(self.fed.nodes.items())

    def _r0(self) -> None:
        for party, node in self._each():
            self.server.advertise(party, node.advertise(*self.place))
        self.cohort = self.server.close_cohort()

    def _r1(self) -> None:
        for party, node in self._each():
            self.server.share(party, node.share(*self.place, self.cohort))
        self.server.close_sharers()

    def upload(self, node: NodeSecAgg, **changes: Any) -> tuple[Envelope, list[bytes]]:
        """R2 at one node, told the truth but for `changes`."""
        told: dict[str, Any] = {
            "cohort": self.server.cohort_hash,
            "sharers": list(self.server.sharers),
            "sealed": self.server.sealed_for(node.party),
            "model": self.server.model,
        } | changes
        return node.mask(node.open_sharers(*self.place, **told), self.fed.vector(node.party))

    def _r2(self) -> None:
        for party, node in self._each():
            self.chunks[party] = self.upload(node)
            self.server.fold(party, *self.chunks[party])
        self.uploads = self.server.close_uploads()

    def _r3(self) -> None:
        for party, node in self._each():
            self.server.confirm(party, node.confirm(*self.place, self.uploads))
        self.confirmations = self.server.close_confirmations()

    def forged(self, party: str, envelope: Envelope, **changes: Any) -> Envelope:
        """A message of `party`, altered, signed with a key that the server has."""
        kind = {k.KIND: k for k in (Advertisement, Confirmation)}[envelope.kind]
        body = kind.from_bytes(envelope.payload).model_copy(update=changes | {"party": party})
        return sign(envelope.kind, body, SigningKey.generate())


def test_01_a_short_seed_or_a_weak_generator() -> None:
    assert SEED_BYTES == 32
    for size in (0, 4, 31):
        refused("short-seed", self_key, bytes(size), bytes(48), "a")
    key, raw = bytes(range(32)), bytearray(4096)
    Keystream(key).fill(memoryview(raw))
    aes = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    blocks = b"".join(index.to_bytes(16, "big") for index in range(256))
    assert bytes(raw) == aes.update(blocks)
    played = Played(federation(3), 2)
    prepared = [node._prepared for node in played.fed.nodes.values()]
    seeds = {p.dealt.seed for p in prepared if p is not None and p.dealt is not None}
    assert len(seeds) == 3
    assert {len(seed) for seed in seeds} == {32}


def test_02_unauthenticated_keys() -> None:
    played = Played(federation(3), 1)
    other = played.fed.parties[1]
    key = X25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    for changes in ({"mask_key": key}, {"channel_key": key}):
        cohort = list(played.cohort)
        cohort[1] = played.forged(other, cohort[1], **changes)
        with pytest.raises(VerificationError):
            played.node.share(0, 0, cohort)
    played.fed.nodes[played.node.party] = fresh = played.fed.machine(played.node.party)
    fresh.advertise(0, 0)  # the cohort holds an older entry of its own
    refused("altered-advertisement", fresh.share, 0, 0, played.cohort)


def test_03_both_shares_of_one_node() -> None:
    fed = federation(5, min_cohort=4)
    played = Played(fed, 4)
    first = played.node.unmask(0, 0, played.confirmations)
    fewer = {party: name for party, name in played.uploads.items() if party != fed.parties[4]}
    refused("already-confirmed", played.node.confirm, 0, 0, fewer)
    assert played.node.unmask(0, 0, played.confirmations) == first
    fed.restart(played.node.party)
    refused("already-confirmed", played.node.confirm, 0, 0, fewer)
    assert played.node.unmask(0, 0, played.confirmations) == first
    body = Unmasking.from_bytes(first.payload)
    assert len(body.sealed) == 2 * (5 * SHARE_BYTES + 16)  # one share for each


def test_04_no_consistency_round() -> None:
    fed = federation(5, min_cohort=4)
    played = Played(fed, 3)
    refused("not-confirmed", played.node.unmask, 0, 0, [])
    envelopes = [node.confirm(0, 0, played.uploads) for node in fed.nodes.values()]
    refused("too-few-confirmations", played.node.unmask, 0, 0, envelopes[:3])
    refused("repeated-confirmation", played.node.unmask, 0, 0, [*envelopes[:3], envelopes[0]])
    forged = played.forged(fed.parties[3], envelopes[3])
    with pytest.raises(VerificationError):
        played.node.unmask(0, 0, [*envelopes[:3], forged])
    body = Confirmation.from_bytes(envelopes[4].payload)
    for name in ("model", "cohort", "sharers", "uploads"):
        other = sign(
            body.KIND, body.model_copy(update={name: "ee" * 32}), fed.node_keys[body.party]
        )
        refused(
            "wrong-confirmation",
            played.node.unmask,
            0,
            0,
            [*envelopes[:3], other],
        )


def test_05_numbers_chosen_by_the_server() -> None:
    played = Played(federation(5, min_cohort=4), 1)
    refused("small-cohort", played.node.share, 0, 0, played.cohort[:3])
    world = worlds.make_world(5)
    keys = world.run_keys()
    honest = world.manifest_body(keys)
    assert violations(world.agreement, honest) == []
    secagg, local = honest.secagg.model_dump(), honest.local.model_dump()
    for changes, code in (
        ({"secagg": secagg | {"threshold": 3}}, "threshold-too-low"),
        ({"secagg": secagg | {"min_cohort": 1}}, "cohort-too-small"),
        ({"secagg": secagg | {"colluders": 3}}, "colluders-out-of-bounds"),
        ({"secagg": secagg | {"scale": 1}}, "scale-does-not-follow"),
        ({"local": local | {"clipping_norm": "11"}}, "clipping-norm-too-large"),
    ):
        found = violations(world.agreement, world.manifest_body(keys, **changes))
        assert code in [error.code for error in found]


def test_06_keys_or_masks_used_again() -> None:
    fed = federation(3)
    keys, chunks = set(), set()
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        played = Played(fed, 3, *place)  # the same vectors each time
        for envelope in played.cohort:
            body = Advertisement.from_bytes(envelope.payload)
            keys |= {body.mask_key, body.channel_key}
        for _, sealed in played.chunks.values():
            chunks |= set(sealed)
        refused("no-mask-key", played.upload, played.node)
    assert len(keys) == 4 * 3 * 2
    assert len(chunks) == 4 * 3
    again = played.node.advertise
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        refused("stale-attempt", again, *place)


def test_07_a_different_model_for_each_node() -> None:
    fed = federation(3)
    played = Played(fed, 2)
    other = "dd" * 32
    told = [
        played.upload(node, model=m)
        for node, m in zip(fed.nodes.values(), (MODEL, other, other), strict=True)
    ]
    refused("wrong-model", played.server.fold, fed.parties[1], *told[1])
    uploads = {party: envelope.hash for party, (envelope, _) in zip(fed.parties, told, strict=True)}
    confirmations = [node.confirm(0, 0, uploads) for node in fed.nodes.values()]
    for node in fed.nodes.values():
        refused("wrong-confirmation", node.unmask, 0, 0, confirmations)


def test_08_too_few_survivors_or_two_sums_differenced() -> None:
    fed = federation(5, min_cohort=4)
    played = Played(fed, 2)
    few = list(played.server.sharers[:3])
    sealed = {p: s for p, s in played.server.sealed_for(played.node.party).items() if p in few}
    refused("small-cohort", played.upload, played.node, sharers=few, sealed=sealed)
    played = Played(fed, 3, 0, 1)
    three = dict(list(played.uploads.items())[:3])
    refused("small-cohort", played.node.confirm, 0, 1, three)
    without = dict(list(played.uploads.items())[1:])
    refused("not-in-cohort", played.node.confirm, 0, 1, without)
    played._r3()
    played.node.unmask(0, 1, played.confirmations)
    refused("round-closed", played.node.advertise, 0, 2)
    fed.restart(played.node.party)
    refused("round-closed", played.node.advertise, 0, 2)
    second = fed.nodes[fed.parties[1]]
    second.advertise(0, 2)  # joining the next attempt gives up the last
    refused("attempt-over", second.unmask, 0, 1, played.confirmations)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_09_silent_overflow(bits: int) -> None:
    ring, n, bound = ring_of(bits), 7, "4"
    scale = scale_for(bound, n, ring)
    assert n * 4 * scale <= ring.max_sum
    assert scale == 1 << 52 or n * 4 * 2 * scale > ring.max_sum
    extreme = np.array([4, -4, 1e30, -1e30], np.float32)  # the last two are clamped
    words, clamped = quantise(extreme, scale, bound, ring)
    total = np.zeros(4, ring.words)
    for _ in range(n):
        np.add(total, words, out=total)
    assert clamped == 2
    assert np.allclose(dequantise(total, scale, ring), [28, -28, 28, -28], atol=n / scale)
    fed = federation(3, bits=bits)
    assert np.array_equal(drive(fed, fed.attempt()), fed.expected(fed.parties))


def test_10_a_replayed_or_cross_run_message() -> None:
    fed, elsewhere = federation(3), federation(3)
    old, foreign = Played(fed, 4), Played(elsewhere, 4)
    for node in fed.nodes.values():
        node.unmask(0, 0, old.confirmations)
    new = Played(fed, 2, 1, 0)
    victim = new.node
    other = fed.parties[1]
    for replayed in (old.cohort[1], foreign.cohort[1]):
        cohort = [new.cohort[0], replayed, new.cohort[2]]
        refused("wrong-context", victim.share, 1, 0, cohort)
        refused("wrong-context", fed.attempt(1).advertise, other, replayed)
    sealed = new.server.sealed_for(victim.party)
    for theirs in (old, foreign):
        stale = sealed | {other: theirs.server.sealed_for(victim.party)[other]}
        refused("share-broken", new.upload, victim, sealed=stale)
    turned = dict(zip(sealed, reversed(sealed.values()), strict=True))
    refused("share-broken", new.upload, victim, sealed=turned)
    for theirs in (old, foreign):
        refused(
            "wrong-context",
            new.server.fold,
            other,
            *theirs.chunks[other],
        )
    new._r2()
    victim.confirm(1, 0, new.uploads)
    refused("wrong-context", victim.unmask, 1, 0, old.confirmations)
    refused("wrong-context", victim.unmask, 1, 0, foreign.confirmations)
    refused("attempt-over", victim.unmask, 0, 0, old.confirmations)


def test_11_a_partial_upload_in_the_sum() -> None:
    fed = federation(3, dimension=BOTH_CHUNKS)
    played = Played(fed, 2)
    told = {party: played.upload(node) for party, node in fed.nodes.items()}
    party = fed.parties[1]
    envelope, chunks = told[party]
    refused("wrong-root", played.server.fold, party, envelope, chunks[:1])
    broken = [chunks[0], bytes([chunks[1][0] ^ 1]) + chunks[1][1:]]
    refused("wrong-root", played.server.fold, party, envelope, broken)
    lying = Upload.from_bytes(envelope.payload).model_copy(update={"root": upload_root(broken)})
    signed = sign(lying.KIND, lying, fed.node_keys[party])
    refused("seal-broken", played.server.fold, party, signed, broken)
    assert not played.server._accumulator().any()
    for member, (header, sealed) in told.items():
        played.server.fold(member, header, sealed)
    played.uploads = played.server.close_uploads()
    played._r3()
    for member, node in fed.nodes.items():
        played.server.unmask(member, node.unmask(0, 0, played.confirmations))
    assert np.array_equal(played.server.total(), fed.expected(fed.parties))


def test_12_un_noised_numbers_beside_the_masked_vector() -> None:
    place = {"manifest", "round", "attempt", "party"}
    allowed: dict[type[Record], set[str]] = {
        Advertisement: {"mask_key", "channel_key", "log"},
        Shares: {"cohort", "sealed"},
        Upload: {"model", "cohort", "sharers", "words", "chunks", "ephemeral_key", "root"},
        Confirmation: {"model", "cohort", "sharers", "uploads"},
        Unmasking: {"uploads", "ephemeral_key", "sealed"},
    }
    for kind, fields in allowed.items():
        assert set(kind.model_fields) == place | fields
    replies: dict[type[Record], set[str]] = {
        wire.AdvertisementReply: {"envelope"},
        wire.SharesReply: {"envelope"},
        wire.UpdateReply: {"upload", "next"},
        wire.ConfirmationReply: {"envelope", "shares"},
        wire.UnmaskingReply: {"envelope"},
        wire.Refusal: {"code", "message"},
        wire.Done: set(),
    }
    for reply, fields in replies.items():
        assert set(reply.model_fields) == {"type"} | fields
    sizes = {  # what a vector holds does not show in what is sent
        tuple(len(chunk) for chunk in chunks)
        for _, chunks in Played(federation(3), 3).chunks.values()
    }
    assert len(sizes) == 1


def test_13_secrets_on_disk() -> None:
    """What the machine gives away to be stored holds neither keys nor b, and in the end nothing."""
    played = Played(federation(3), 2)
    prepared = played.node._prepared
    assert prepared is not None and prepared.dealt is not None
    assert played.node.dump() is None
    secrets = [
        prepared.mask.private_bytes_raw(),
        prepared.channel.private_bytes_raw(),
        prepared.dealt.seed,
    ]
    played._r2()
    kept = played.node.dump() or b""
    assert not any(secret.hex().encode() in kept for secret in secrets)
    assert b'"shares":{' in kept  # these the caller seals
    played._r3()
    played.node.unmask(0, 0, played.confirmations)
    assert b'"shares":null' in (played.node.dump() or b"")
    said = repr(prepared) + repr(Begun.from_bytes(kept))
    assert not any(repr(secret)[2:-1] in said or secret.hex() in said for secret in secrets)
    assert "HeldShares" not in said


def test_14_a_node_asked_twice_for_one_context() -> None:
    fed = federation(5, min_cohort=4)
    played = Played(fed, 1)
    node = played.node
    assert node.advertise(0, 0) is node.advertise(0, 0)
    first = node.share(0, 0, played.cohort)
    assert node.share(0, 0, played.cohort) == first
    refused("already-shared", node.share, 0, 0, played.cohort[:4])
    played._r1()
    played._r2()
    refused("no-mask-key", played.upload, node)
    refused("no-mask-key", node.share, 0, 0, played.cohort)
    said = node.confirm(0, 0, played.uploads)
    played._r3()
    answer = node.unmask(0, 0, played.confirmations)
    for _ in range(2):
        node = played.node
        assert node.confirm(0, 0, played.uploads).to_bytes() == said.to_bytes()
        assert node.unmask(0, 0, played.confirmations).to_bytes() == answer.to_bytes()
        refused("already-confirmed", node.confirm, 0, 0, dict(list(played.uploads.items())[:4]))
        refused("no-mask-key", played.upload, node)
        fed.restart(node.party)


def test_a_share_that_does_not_open_names_its_source_before_anything_is_masked() -> None:
    fed = federation(3)
    played = Played(fed, 2)
    sealed = played.server.sealed_for(played.node.party)
    source = fed.parties[2]
    with pytest.raises(ProtocolError, match=source) as caught:
        played.upload(played.node, sealed=sealed | {source: "00" * 82})
    assert caught.value.code == "share-broken"
    played.upload(played.node)  # its state is as it was


def test_a_wrong_mask_key_or_inconsistent_shares_end_the_attempt() -> None:
    fed = federation(5, min_cohort=4)
    played = Played(fed, 2)
    lost = fed.parties[4]
    for party in fed.parties[:4]:
        played.server.fold(party, *played.upload(fed.nodes[party]))
    played.server.lose(lost)
    uploads = played.server.close_uploads()
    for party in uploads:
        played.server.confirm(party, fed.nodes[party].confirm(0, 0, uploads))
    confirmations = played.server.close_confirmations()
    refused("too-few-shares", played.server.total)
    for party in uploads:
        played.server.unmask(party, fed.nodes[party].unmask(0, 0, confirmations))
    liar = played.server._answers[fed.parties[0]]
    honest, liar[4] = liar[4], (int.from_bytes(liar[4]) ^ 1).to_bytes(33)
    refused("mask-key-mismatch", played.server.total)
    liar[4] = honest
    assert np.array_equal(played.server.total(), fed.expected(fed.parties[:4]))
