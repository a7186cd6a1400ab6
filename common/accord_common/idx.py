"""IDX, the format of MNIST and its kin: bytes in so many dimensions, often compressed by gzip.

    0 0 8 d | d sizes, 4 bytes each, big-endian | the bytes, the last dimension fastest

Guarantees: exactly the bytes that the header announces, and no more memory than it announces;
nothing is read of a file that announces more than the caller's bound.
"""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord_common.errors import DataError

_UBYTE = 8


def read(path: Path, dimensions: int, *, max_bytes: int) -> tuple[NDArray[np.uint8], str]:
    """Decode a file, `.gz` or not, and give the SHA-256 (hex) of the file as it lies there.

    Raises:
        DataError: `dataset-missing` or `bad-idx`.
    """
    header = 4 + 4 * dimensions
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            with gzip.open(file) if path.suffix == ".gz" else file as opened:
                start = opened.read(header)
                if start[:4] != bytes([0, 0, _UBYTE, dimensions]) or len(start) < header:
                    raise _bad(path, f"no IDX file of bytes in {dimensions} dimensions")
                shape = tuple(np.frombuffer(start[4:], ">u4").tolist())
                size = math.prod(shape)
                if size > max_bytes:
                    raise _bad(path, f"{size} bytes, at most {max_bytes}")
                data = opened.read(size)
                if len(data) != size or opened.read(1):
                    raise _bad(path, f"not the {size} bytes that its header announces")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _bad(path, str(error)) from error
    except OSError as error:
        raise DataError("dataset-missing", f"{path}: {error.strerror}") from error
    return np.frombuffer(data, np.uint8).reshape(shape), digest


def _bad(path: Path, reason: str) -> DataError:
    return DataError("bad-idx", f"{path.name}: {reason}", hint="Fetch the file again.")
