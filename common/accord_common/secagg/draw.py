"""The draw of an attempt's graph, above 50 nodes: all commit, then all reveal, then it follows.

Guarantees: the graph follows from 32 bytes of every member of U1, each committed to before any was
revealed: a node reveals once for an advertisement, and to one U1, whose hash covers all its
commitments; `draw` takes no reveal that was given to another U1 and goes without none. So the
graph is uniform as soon as one member draws honestly, and honest nodes that share secrets in one
cohort have drawn the same one.

Edge cases: whoever reveals last, or forwards the reveals, sees the graph first and may have it
thrown away by withholding one. That costs the attempt, and one of the draws that each node counts:
`max_attempts_total` in a run. A completed draw spends one of at least max(t, n_min) - c honest
nodes, more than half of them all, so a run has fewer than 2 `max_attempts_total`, and
`graph.parameters` allows for as many.

Not covered: that a node's count outlives a restart, which its caller has to see to.
"""

import hashlib
from collections.abc import Mapping, Sequence

from accord_common.envelope import Envelope
from accord_common.errors import ProtocolError
from accord_common.manifest import RunManifest, context
from accord_common.secagg.graph import Neighbourhood, Parameters, drawn, parameters
from accord_common.secagg.messages import Commitment, Reveal, cohort_hash, verify

VALUE_BYTES = 32


def parameters_of(manifest: RunManifest) -> Parameters:
    """Degree and share threshold of a run; `graph-too-dense` where there are none."""
    return parameters(
        manifest.n,
        manifest.smallest_cohort,
        manifest.secagg.colluders,
        manifest.max_attempts_total,
    )


def commitment(value: bytes, ctx: bytes, party: str) -> str:
    """SHA-256 that hides and binds a party's 32 random bytes for one attempt; hex."""
    return hashlib.sha256(b"accord commitment v1" + ctx + party.encode() + value).hexdigest()


def seed(values: Sequence[bytes], ctx: bytes, cohort: str) -> bytes:
    """SHA-256 over attempt, H(U1), and every member's value in roster order."""
    digest = hashlib.sha256(b"accord graph v1" + ctx + bytes.fromhex(cohort))
    for value in values:
        digest.update(value)
    return digest.digest()


def draw(
    reveals: Mapping[str, Envelope],
    members: Sequence[Envelope],
    *,
    manifest: RunManifest,
    manifest_hash: str,
    node_keys: Mapping[str, str],
    round_: int,
    attempt: int,
) -> Neighbourhood:
    """Verify every reveal against its commitment and derive the graph.

    Args:
        reveals: party -> its `Reveal`, for all of U1 and nobody else.
        members: the `Commitment`s of U1 in roster order, verified.
        manifest: the run's.
        manifest_hash: its record hash.
        node_keys: party id to delegated node key, for the whole roster.
        round_: the attempt's round.
        attempt: its number.

    Raises:
        ProtocolError: `missing-reveal` naming who has not revealed, `not-in-cohort`,
            `wrong-reveal` where one was given to another U1 or does not open its commitment,
            `wrong-kind`, `wrong-context`.
        VerificationError: a signature does not hold.
        PolicyError: `graph-too-dense`.
    """
    bodies = [Commitment.from_bytes(envelope.payload) for envelope in members]
    parties = [body.party for body in bodies]
    if missing := sorted(set(parties) - reveals.keys()):
        raise ProtocolError(
            "missing-reveal",
            f"{', '.join(missing)} of {len(parties)} nodes did not reveal",
            hint="The aggregator must open a new attempt without them.",
        )
    if strangers := sorted(reveals.keys() - set(parties)):
        raise ProtocolError("not-in-cohort", f"{strangers[0]} reveals, and is not in the cohort")
    cohort, ctx = cohort_hash(members), context(manifest_hash, round_, attempt)
    values = []
    for body in bodies:
        reveal = verify(
            Reveal,
            reveals[body.party],
            node_key=node_keys[body.party],
            manifest=manifest_hash,
            round_=round_,
            attempt=attempt,
            party=body.party,
        )
        value = bytes.fromhex(reveal.value)
        if reveal.cohort != cohort:
            raise ProtocolError("wrong-reveal", f"{body.party} revealed to another cohort")
        if commitment(value, ctx, body.party) != body.commitment:
            raise ProtocolError("wrong-reveal", f"{body.party} reveals not what it committed to")
        values.append(value)
    return drawn(parties, seed(values, ctx, cohort), parameters_of(manifest))
