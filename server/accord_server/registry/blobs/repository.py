"""Blobs as files: named by their hash, written whole or not at all."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterable
from pathlib import Path

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import ConflictError, NotFoundError, VerificationError
from accord_common.files import put_in_place
from accord_common.room import NO_SPACE, require_room
from accord_server.registry.faults import full
from accord_server.registry.records.lookup import load_agreement
from accord_server.registry.tables import (
    AgreementPartyRow,
    BlobRow,
    RoundRow,
    RunRow,
)

SPARE_BYTES = 256 << 20  # left for the database: records of runs that have begun must not be lost


async def write(folder: Path, name: str, chunks: AsyncIterable[bytes], claimed: int) -> int:
    """Write a blob durably under its SHA-256; return its size in bytes.

    Args:
        folder: of the blobs.
        name: the hash.
        chunks: the bytes.
        claimed: how many they are to be.

    Raises:
        VerificationError: `wrong-hash` where the bytes have another; nothing is kept.
        TransportError: `registry-disk-full`, before the first byte where `claimed` shows it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        require_room(folder, claimed + SPARE_BYTES)
    except ConflictError as error:
        raise full(error) from error
    part = folder / f".{name}.{secrets.token_hex(8)}"
    digest, size = hashlib.sha256(), 0
    try:
        with part.open("xb") as file:
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                await asyncio.to_thread(file.write, chunk)
            if digest.hexdigest() != name:
                raise VerificationError(
                    "wrong-hash", f"the bytes have hash {digest.hexdigest()[:16]}, not {name[:16]}"
                )
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await asyncio.to_thread(put_in_place, part, path_of(folder, name))
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise full(error) from error
    finally:
        part.unlink(missing_ok=True)
    return size


def path_of(folder: Path, name: str) -> Path:
    """Return where a blob lies."""
    return folder / name


async def has_blob(session: AsyncSession, name: str) -> bool:
    """Whether a blob was uploaded completely."""
    return await session.get(BlobRow, name) is not None


async def require_reader(session: AsyncSession, name: str, party: str) -> None:
    """Raise NotFoundError `unknown-blob` unless one of the party's runs lets it have the blob.

    Any party of the agreement gets a run's initial model and the base it adapts; later ones go to
    the recipients that the agreement names, the coordinator and the aggregator. What a round has
    left stays a later one, though another run starts from it.
    """
    if await has_blob(session, name):
        later = select(RoundRow.run).where(RoundRow.model_after == name)
        trained = (await session.execute(later.limit(1))).first() is not None
        query = (
            select(RunRow.agreement, RunRow.initial_model, RunRow.base)
            .join(AgreementPartyRow, AgreementPartyRow.agreement == RunRow.agreement)
            .where(AgreementPartyRow.party == party)
            .where(
                or_(
                    RunRow.initial_model == name,
                    RunRow.base == name,
                    RunRow.model == name,
                    RunRow.id.in_(later),
                )
            )
        )
        for agreement_hash, initial, base in (await session.execute(query)).all():
            if name == base or (name == initial and not trained):
                return
            agreement = await load_agreement(session, agreement_hash)
            role = agreement.party(party).role
            if party in agreement.release.recipients or role in {"coordinator", "aggregator"}:
                return
    raise NotFoundError("unknown-blob", f"no run of yours gives you a blob {name[:16]}")
