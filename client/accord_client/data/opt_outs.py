"""Patients who opted out: whose rows are left out of everything, from the next reading on.

    datasets/<id>.opt-outs   their identifiers, one JSON array, mode 0600

Guarantees: a list that cannot be read stops the node from training, it never counts as empty; two
processes that add at once lose neither's addition. Identifiers are compared as text, without the
white space around them. The list and its length leave the node in no message, and no log has them.

Not covered: what a model learnt before a patient opted out stays learnt; epsilon bounds it.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from accord_common.errors import DataError
from accord_common.files import replace_file


@dataclass(frozen=True, slots=True)
class OptOuts:
    """One dataset's list."""

    path: Path

    def read(self) -> frozenset[str]:
        """Return the identifiers; none where no list was ever made.

        Raises:
            DataError: `opt-outs-unreadable`.
        """
        try:
            listed = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(self.path, str(error)) from error
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise _unreadable(self.path, "it is no list of texts")
        return frozenset(listed)

    def change(self, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> frozenset[str]:
        """Add and remove identifiers, durable on return; returns the list as it is now.

        Raises:
            DataError: `opt-outs-unreadable`; the list stays as it is.
        """
        with self._alone():
            listed = (self.read() | cleaned(add)) - cleaned(remove)
            replace_file(self.path, json.dumps(sorted(listed)).encode())
        return listed

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder, which outlives each version of the file, against other writers."""
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def cleaned(identifiers: Iterable[str]) -> frozenset[str]:
    """Return identifiers as they are compared; blank ones are none."""
    return frozenset(text.strip() for text in identifiers) - {""}


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(
        "opt-outs-unreadable",
        f"{path}: {why}",
        hint="Nothing is trained without it: restore the file, or remove it and add everybody "
        "again with accord-node dataset opt-out.",
    )
