"""Training and validation rows: each patient falls by a keyed hash of its own.

Guarantees: where a row falls depends on its patient's identifier and the key, on no other row and
not on its place; so all rows of a patient fall together, a table that grows or is sorted anew moves
nobody, and two tables that differ in one record train on rows that differ in one record at most.
Without identifiers a row falls by its own encoded values, so equal rows fall together. A larger
fraction only adds to the validation rows. The key never leaves the node: nobody else can tell, or
choose, where somebody falls.

Not covered: rows that moved into validation by a larger fraction were trained on before.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from accord_client.data.reading import Reading
from accord_common.errors import UsageError
from accord_common.fields import Dec, Hash, Record, to_decimal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from accord_common.tables import Encoded

_DOMAIN = b"accord split v1"  # BLAKE2b's personalisation, at most 16 bytes


class Split(Record):
    """Which share of the patients validates, and the node's secret that says who.

    Attributes:
        fraction: the chance of each patient, in [0, 1).
        key: 32 bytes.
    """

    fraction: Dec
    key: Hash

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if not 0 <= Decimal(self.fraction) < 1:
            raise ValueError(f"a validation fraction of {self.fraction} is not in [0, 1)")
        return self

    @classmethod
    def make(cls, fraction: str, key: str | None = None) -> Split:
        """A split with a fresh key, or with that of other tables about the same people.

        Raises:
            UsageError: `bad-validation-fraction`.
        """
        try:
            return cls(fraction=to_decimal(fraction), key=key or secrets.token_hex(32))
        except (ArithmeticError, ValueError) as error:
            raise UsageError(
                "bad-validation-fraction",
                f"a validation fraction of {fraction} is no decimal in [0, 1)",
                hint="For example --validation 0.2",
            ) from error

    def validates(self, reading: Reading) -> NDArray[np.bool_]:
        """Return for each row whether it is kept for validation, (n,)."""
        import numpy as np  # not needed to read a registration

        threshold = int(Decimal(self.fraction) * 2**64)
        if not threshold:
            return np.zeros(reading.table.rows, bool)
        key = bytes.fromhex(self.key)
        words = (
            int.from_bytes(
                hashlib.blake2b(data, digest_size=8, key=key, person=_DOMAIN).digest(), "big"
            )
            for data in _names(reading)
        )
        return np.fromiter((word < threshold for word in words), bool, reading.table.rows)


def _names(reading: Reading) -> Iterable[bytes]:
    if reading.people is not None:
        return (person.encode() for person in reading.people)
    return _values(reading.table)


def _values(table: Encoded) -> Iterable[bytes]:
    for features, label in zip(table.features, table.labels, strict=True):
        yield features.tobytes() + label.tobytes()
