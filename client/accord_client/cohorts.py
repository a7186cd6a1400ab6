"""What a node makes of U1 and U2 as it is told them, and the masks that follow.

Guarantees: every advertisement verifies under the key that its institution delegated and under this
attempt; no key stands in it twice, none has low order, the own entry is unchanged, and fewer than
max(t, n_min) nodes are refused. Every share of a neighbour in U2 opens. Pure functions.
"""

from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_client.secagg_memory import Cohort, Dealt, Prepared, Sharers
from accord_client.unmasking import check_list, too_small
from accord_common.envelope import Envelope
from accord_common.errors import ProtocolError
from accord_common.manifest import RunManifest, context
from accord_common.secagg.channels import open_shares
from accord_common.secagg.graph import is_drawn
from accord_common.secagg.masks import Pair, derive, pair_key, self_key
from accord_common.secagg.messages import (
    Advertisement,
    Commitment,
    cohort_hash,
    sharers_hash,
    verify,
)


def open_cohort(
    prepared: Prepared,
    members: Sequence[Envelope],
    *,
    manifest: RunManifest,
    manifest_hash: str,
    party: str,
    peers: Mapping[str, str],
) -> Cohort:
    """Verify U1.

    Args:
        prepared: the attempt's own keys.
        members: the advertisements of U1 in roster order.
        manifest: the run's.
        manifest_hash: its record hash.
        party: this institution.
        peers: party id to delegated node key, for the whole roster.

    Raises:
        ProtocolError: `small-cohort`, `not-in-roster`, `unsorted-cohort`, `not-in-cohort`,
            `altered-advertisement`, `repeated-mask-key`, `weak-mask-key`, `wrong-context`.
        VerificationError: an advertisement's signature does not hold.
    """
    if not manifest.smallest_cohort <= len(members) <= manifest.n:
        raise too_small(len(members), manifest)
    kind = Commitment if is_drawn(manifest.n) else Advertisement
    opened: dict[str, Advertisement] = {}
    for envelope in members:
        claimed = kind.from_bytes(envelope.payload).party
        if claimed not in peers:
            raise ProtocolError("not-in-roster", f"{claimed} is not in the roster")
        opened[claimed] = verify(
            kind,
            envelope,
            node_key=peers[claimed],
            manifest=manifest_hash,
            round_=prepared.round,
            attempt=prepared.attempt,
            party=claimed,
        )
    if list(opened) != sorted(opened) or len(opened) != len(members):
        raise ProtocolError("unsorted-cohort", "the cohort repeats or is not in roster order")
    mask_keys = {member: message.mask_key for member, message in opened.items()}
    channel_keys = {member: message.channel_key for member, message in opened.items()}
    if len({*mask_keys.values(), *channel_keys.values()}) != 2 * len(opened):
        raise ProtocolError("repeated-mask-key", "two advertised keys are one")
    if party not in opened:
        raise ProtocolError("not-in-cohort", "this node is not in the cohort")
    if prepared.advertisement not in members:
        raise ProtocolError("altered-advertisement", "this node's own entry was exchanged")
    for key in mask_keys.values():  # before anything is shared for a sum that cannot be masked
        derive(prepared.mask, key, salt=b"", info=b"accord key check v1")
    return Cohort(cohort_hash(members), mask_keys, channel_keys)


def open_sharers(
    prepared: Prepared,
    dealt: Dealt,
    cohort: str,
    sharers: Sequence[str],
    sealed: Mapping[str, str],
    model: str,
    *,
    manifest: RunManifest,
    manifest_hash: str,
    party: str,
) -> Sharers:
    """Verify U2, and open what the neighbours in it sealed to `party`.

    Args:
        prepared: the attempt's own keys.
        dealt: what this node shared.
        cohort: H(U1) as the aggregator says it.
        sharers: U2 in roster order.
        sealed: source -> ciphertext, for this node's neighbours in U2.
        model: h_r.
        manifest: the run's.
        manifest_hash: its record hash.
        party: this institution.

    Raises:
        ProtocolError: `wrong-cohort`, `small-cohort`, `unsorted-cohort`, `not-in-cohort`,
            `wrong-shares`, or `share-broken` naming the source.
    """
    if cohort != dealt.cohort.hash:
        raise ProtocolError("wrong-cohort", "this is not the cohort that was shared among")
    check_list(sharers, dealt.cohort.mask_keys, party, manifest)
    circle = dealt.around.circles[party]
    givers = [giver for giver in sharers if giver in circle]
    if sealed.keys() != set(givers) - {party}:
        raise ProtocolError("wrong-shares", "the shares are not those of the neighbours in U2")
    ctx = context(manifest_hash, prepared.round, prepared.attempt)
    shares = {
        giver: dealt.own
        if giver == party
        else open_shares(
            sealed[giver],
            prepared.channel,
            dealt.cohort.channel_keys[giver],
            context=ctx,
            source=giver,
            destination=party,
            cohort=cohort,
        )
        for giver in givers
    }
    return Sharers(
        prepared.round,
        prepared.attempt,
        model,
        cohort,
        sharers_hash(sharers),
        tuple(sharers),
        shares,
        mask_streams(prepared.mask, dealt, givers, party, ctx, model),
    )


def mask_streams(
    mask: X25519PrivateKey, dealt: Dealt, givers: Sequence[str], party: str, ctx: bytes, model: str
) -> tuple[Pair, ...]:
    """Return the self mask of `party`, and one with each other of its circle in U2."""
    pairs = [Pair(self_key(dealt.seed, ctx, party), adds=True)]
    for peer in givers:
        if peer == party:
            continue
        lower, higher = sorted((party, peer))
        key = pair_key(
            mask,
            dealt.cohort.mask_keys[peer],
            lower=lower,
            higher=higher,
            context=ctx,
            cohort=dealt.cohort.hash,
            model=model,
        )
        pairs.append(Pair(key, adds=party == lower))
    return tuple(pairs)
