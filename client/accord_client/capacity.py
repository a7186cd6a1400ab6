"""Whether this machine can take an attempt, asked at R0 and again before it is charged.

Guarantees: an attempt for which the disk, the memory or the hour is wrong is refused before
anybody was charged for it; nothing is allocated to find out. A code is all that leaves, and how
many rows the run's table has does not decide about it: room is kept for N of them, whether or not
they are in memory already.

Not covered: what other processes take between the question and the round; a round in which the
working hours end goes on to its own end, since its charge cannot be taken back.
"""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from accord_client import hours
from accord_client.datasets import LocalDataset
from accord_client.limits import Limits
from accord_common.errors import ConflictError
from accord_common.image_schema import ImageSchema
from accord_common.manifest import RunManifest
from accord_common.room import require_room, require_writing
from accord_common.schema import TableSchema
from accord_common.text_schema import TextSchema

# The logs of three databases, 4 MiB each until SQLite moves them into their files, and as much
# there; records and outbox lines, below 3 MiB; the daemon's own log until it is rotated.
ATTEMPT_BYTES = 64 << 20
_COORDINATE_BYTES = 24  # model, update, a sum in float64 and a layer's part at once, then words
_LEAST_PART_BYTES = 16 << 20  # for the gradients of a part; below it a round crawls
MOST_PART_BYTES = 256 << 20  # beyond it a part is no faster
_FLOAT_BYTES, _WORD_BYTES = 4, 8  # of a feature, of a word's number


@dataclass(frozen=True, slots=True)
class Capacity:
    """One node's folder and limits."""

    folder: Path
    limits: Limits

    def check(self, manifest: RunManifest, unread: int = 0) -> int:
        """Refuse an attempt that this machine cannot take now.

        Args:
            manifest: the run.
            unread: bytes that its rows may take beside those that are in memory already.

        Returns:
            How much memory a part's gradients may take, bytes.

        Raises:
            ConflictError: `disk-full`, `memory-short`.
        """
        require_room(self.folder, ATTEMPT_BYTES)
        base = 0 if manifest.adaptation is None else manifest.adaptation.dimension
        wanted = _COORDINATE_BYTES * manifest.dimension + _FLOAT_BYTES * base + unread
        return self._part_bytes(wanted)

    def check_disk(self) -> None:
        """Refuse while the disk does not take an attempt, whatever it says of its room.

        Raises:
            ConflictError: `disk-full`, `disk-unwritable`.
        """
        require_room(self.folder, ATTEMPT_BYTES)
        require_writing(self.folder)

    def check_hours(self, now: datetime) -> None:
        """Refuse to begin a round outside the working hours; `now` has any zone.

        Raises:
            ConflictError: `outside-hours`.
        """
        windows = [hours.parse(text) for text in self.limits.hours]
        if not hours.within(windows, now.astimezone()):
            raise ConflictError(
                "outside-hours",
                f"{now.astimezone():%a %H:%M} is outside {', '.join(self.limits.hours)}",
                hint="The node joins again when its hours begin.",
            )

    def _part_bytes(self, wanted: int) -> int:
        if self.limits.memory_mib is None:
            return MOST_PART_BYTES
        ceiling, resident = self.limits.memory_mib << 20, _resident()
        left = ceiling - resident - wanted
        if left < _LEAST_PART_BYTES:
            raise ConflictError(
                "memory-short",
                f"the node holds {resident >> 20} MiB, a round needs "
                f"{(wanted + _LEAST_PART_BYTES) >> 20} more, the ceiling is "
                f"{self.limits.memory_mib}",
                hint="Raise memory_mib, or refuse such runs.",
            )
        return min(left, MOST_PART_BYTES)


def rows_bytes(dataset: LocalDataset) -> int:
    """Memory that N rows of a dataset take, bytes, with as much again while they are read.

    Of the public N, never of the rows that there are: `memory-short` leaves, and costs nothing.
    """
    match dataset.table:
        case TableSchema() as table:
            row = _FLOAT_BYTES * len(table.features)
        case ImageSchema() as images:
            row = images.channels * images.height * images.width
        case TextSchema() as texts:
            row = _WORD_BYTES * texts.length
    return 2 * dataset.size * row


def _resident() -> int:
    """Memory that this process holds now, bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
