"""Attacks on the draw of a graph, and by means of it, by a server with every key but the nodes'.

The graph is drawn for eight nodes and more here; what is attacked does not depend on their number.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_client import unmasking
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError, VerificationError
from accord_common.identity import SigningKey
from accord_common.manifest import context
from accord_common.rings import Words, ring_of
from accord_common.secagg import graph
from accord_common.secagg.channels import open_answer
from accord_common.secagg.draw import commitment, parameters_of
from accord_common.secagg.masks import Pair, add_masks, pair_key, self_key
from accord_common.secagg.messages import Commitment, Reveal, Unmasking, Upload, cohort_hash
from accord_common.secagg.sealing import unseal
from accord_common.secagg.shamir import Share, combine
from tests.graph_driver import Drawn, drawn_federation
from tests.secagg_driver import federation


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "COMPLETE_UP_TO", 7)


def refused(code: str, action: Callable[..., object], *told: Any, **named: Any) -> None:
    with pytest.raises(AccordError) as caught:
        action(*told, **named)
    assert caught.value.code == code, caught.value


def played(reach: int, *, n: int = 14, lost: int = 2, colluders: int = 1, **more: int) -> Drawn:
    """An honest attempt's first stages: commit, draw, share, upload, confirm."""
    fed = drawn_federation(n, lost=lost, colluders=colluders, **more)
    attempt = Drawn(fed, fed.attempt())
    for stage in ("commit", "draw", "share", "upload", "confirm")[:reach]:
        getattr(attempt, stage)()
    return attempt


def resigned(attempt: Drawn, envelope: Envelope, **changes: Any) -> Envelope:
    """A colluder's message, altered and signed with its own key."""
    kind = {k.KIND: k for k in (Commitment, Reveal, Upload)}[envelope.kind]
    body = kind.from_bytes(envelope.payload).model_copy(update=changes)
    return sign(envelope.kind, body, attempt.fed.node_keys[body.party])


def test_different_commitments_shown_to_different_nodes() -> None:
    """A colluder commits twice: each camp reveals to its own cohort, and neither draws."""
    attempt = played(1)
    parties, cohort = attempt.fed.parties, attempt.cohort
    puppet, value = parties[-1], bytes(32)
    ctx = context(attempt.fed.manifest_hash, 0, 0)
    other = resigned(attempt, cohort[-1], commitment=commitment(value, ctx, puppet))
    camps = {party: [*cohort[:-1], other] if at % 2 else cohort for at, party in enumerate(parties)}
    reveals = {p: attempt.fed.nodes[p].reveal(0, 0, camps[p]) for p in parties[:-1]}
    for party in parties[:2]:
        told = cohort_hash(camps[party])
        body = Reveal(
            manifest=attempt.fed.manifest_hash,
            round=0,
            attempt=0,
            party=puppet,
            cohort=told,
            value=value.hex(),
        )
        node = attempt.fed.nodes[party]
        whole = reveals | {puppet: sign(Reveal.KIND, body, attempt.fed.node_keys[puppet])}
        refused("wrong-reveal", node.share_drawn, 0, 0, whole)
        agreeing = {p: e for p, e in whole.items() if camps.get(p) == camps[party] or p == puppet}
        refused("missing-reveal", node.share_drawn, 0, 0, agreeing)
        refused("already-revealed", node.reveal, 0, 0, camps[parties[2 - parties.index(party) - 1]])


def test_a_colluder_that_reveals_other_values_to_other_nodes() -> None:
    attempt = played(2)
    puppet = attempt.fed.parties[-1]
    node = attempt.fed.nodes[attempt.fed.parties[0]]
    for changes in ({"value": "00" * 32}, {"cohort": "ab" * 32}):
        lie = resigned(attempt, attempt.reveals[puppet], **changes)
        refused("wrong-reveal", node.share_drawn, 0, 0, attempt.reveals | {puppet: lie})
    node.share_drawn(0, 0, attempt.reveals)


def test_a_commitment_copied_from_somebody_else() -> None:
    """Two equal values would be no harm; a copy does not open all the same."""
    attempt = played(1)
    first, puppet = attempt.fed.parties[0], attempt.fed.parties[-1]
    copied = Commitment.from_bytes(attempt.cohort[0].payload).commitment
    cohort = [*attempt.cohort[:-1], resigned(attempt, attempt.cohort[-1], commitment=copied)]
    nodes = attempt.fed.nodes
    reveals = {p: nodes[p].reveal(0, 0, cohort) for p in attempt.fed.parties[:-1]}
    said = Reveal.from_bytes(reveals[first].payload).model_copy(update={"party": puppet})
    reveals[puppet] = sign(Reveal.KIND, said, attempt.fed.node_keys[puppet])
    refused("wrong-reveal", nodes[first].share_drawn, 0, 0, reveals)


