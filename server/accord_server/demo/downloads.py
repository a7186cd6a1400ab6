"""Public data sets that are fetched, not packaged: which bytes they are, and where they come from.

Guarantees: a file is used or kept only if its SHA-256 is the one below, whoever served it, so a
mirror, a proxy or plain HTTP can withhold a data set and not change it; what is in the folder is
whole, or not there. Files that are there already are not fetched again.

Not covered: resuming half a download. The largest file here has 18 kB.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from accord_common.errors import TransportError, UsageError, VerificationError
from accord_common.files import replace_file

TIMEOUT_S = 30  # for connecting, and for each piece: the archive is slow at times
LARGEST = 1_000_000  # bytes; a server that sends more is not heard to its end


@dataclass(frozen=True, slots=True)
class DataSet:
    """Files with their SHA-256, and the address below which their maker offers them."""

    name: str
    url: str
    files: dict[str, str]
    pattern: str  # of a file's name, by its key

    def path(self, key: str, folder: Path) -> Path:
        """Where a file lies below the folder of all data sets."""
        return folder / self.name / self.pattern.format(key)


HEART = DataSet(
    name="heart_disease",
    url="https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease",
    files={
        "cleveland": "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
        "hungarian": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
        "switzerland": "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
        "va": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
    },
    pattern="processed.{}.data",
)


def read(data_set: DataSet, key: str, folder: Path) -> bytes:
    """Return one file's bytes, checked.

    Args:
        data_set: which.
        key: of the file.
        folder: of all data sets.

    Raises:
        UsageError: `no-data-set`.
        VerificationError: `data-set-changed`.
    """
    path = data_set.path(key, folder)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            "no-data-set",
            f"{path}: {error.strerror}",
            hint="Fetch it with `accord data fetch heart`, or name another folder with --data-dir.",
        ) from error
    _check(content, data_set.files[key], str(path))
    return content


def fetch(data_set: DataSet, folder: Path, url: str = "") -> Iterator[tuple[Path, bool]]:
    """Bring all files of a data set into `folder`; yield each with whether it was fetched now.

    Args:
        data_set: which.
        folder: of all data sets; made where it is absent.
        url: a mirror's folder, in place of the maker's.

    Raises:
        TransportError: `data-set-unreachable`.
        VerificationError: `data-set-changed`; nothing is kept of that file.
    """
    base = (url or data_set.url).rstrip("/")
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
        for key, digest in data_set.files.items():
            path = data_set.path(key, folder)
            if path.exists() and _sha256(path.read_bytes()) == digest:
                yield path, False
                continue
            content = _get(client, f"{base}/{path.name}")
            _check(content, digest, f"{base}/{path.name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, content)
            yield path, True


def _get(client: httpx.Client, address: str) -> bytes:
    content = b""
    try:
        with client.stream("GET", address) as response:
            response.raise_for_status()
            for piece in response.iter_bytes():
                content += piece
                if len(content) > LARGEST:
                    break  # not these bytes, whatever follows
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TransportError(
            "data-set-unreachable",
            f"{address}: {str(error) or type(error).__name__}",
            hint="Is this machine offline, or behind a proxy (HTTPS_PROXY)? Fetch on another "
            "machine and copy the folder, or name a mirror with --url.",
        ) from error
    return content


def _check(content: bytes, digest: str, where: str) -> None:
    if (found := _sha256(content)) != digest:
        raise VerificationError(
            "data-set-changed",
            f"{where} has SHA-256 {found}, not {digest}",
            hint="It is not the published file: fetch it again, or from another mirror.",
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
