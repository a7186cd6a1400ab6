"""The files that pages load, each at an address that names its content.

Guarantees: a file is read from the package only, by a name that is listed when the process starts,
so no address reaches another file; an address holds the file's hash, so a browser may keep it for
ever and never shows an old script beside a new page; a vendored file has the bytes that
`vendored/VENDORED.json` declares, or the process does not start.
"""

import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

from accord_common.errors import DamageError

PREFIX = "/assets/"
_KINDS = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_HASH_CHARS = 16  # of an address: 64 bits tell releases apart; they protect nothing
_VENDORED = "vendored/VENDORED.json"


@dataclass(frozen=True)
class Asset:
    """One file: its content type and bytes."""

    kind: str
    body: bytes

    @cached_property
    def compressed(self) -> bytes:
        """The bytes for whoever accepts gzip; made when first asked for."""
        return gzip.compress(self.body, compresslevel=9, mtime=0)


class Assets:
    """Every file under `static/`.

    Raises:
        DamageError: `asset-altered`: a vendored file is not what was vendored.
    """

    def __init__(self) -> None:
        found = _read(files("accord_common.web") / "static", "")
        for item in json.loads(found[_VENDORED]):
            name = f"vendored/{item['file']}"
            _check(name, found[name], item["sha256"])
        self._urls: dict[str, str] = {}
        self._by_url: dict[str, Asset] = {}
        for name, body in found.items():
            kind = _KINDS.get(name.rpartition(".")[2])
            if kind is not None:
                url = f"{PREFIX}{hashlib.sha256(body).hexdigest()[:_HASH_CHARS]}/{name}"
                self._urls[name] = url
                self._by_url[url] = Asset(kind, body)

    def url(self, name: str) -> str:
        """Where a file is served; KeyError for one that does not exist (a template's mistake)."""
        return self._urls[name]

    def at(self, url: str) -> Asset | None:
        """What is served at a path."""
        return self._by_url.get(url)


def _check(name: str, body: bytes, declared: str) -> None:
    digest = hashlib.sha256(body).hexdigest()
    if digest != declared:
        raise DamageError(
            "asset-altered",
            f"{name} has SHA-256 {digest}; {_VENDORED} declares {declared}",
            hint="Install the package again.",
        )


def _read(folder: Traversable, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for item in folder.iterdir():
        if item.is_dir():
            found |= _read(item, f"{prefix}{item.name}/")
        else:
            found[prefix + item.name] = item.read_bytes()
    return found