def test_a_reveal_that_is_dropped_forged_or_replayed() -> None:
    attempt = played(2)
    fed, server = attempt.fed, attempt.fed.attempt()
    for party, envelope in zip(fed.parties, attempt.cohort, strict=True):
        server.advertise(party, envelope)
    server.close_cohort()
    victim, other = fed.parties[0], fed.parties[3]
    rest = {party: e for party, e in attempt.reveals.items() if party != other}
    body = Reveal.from_bytes(attempt.reveals[other].payload)
    forged = sign(Reveal.KIND, body, SigningKey.generate())
    swapped = rest | {other: attempt.reveals[fed.parties[4]]}
    stale = body.model_copy(update={"attempt": 7})
    for take in (lambda told: fed.nodes[victim].share_drawn(0, 0, told), server.draw):
        with pytest.raises(AccordError, match=other) as caught:
            take(rest)
        assert caught.value.code == "missing-reveal"
        with pytest.raises(VerificationError):
            take(rest | {other: forged})
        with pytest.raises(VerificationError):
            take(swapped)
        old = sign(Reveal.KIND, stale, fed.node_keys[other])
        refused("wrong-context", take, rest | {other: old})
        refused("not-in-cohort", take, attempt.reveals | {"nobody": forged})
    server.draw(attempt.reveals)
    refused("wrong-stage", server.draw, attempt.reveals)


def test_the_last_to_reveal_throws_graphs_away_until_it_likes_one() -> None:
    """Each look costs every honest node one of its draws, and new values for the next."""
    attempt = played(1, attempts=4)
    fed, seen = attempt.fed, set()
    node = fed.nodes[fed.parties[0]]
    for _ in range(4):
        cohort = [other.advertise(0, 0) for other in fed.nodes.values()]
        seen.add(Commitment.from_bytes(cohort[0].payload).commitment)
        for other in fed.nodes.values():
            other.reveal(0, 0, cohort)
            assert other.reveal(0, 0, cohort) == other.reveal(0, 0, cohort)  # counted once
    assert len(seen) == 4
    cohort = [other.advertise(0, 1) for other in fed.nodes.values()]
    refused("too-many-draws", node.reveal, 0, 1, cohort)
    refused("not-revealed", node.share_drawn, 0, 1, {})


def test_a_graph_of_the_servers_choice() -> None:
    attempt = played(3)
    fed, server = attempt.fed, attempt.server
    victim = fed.parties[0]
    node, circle = fed.nodes[victim], server.graph.circles[victim]
    refused("wrong-graph", node.share, 0, 0, attempt.cohort)  # everybody instead
    refused("missing-reveal", node.share_drawn, 0, 0, {})
    sealed = server.sealed_for(victim)
    strangers = [party for party in fed.parties if party not in circle]
    stranger = strangers[0]
    theirs = server.sealed_for(stranger)
    refused("wrong-shares", attempt.mask, victim, sealed=sealed | {stranger: theirs.popitem()[1]})
    fewer = dict(list(sealed.items())[1:])
    refused("wrong-shares", attempt.mask, victim, sealed=fewer)
    node.open_sharers(0, 0, server.cohort_hash, server.sharers, sealed, server.model)


def test_a_draw_where_the_graph_is_complete() -> None:
    fed = federation(3)
    node = fed.nodes[fed.parties[0]]
    cohort = [other.advertise(0, 0) for other in fed.nodes.values()]
    assert {envelope.kind for envelope in cohort} == {"advertisement"}
    refused("wrong-graph", node.reveal, 0, 0, cohort)
    refused("wrong-graph", node.share_drawn, 0, 0, {})


def test_shares_asked_of_a_node_that_is_no_neighbour() -> None:
    attempt = played(5)
    fed, server = attempt.fed, attempt.server
    node = fed.nodes[fed.parties[0]]
    circle = server.graph.circles[node.party]
    stranger = next(party for party in fed.parties if party not in circle)
    told = attempt.told(node.party)
    refused(
        "wrong-upload", node.unmask, 0, 0, attempt.confirmations, [*told, attempt.headers[stranger]]
    )
    refused("wrong-upload", node.unmask, 0, 0, attempt.confirmations, told[1:])
    given = opening(attempt, node.unmask(0, 0, attempt.confirmations, told))
    assert list(given) == list(circle)
    assert stranger not in given


def test_a_node_isolated_among_colluders() -> None:
    """Its neighbours are said to be lost, or never to have been there; too few are for either."""
    attempt = played(3, n=20, lost=4)
    fed, server = attempt.fed, attempt.server
    victim = fed.parties[0]
    near = [party for party in server.graph.circles[victim] if party != victim]
    puppet, honest = near[0], near[1:]  # as many colluders as there are
    most, numbers = fed.manifest.n - fed.manifest.smallest_cohort, parameters_of(fed.manifest)
    assert len(honest) == most + 1 == numbers.degree - 1

    alone = [party for party in fed.parties if party not in honest]
    assert puppet in alone
    refused("small-cohort", attempt.mask, victim, sharers=alone, sealed={})
    told = [party for party in fed.parties if party not in honest[:most]]
    sealed = {p: s for p, s in server.sealed_for(victim).items() if p in told}
    upload, _ = attempt.mask(victim, sharers=told, sealed=sealed)
    begun = fed.nodes[victim]._begun
    assert begun is not None and begun.shares is not None
    assert honest[most] in begun.shares  # an honest neighbour is left, whoever they leave out
    uploads = dict.fromkeys(alone, "ff" * 32) | {victim: upload.hash}
    refused("small-cohort", fed.nodes[victim].confirm, 0, 0, uploads)


