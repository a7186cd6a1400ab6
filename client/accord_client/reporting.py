"""A node's receipt of an attempt: signed, made the run's newest record, and queued."""

from datetime import datetime

from accord_client.stores import Stores
from accord_common import wire
from accord_common.envelope import Envelope, sign
from accord_common.fields import format_time
from accord_common.log.checkpoint import Head
from accord_common.manifest import RunManifest
from accord_common.privacy.events import LedgerEntry
from accord_common.receipts import NODE_RECEIPT, NodeReceipt


def report(
    stores: Stores,
    manifest: RunManifest,
    request: wire.Train,
    upload: Envelope,
    upload_bytes: int,
    entry: LedgerEntry,
    head: Head | None,
    now: datetime,
) -> None:
    """Sign the receipt of an upload, and queue it.

    Args:
        stores: the node's open folder.
        manifest: the run.
        request: what was asked.
        upload: the signed message that goes with the chunks.
        upload_bytes: the chunks' size.
        entry: what was charged before.
        head: the newest head of the log that this node has seen.
        now: the node's clock.
    """
    run = stores.state.run(manifest.id)
    assert run is not None and run.head is not None  # an accepted run has its consent
    receipt = NodeReceipt(
        previous=run.head,
        manifest=request.manifest,
        party=stores.party,
        round=request.round,
        attempt=request.attempt,
        model=request.model,
        upload=upload.hash,
        upload_bytes=upload_bytes,
        ledger=entry,
        created=format_time(now),
        log=head,
    )
    envelope = sign(NODE_RECEIPT, receipt, stores.key)
    stores.state.report(manifest.id, request.round, request.attempt, envelope)
