"""Public weights that adapted runs start from: `bases/<hash>`, one file each, mode 0600.

Guarantees: a base is fetched once, before this node accepts the run, and never in a round; it is
kept only with the hash and the size that the signed manifest says. What no open run of this node
names is removed when the next one comes, so the folder holds no more than those and one.

Not covered: whether weights are good or public; the hash only makes them the same everywhere.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from accord_client.capacity import ATTEMPT_BYTES
from accord_common.api.schemas import FINAL_STATES
from accord_common.errors import ConflictError, DataError, VerificationError
from accord_common.files import replacing
from accord_common.manifest import Adaptation, RunManifest, model_hash
from accord_common.room import require_room

if TYPE_CHECKING:
    from accord_client.capacity import ATTEMPT_BYTES
    from accord_client.stores import Stores
from accord_common.api.client import RegistryClient

FOLDER = "bases"
_FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True)
class Bases:
    """The folder; it is made with the first base."""

    folder: Path

    @classmethod
    def of(cls, home: Path) -> Bases:
        """The bases of one node's folder."""
        return cls(home / FOLDER)

    def path(self, base: str) -> Path:
        """Where a base lies, or would."""
        return self.folder / base

    def require(self, adaptation: Adaptation) -> None:
        """Refuse where the file is not there in its size; its bytes are looked at by `load`.

        Raises:
            DataError: `base-missing`.
        """
        path = self.path(adaptation.base)
        size = path.stat().st_size if path.is_file() else -1
        if size != _FLOAT * adaptation.dimension:
            raise DataError(
                "base-missing",
                f"{path} is not the base that was fetched for this run",
                hint="Restore it; what was accepted with it cannot go on without.",
            )

    def load(self, adaptation: Adaptation) -> NDArray[np.float32]:
        """Return all numbers of the base, float32 (b,).

        Raises:
            DataError: `base-missing`, `base-changed`.
        """
        self.require(adaptation)
        data = self.path(adaptation.base).read_bytes()
        if model_hash(data) != adaptation.base:
            raise DataError("base-changed", f"{self.path(adaptation.base)} has another hash")
        return np.frombuffer(data, "<f4").astype(np.float32, copy=False)

    @contextmanager
    def held(self) -> Iterator[None]:
        """From the fetch until the answer is written, nobody else of this node fetches or removes.

        Raises:
            ConflictError: `base-busy` where another process or thread does.
        """
        with (self.folder.parent / f"{FOLDER}.lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConflictError(
                    "base-busy",
                    "the base of another run is being fetched",
                    hint="Try again once the node's log says that it has decided.",
                ) from error
            yield

    def keep_only(self, wanted: set[str]) -> None:
        """Remove every other base."""
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in wanted:
                path.unlink(missing_ok=True)


def fetch_base(stores: Stores, registry: RegistryClient, manifest: RunManifest) -> None:
    """Have the base of a run that is about to be accepted; nothing to do where it adapts none.

    The caller holds `Bases.held`, and keeps it until the answer is written.

    Raises:
        TransportError: the registry cannot be reached.
        NotFoundError: `unknown-blob`.
        ConflictError: `disk-full`.
        VerificationError: `wrong-hash`, `wrong-size`; nothing is kept.
    """
    adaptation = manifest.adaptation
    if adaptation is None:
        return
    bases = stores.bases
    try:
        bases.load(adaptation)
        return
    except DataError:
        bases.folder.mkdir(mode=0o700, exist_ok=True)
    bases.keep_only({adaptation.base} | _named(stores))
    left = _FLOAT * adaptation.dimension
    require_room(bases.folder, left + ATTEMPT_BYTES)
    with replacing(bases.path(adaptation.base)) as file:
        for piece in registry.blob(adaptation.base):  # raises at the end where its hash is another
            left -= len(piece)
            if left < 0:
                break
            file.write(piece)
        if left != 0:
            raise VerificationError(
                "wrong-size", f"base {adaptation.base[:16]} has not {adaptation.dimension} numbers"
            )


def _named(stores: Stores) -> set[str]:
    """The bases of runs that were accepted here and are not over."""
    accepted = [
        run
        for run in stores.state.runs()
        if run.decision == "accept" and run.state not in FINAL_STATES
    ]
    manifests = [
        RunManifest.from_bytes(stores.state.record(run.manifest).payload) for run in accepted
    ]
    return {item.adaptation.base for item in manifests if item.adaptation is not None}