def test_a_few_neighbours_confirm_for_the_whole_roster() -> None:
    attempt = played(5)
    fed = attempt.fed
    node = fed.nodes[fed.parties[0]]
    circle = attempt.server.graph.circles[node.party]
    near = [e for p, e in zip(fed.parties, attempt.confirmations, strict=True) if p in circle]
    assert attempt.server.graph.threshold <= len(near) < fed.manifest.secagg.threshold
    refused("too-few-confirmations", node.unmask, 0, 0, near, attempt.told(node.party))


def opening(attempt: Drawn, envelope: Envelope) -> dict[str, Share]:
    """What one node's R4 gives the server: member of U2 -> share."""
    fed, server = attempt.fed, attempt.server
    answer = Unmasking.from_bytes(envelope.payload)
    held = [p for p in server.graph.circles[answer.party] if p in server.sharers]
    values = open_answer(
        answer.sealed,
        fed.envelope_key,
        answer.ephemeral_key,
        count=len(held),
        context=context(fed.manifest_hash, 0, 0),
        source=answer.party,
        destination=fed.manifest.aggregator.party,
        uploads=answer.uploads,
    )
    x = fed.manifest.index(answer.party) + 1
    return {party: Share(x, value) for party, value in zip(held, values, strict=True)}


def test_two_lists_that_isolate_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """The victim is told a U2 without some neighbours; all others a U3 without the rest of them.

    No list is too small, and t nodes confirm. Were b given for it, its vector would lie open.
    """
    refused("wrong-upload", exposed, *isolated())
    monkeypatch.setattr(unmasking, "_check_uploads", lambda *_: None)
    attempt, victim, puppet = isolated()
    assert np.array_equal(exposed(attempt, victim, puppet), attempt.fed.vector(victim))


def isolated() -> tuple[Drawn, str, X25519PrivateKey]:
    """An attempt in which a node masked with nobody whose mask key stays unknown, and that node.

    Its neighbours: a colluder, whose key comes along; two that it was not told of; one that
    everybody else takes for lost.
    """
    attempt = played(3)
    fed, server = attempt.fed, attempt.server
    victim = fed.parties[0]
    puppet, *unsaid, lost = [p for p in server.graph.circles[victim] if p != victim]
    prepared = fed.nodes[puppet]._prepared
    assert prepared is not None
    for party in fed.parties:
        told = [p for p in fed.parties if p not in unsaid or party != victim]
        sealed = {p: s for p, s in server.sealed_for(party).items() if p in told}
        attempt.headers[party], attempt.chunks[party] = attempt.mask(
            party, sharers=told, sealed=sealed
        )
    attempt.uploads = {p: attempt.headers[p].hash for p in fed.parties if p != lost}
    attempt.confirmations = [
        fed.nodes[party].confirm(0, 0, attempt.uploads)
        for party in attempt.uploads
        if party != victim  # it would refuse, and is not asked
    ]
    return attempt, victim, prepared.mask


def exposed(attempt: Drawn, victim: str, puppet: X25519PrivateKey) -> Words:
    """The victim's vector, by all shares that the other nodes give of b and of lost mask keys."""
    fed, server = attempt.fed, attempt.server
    given = [
        opening(attempt, fed.nodes[party].unmask(0, 0, attempt.confirmations, attempt.told(party)))
        for party in attempt.uploads
        if party != victim
    ]

    def secret(party: str) -> bytes:
        shares = [shares[party] for shares in given if party in shares]
        return combine(shares, server.graph.threshold)

    bodies = [Commitment.from_bytes(envelope.payload) for envelope in attempt.cohort]
    keys = {body.party: body.mask_key for body in bodies}
    lost = next(party for party in fed.parties if party not in attempt.uploads)
    ctx = context(fed.manifest_hash, 0, 0)
    masks = [Pair(self_key(secret(victim), ctx, victim), adds=False)]
    for mask in (puppet, X25519PrivateKey.from_private_bytes(secret(lost))):
        public = mask.public_key().public_bytes_raw().hex()
        peer = next(party for party, key in keys.items() if key == public)
        lower, higher = sorted((victim, peer))
        key = pair_key(
            mask,
            keys[victim],
            lower=lower,
            higher=higher,
            context=ctx,
            cohort=server.cohort_hash,
            model=server.model,
        )
        masks.append(Pair(key, adds=victim == higher))
    header = Upload.from_bytes(attempt.headers[victim].payload)
    pieces = unseal(
        attempt.chunks[victim],
        fed.envelope_key,
        header.ephemeral_key,
        words=header.words,
        ring=ring_of(32),
        context=ctx,
        source=victim,
        destination=fed.manifest.aggregator.party,
    )
    vector = np.concatenate(list(pieces))
    add_masks(vector, masks)
    return vector
