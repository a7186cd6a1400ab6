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

import numpy as np

from accord_common.errors import AccordError, VerificationError
from accord_common.files import put_in_place
from accord_common.rings import Words, ring_of
from accord_server.aggregator.attempt_state import Suspended
from accord_server.aggregator.secagg import Attempt

_SUFFIX = ".sum"


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
        with part.open("wb") as file:
            for piece in (suspended.to_bytes() + b"\n", little):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        name = digest.hexdigest()
        put_in_place(part, self._path(name))
        return name

    def read(self, name: str, attempt: Attempt) -> None:
        """Bring a fresh attempt to where the stored one was.

        Raises:
            VerificationError: `unmask-interrupted` where the file is gone, altered, or unfit.
        """
        try:
            data = self._path(name).read_bytes()
            if hashlib.sha256(data).hexdigest() != name:
                raise ValueError("it does not hash to its name")
            head, _, body = data.partition(b"\n")
            words: Words = np.frombuffer(body, ring_of(attempt.manifest.secagg.ring_bits).words)
            attempt.resume(Suspended.from_bytes(head, max_bytes=1 << 20), words.copy())
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
