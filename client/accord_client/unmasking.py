"""What a node says after its vector has left: R3 confirms one list, R4 gives one share of each.

Guarantees: pure functions from the attempt as begun to an answer and the attempt as it then stands.
One attempt confirms one list of uploads, and only one that holds this node's own upload and enough
others; of each member's two secrets a share of exactly one is given, and only after t members of U3
signed the very values that this node signed (Bonawitz et al. 2017, section 6).

Not covered: durability, which `session.py` sees to before an answer leaves.
"""

from collections.abc import Collection, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_client.secagg_memory import Begun
from accord_common.envelope import Envelope, sign
from accord_common.errors import ProtocolError
from accord_common.identity import SigningKey
from accord_common.manifest import RunManifest, context
from accord_common.secagg.channels import seal_answer
from accord_common.secagg.graph import is_drawn
from accord_common.secagg.masks import public_key
from accord_common.secagg.messages import (
    Confirmation,
    M,
    Unmasking,
    Upload,
    sharers_hash,
    uploads_hash,
    verify,
)


def confirm(
    begun: Begun, uploads: Mapping[str, str], manifest: RunManifest, key: SigningKey
) -> tuple[Envelope, Begun]:
    """Sign model, U1, U2 and U3.

    Args:
        begun: the attempt.
        uploads: U3: party -> record hash of its upload.
        manifest: the run's.
        key: the node's signing key.

    Raises:
        ProtocolError: `small-cohort`, `unsorted-cohort`, `not-in-cohort`, `altered-upload` where
            this node's own is another, or `already-confirmed` for another list.
    """
    check_list(sorted(uploads), begun.sharers, begun.party, manifest)
    if uploads[begun.party] != begun.upload:
        raise ProtocolError("altered-upload", "this node's own upload was exchanged")
    message = Confirmation(
        manifest=begun.manifest,
        round=begun.round,
        attempt=begun.attempt,
        party=begun.party,
        model=begun.model,
        cohort=begun.cohort,
        sharers=sharers_hash(begun.sharers),
        uploads=uploads_hash(uploads),
    )
    if begun.confirmation is not None:
        if begun.confirmation.payload != message.to_bytes():
            raise ProtocolError("already-confirmed", "another list of uploads was confirmed")
        return begun.confirmation, begun
    envelope = sign(Confirmation.KIND, message, key)
    after = begun.model_copy(update={"uploads": sorted(uploads), "confirmation": envelope})
    return envelope, after


def unmask(
    begun: Begun,
    confirmations: Sequence[Envelope],
    uploads: Sequence[Envelope],
    manifest: RunManifest,
    peers: Mapping[str, str],
    key: SigningKey,
) -> tuple[Envelope, Begun]:
    """Seal to the aggregator one share for each of U2 whose shares are here; then forget them all.

    With a drawn graph, a share of b is given only for a node that signed these very lists when it
    masked. With a complete one, more nodes confirm them than any other list leaves out.

    Args:
        begun: the attempt.
        confirmations: of at least t members of U3.
        uploads: with a drawn graph, the signed `Upload` of each of U3 whose shares are here.
        manifest: the run's.
        peers: party id to delegated node key, for the whole roster.
        key: the node's signing key.

    Raises:
        ProtocolError: `not-confirmed`, `too-few-confirmations`, `not-in-cohort`,
            `repeated-confirmation`, `wrong-confirmation` where one names other values than this
            node's own, `wrong-upload` where an upload is missing or names other lists,
            `wrong-context`; `attempt-over` where a later attempt replaced this one.
        VerificationError: a signature does not hold.
    """
    if begun.confirmation is None or begun.uploads is None:
        raise ProtocolError("not-confirmed", "this node has confirmed nothing in this attempt")
    own = Confirmation.from_bytes(begun.confirmation.payload)
    _check_confirmations(own, begun.uploads, confirmations, manifest, peers)
    if begun.unmasking is not None:
        return begun.unmasking, begun
    if begun.shares is None:
        raise ProtocolError("attempt-over", "the attempt was replaced by a later one")
    if is_drawn(manifest.n):
        listed = set(begun.shares).intersection(begun.uploads) - {begun.party}
        _check_uploads(own, listed, uploads, peers)
    values = [
        bytes.fromhex(held.seed if party in begun.uploads else held.key)
        for party, held in sorted(begun.shares.items())
    ]
    ephemeral, aggregator = X25519PrivateKey.generate(), manifest.aggregator
    message = Unmasking(
        manifest=begun.manifest,
        round=begun.round,
        attempt=begun.attempt,
        party=begun.party,
        uploads=own.uploads,
        ephemeral_key=public_key(ephemeral),
        sealed=seal_answer(
            values,
            ephemeral,
            aggregator.envelope_key,
            context=context(begun.manifest, begun.round, begun.attempt),
            source=begun.party,
            destination=aggregator.party,
            uploads=own.uploads,
        ),
    )
    envelope = sign(Unmasking.KIND, message, key)
    return envelope, begun.model_copy(update={"shares": None, "unmasking": envelope})


