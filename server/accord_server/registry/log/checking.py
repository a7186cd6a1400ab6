"""Files of evidence, checked here for whoever asks: checkpoints, a record's proof, a bundle.

Guarantees: the same code as `accord audit verify`; nothing is kept. What is in the file is compared
with this log too: whether it grew from every checkpoint in the file.

Not covered: the registry itself: its own word proves nothing about it. `accord audit verify` on the
reader's own machine does.
"""

import asyncio
import io
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from accord_common.api.log_schemas import EvidenceCheck
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, FormatError, VerificationError
from accord_common.log.audit import audit
from accord_common.log.checkpoint import Checkpoint, same_tree, verify_checkpoint
from accord_common.log.proof import MAX_PROOF_BYTES, RecordProof
from accord_server.registry.context import Registry
from accord_server.registry.log import service

_MOST_LINES = 1000  # checkpoints in one file; each is a signature


@dataclass(slots=True)
class _Found:
    kind: Literal["checkpoint", "proof", "bundle"]
    head: Checkpoint | None = None
    records: int = 0
    trusted: bool = False
    failures: list[str] = field(default_factory=list)
    older: list[Checkpoint] = field(default_factory=list)


async def check(registry: Registry, data: bytes, trust: Collection[str]) -> EvidenceCheck:
    """Check a file.

    Args:
        registry: whose log it is compared with.
        data: the file, as `accord audit` wrote it.
        trust: hashes of agreements that the reader knows to be the parties' own.

    Raises:
        FormatError: `bad-evidence` where it is none of these files; `damaged-bundle`.
    """
    found = await asyncio.to_thread(_read, data, trust)
    verdict: Literal["verified", "foreign", "broken"] = "broken"
    if not found.failures and found.head is not None:
        heads = [found.head, *found.older]
        verdict = (
            "foreign" if {head.log for head in heads} != {registry.log_key.public} else "verified"
        )
        for one in heads:
            error = None
            if one.log == registry.log_key.public:
                error = await _grown(registry, one)
            if error is not None:
                verdict = "broken"
                found.failures.append(f"[{error.code}] {error.message}")
    head = found.head
    return EvidenceCheck(
        kind=found.kind,
        verdict=verdict,
        size=head.size if head else 0,
        created=head.created if head else None,
        log=head.log if head else None,
        records=found.records,
        trusted=found.trusted,
        failures=found.failures[:100],
    )


def _read(data: bytes, trust: Collection[str]) -> _Found:
    text = data.lstrip()
    if text.startswith(b'{"payload"'):
        return _checkpoints(text)
    if text.startswith(b"{"):
        return _proof(text.rstrip())
    if not text:
        raise _bad("it is empty")
    return _bundle(data, trust)


def _checkpoints(data: bytes) -> _Found:
    found = _Found("checkpoint")
    lines = data.split(b"\n")
    if len(lines) > _MOST_LINES:
        raise _bad(f"it has {len(lines)} lines; at most {_MOST_LINES}")
    for number, line in enumerate(filter(None, map(bytes.strip, lines)), 1):
        try:
            head = verify_checkpoint(Envelope.from_bytes(line))
        except AccordError as error:
            found.failures.append(f"[{error.code}] line {number}: {error.message}")
            continue
        if found.head is not None:
            found.older.append(min(head, found.head, key=lambda one: one.size))
        if found.head is None or head.size >= found.head.size:
            found.head = head
    return found


def _proof(data: bytes) -> _Found:
    try:
        proof = RecordProof.from_bytes(data, max_bytes=MAX_PROOF_BYTES)
    except AccordError as error:
        raise _bad(error.message) from error
    found = _Found("proof", records=1)
    try:
        found.head, _ = proof.check()
    except AccordError as error:
        found.failures.append(f"[{error.code}] record {proof.sequence}: {error.message}")
    return found


def _bundle(data: bytes, trust: Collection[str]) -> _Found:
    try:
        verdict = audit(io.BytesIO(data), trust)
    except FormatError as error:
        raise _bad(error.message) from error
    failures = [f"[{one.code}] {one.place}: {one.message}" for one in verdict.failures]
    return _Found("bundle", verdict.head, verdict.records, verdict.authenticated, failures)


async def _grown(registry: Registry, head: Checkpoint) -> VerificationError | None:
    """Why this log did not grow from a checkpoint; None where it did."""
    own = verify_checkpoint(await service.checkpoint(registry))
    if head.size > own.size:
        return VerificationError(
            "log-rolled-back",
            f"the checkpoint is of {head.size} records, and this log has {own.size}",
        )
    try:
        async with registry.database.read() as session:
            joint = await service.consistency(session, head.size, own.size)
        same_tree(head, own, joint.proof)
    except VerificationError as error:
        return VerificationError("log-forked", error.message)
    return None


def _bad(why: str) -> FormatError:
    return FormatError(
        "bad-evidence",
        f"this is no checkpoint, proof or bundle: {why}",
        hint="Give a file that accord audit checkpoint, proof or bundle wrote, as it is.",
    )
