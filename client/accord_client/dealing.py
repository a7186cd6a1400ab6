"""R1 at a node: draw b, and share b and the mask key among the node's circle.

Guarantees: every share is sealed to its holder alone; fewer than the circle's threshold of them
tell nothing. With a complete graph the circle is U1, else this node and its neighbours in it.
"""

from secrets import token_bytes

from accord_client.secagg_memory import Cohort, Dealt, Prepared
from accord_common.envelope import sign
from accord_common.identity import SigningKey
from accord_common.manifest import RunManifest, context
from accord_common.secagg.channels import PeerShares, seal_shares
from accord_common.secagg.graph import Neighbourhood
from accord_common.secagg.masks import SEED_BYTES
from accord_common.secagg.messages import Shares
from accord_common.secagg.shamir import split


def deal(
    prepared: Prepared,
    cohort: Cohort,
    around: Neighbourhood,
    *,
    manifest: RunManifest,
    manifest_hash: str,
    party: str,
    key: SigningKey,
) -> Dealt:
    """Share this node's secrets and sign the `Shares`.

    Args:
        prepared: the attempt's own keys.
        cohort: the verified U1.
        around: the attempt's graph.
        manifest: the run's.
        manifest_hash: its record hash.
        party: this institution.
        key: the node's signing key.
    """
    ctx = context(manifest_hash, prepared.round, prepared.attempt)
    circle, seed = around.circles[party], token_bytes(SEED_BYTES)
    points = [manifest.index(holder) + 1 for holder in circle]
    dealt = {
        holder: PeerShares(of_seed.value, of_key.value)
        for holder, of_seed, of_key in zip(
            circle,
            split(seed, around.threshold, points),
            split(prepared.mask.private_bytes_raw(), around.threshold, points),
            strict=True,
        )
    }
    own = dealt.pop(party)
    message = Shares(
        manifest=manifest_hash,
        round=prepared.round,
        attempt=prepared.attempt,
        party=party,
        cohort=cohort.hash,
        sealed={
            peer: seal_shares(
                shares,
                prepared.channel,
                cohort.channel_keys[peer],
                context=ctx,
                source=party,
                destination=peer,
                cohort=cohort.hash,
            )
            for peer, shares in dealt.items()
        },
    )
    return Dealt(cohort, around, seed, own, sign(Shares.KIND, message, key))