def check_list(
    parties: Sequence[str], within: Collection[str], own: str, manifest: RunManifest
) -> None:
    """Check U2 within U1, or U3 within U2: in roster order, large enough, with this node.

    Raises:
        ProtocolError: `small-cohort`, `unsorted-cohort`, `not-in-cohort`.
    """
    if len(parties) < manifest.smallest_cohort:
        raise too_small(len(parties), manifest)
    if list(parties) != sorted(set(parties)):
        raise ProtocolError("unsorted-cohort", "the list repeats or is not in roster order")
    if not set(parties) <= set(within):
        raise ProtocolError("not-in-cohort", "the list names nodes that were not in the last")
    if own not in parties:
        raise ProtocolError("not-in-cohort", "this node is not in the list")


def too_small(count: int, manifest: RunManifest) -> ProtocolError:
    """Return `small-cohort`, with both numbers."""
    smallest = manifest.smallest_cohort
    return ProtocolError("small-cohort", f"{count} nodes, max(t, n_min) is {smallest}")


def _check_confirmations(
    own: Confirmation,
    uploads: Collection[str],
    confirmations: Sequence[Envelope],
    manifest: RunManifest,
    peers: Mapping[str, str],
) -> None:
    threshold = manifest.secagg.threshold
    if not threshold <= len(confirmations) <= manifest.n:
        raise ProtocolError(
            "too-few-confirmations", f"{len(confirmations)} confirmations, t is {threshold}"
        )
    signers = set()
    for envelope in confirmations:
        claimed = Confirmation.from_bytes(envelope.payload).party
        if claimed not in uploads:
            raise ProtocolError("not-in-cohort", f"{claimed} has no upload in this attempt")
        if claimed in signers:
            raise ProtocolError("repeated-confirmation", f"{claimed} confirms twice")
        signers.add(claimed)
        message = _of_this_attempt(Confirmation, envelope, own, claimed, peers)
        if message != own.model_copy(update={"party": claimed}):
            raise ProtocolError("wrong-confirmation", f"{claimed} was told other lists")


def _check_uploads(
    own: Confirmation,
    parties: Collection[str],
    uploads: Sequence[Envelope],
    peers: Mapping[str, str],
) -> None:
    signed = {Upload.from_bytes(envelope.payload).party: envelope for envelope in uploads}
    if signed.keys() != set(parties):
        raise ProtocolError("wrong-upload", "the uploads are not those of the neighbours in U3")
    for party, envelope in signed.items():
        message = _of_this_attempt(Upload, envelope, own, party, peers)
        told = message.model, message.cohort, message.sharers
        if told != (own.model, own.cohort, own.sharers):
            raise ProtocolError("wrong-upload", f"{party} masked for other lists")


def _of_this_attempt(
    kind: type[M], envelope: Envelope, own: Confirmation, party: str, peers: Mapping[str, str]
) -> M:
    return verify(
        kind,
        envelope,
        node_key=peers[party],
        manifest=own.manifest,
        round_=own.round,
        attempt=own.attempt,
        party=party,
    )
