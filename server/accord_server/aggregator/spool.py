"""The one sum that waits for its masks to be undone, on disk while it does.

A round can be unmasked in one attempt only. So, before the first node is asked to, what the end of
the attempt needs lies here: a restarted aggregator asks the same again, gets the same answers, and
completes the round.

Guarantees: a file is there whole and durable, or not at all; `read` returns only what has the hash
that was asked for; the sum in it is masked, so a file tells whoever finds it nothing.
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from accord_common.errors import AccordError, VerificationError
from accord_common.files import put_in_place
from accord_common.rings import Words, ring_of
from accord_server.aggregator.attempt_state import Suspended
from accord_server.aggregator.secagg import Attempt

_SUFFIX = ".sum"
_MAX_HEAD_BYTES = 1 << 20  # the lists, before the sum


class Spool:
    """A folder with at most one suspended attempt; others may keep files of theirs there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, attempt: Attempt) -> str:
        """Store an attempt whose uploads are all in, instead of any other; return its name."""
        suspended, words = attempt.suspend()
        self.clear()
        part = self._folder / f"next{_SUFFIX}.part"
        little = words.astype(words.dtype.newbyteorder("<"), copy=False).data.cast("B")
        digest = hashlib.sha256()
        try:
            with part.open("wb") as file:
                for piece in (suspended.to_bytes() + b"\n", little):
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            part.unlink(missing_ok=True)  # a full disk needs the room
            raise
        name = digest.hexdigest()
        put_in_place(part, self._path(name))
        return name

    def read(self, name: str, attempt: Attempt) -> None:
        """Bring a fresh attempt to where the stored one was.

        Raises:
            VerificationError: `unmask-interrupted` where the file is gone, altered, or unfit.
        """
        try:
            with self._path(name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != name:
                    raise ValueError("it does not hash to its name")
                file.seek(0)
                head = file.readline(_MAX_HEAD_BYTES)
                words = _read(file, attempt)
            attempt.resume(Suspended.from_bytes(head[:-1], max_bytes=_MAX_HEAD_BYTES), words)
        except (OSError, ValueError, AccordError) as error:
            raise VerificationError(
                "unmask-interrupted",
                f"the sum that was being unmasked cannot be read again: {error}",
                hint="The disk or somebody changed it; the round cannot be tried again.",
            ) from error

    def clear(self) -> None:
        """Delete what is stored: the attempt is over."""
        for path in self._folder.glob(f"*{_SUFFIX}*"):
            path.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"


def _read(file: BinaryIO, attempt: Attempt) -> Words:
    """Read what follows as words, in one vector and no copy."""
    secagg = attempt.manifest.secagg
    words: Words = np.empty(attempt.manifest.dimension, ring_of(secagg.ring_bits).words)
    # BinaryIO's stub lacks readinto; what `open` returns has it.
    if file.readinto(words.data.cast("B")) != words.nbytes or file.read(1):  # type: ignore[attr-defined]
        raise ValueError(f"it does not hold {words.shape[0]} words")
    return words
