"""A node's part in the draw of the graph: commit to 32 random bytes, then reveal them to one U1.

Guarantees: the value is fresh for each advertisement, and is signed away for one U1 only; that
the graph then follows from all values is `accord_common.secagg.draw`'s part.

Not covered: how often a node does so; its state machine counts.
"""

from collections.abc import Sequence
from secrets import token_bytes

from accord_client.secagg_memory import Cohort, Prepared, Revealed
from accord_common.envelope import Envelope, sign
from accord_common.identity import SigningKey
from accord_common.manifest import context
from accord_common.secagg.draw import VALUE_BYTES, commitment
from accord_common.secagg.messages import Advertisement, Commitment, Reveal


def commit(keys: Advertisement) -> tuple[Commitment, bytes]:
    """Draw a value; return the advertisement that commits to it as well, and the value."""
    value = token_bytes(VALUE_BYTES)
    ctx = context(keys.manifest, keys.round, keys.attempt)
    return Commitment(**keys.model_dump(), commitment=commitment(value, ctx, keys.party)), value


def reveal(
    prepared: Prepared, cohort: Cohort, members: Sequence[Envelope], key: SigningKey
) -> Revealed:
    """Sign the value that `prepared` committed to, for the verified `cohort` of `members`."""
    own = Commitment.from_bytes(prepared.advertisement.payload)
    message = Reveal(
        manifest=own.manifest,
        round=own.round,
        attempt=own.attempt,
        party=own.party,
        cohort=cohort.hash,
        value=prepared.value.hex(),
    )
    return Revealed(cohort, tuple(members), sign(Reveal.KIND, message, key))
