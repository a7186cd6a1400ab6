"""Which masks a sum still holds once U3 is fixed, from the shares that R4 gave back.

Guarantees: every self mask of U3 and every pairwise mask between U3 and a lost member of U2, each
with the sign that takes it off, and none else; a lost member's mask key is compared with the one it
advertised before it is used (Bonawitz et al. 2017, section 4, round 4).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_common.errors import ProtocolError
from accord_common.manifest import RunManifest
from accord_common.secagg.graph import Neighbourhood
from accord_common.secagg.masks import Pair, pair_key, public_key, self_key
from accord_common.secagg.shamir import Share, combine


def combined(
    answers: Mapping[str, Sequence[bytes]],
    held: Mapping[str, Sequence[str]],
    threshold: int,
    manifest: RunManifest,
) -> dict[str, bytes]:
    """Combine the shares of R4.

    Args:
        answers: holder -> its shares, 33 bytes each.
        held: holder -> the members of U2 that its shares are of, in their order.
        threshold: how many give a secret back.
        manifest: the run's, for the points.

    Returns:
        Member of U2 -> the 32-byte secret, in roster order.

    Raises:
        ProtocolError: `too-few-shares`, `inconsistent-shares`, `bad-secret`.
    """
    shares = defaultdict(list)
    for holder in sorted(answers):
        x = manifest.index(holder) + 1
        for party, value in zip(held[holder], answers[holder], strict=True):
            shares[party].append(Share(x, value))
    return {party: combine(shares[party], threshold) for party in sorted(shares)}


def left_over(
    secrets: Mapping[str, bytes],
    survivors: AbstractSet[str],
    graph: Neighbourhood,
    mask_keys: Mapping[str, str],
    *,
    context: bytes,
    cohort: str,
    model: str,
) -> list[Pair]:
    """Return the streams that turn the masked sum over U3 into the sum.

    Args:
        secrets: member of U2 -> its b where it is in U3, else its mask key, 32 bytes each.
        survivors: U3.
        graph: who masked with whom.
        mask_keys: party -> advertised X25519 mask key, hex.
        context: `manifest.context`.
        cohort: H(U1).
        model: h_r.

    Raises:
        ProtocolError: `mask-key-mismatch` where a lost member's secret is not its key.
    """
    pairs = []
    for party, secret in secrets.items():
        if party in survivors:
            pairs.append(Pair(self_key(secret, context, party), adds=False))
            continue
        mask = X25519PrivateKey.from_private_bytes(secret)
        if public_key(mask) != mask_keys[party]:
            raise ProtocolError(
                "mask-key-mismatch", f"the shares of {party} do not give the key it advertised"
            )
        for other in graph.circles[party]:
            if other not in survivors:
                continue
            lower, higher = sorted((party, other))
            key = pair_key(
                mask,
                mask_keys[other],
                lower=lower,
                higher=higher,
                context=context,
                cohort=cohort,
                model=model,
            )
            pairs.append(Pair(key, adds=other == higher))
    return pairs
