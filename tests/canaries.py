"""Secrets that a test plants, and the search for them in whatever may leave or be read."""

import io
import json
import urllib.parse
import zipfile
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path

_SHORTEST = 10  # characters; a shorter one stands somewhere by chance


def spellings(secret: str | bytes) -> set[bytes]:
    """How a secret may be written: as it is, in other encodings, inside something longer."""
    raw = secret.encode() if isinstance(secret, str) else secret
    assert len(raw) >= _SHORTEST, secret
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(), raw[::-1]}
    for encode in (b64encode, urlsafe_b64encode):
        for shift in range(3):  # where it begins within three bytes changes every letter
            first = (shift * 8 + 5) // 6  # letters that depend on what stands before it
            letters = encode(b"\0" * shift + raw).rstrip(b"=")
            found.add(letters[first + (shift > 0) : len(letters) - 1])
    if isinstance(secret, str):
        found |= {
            secret.encode("utf-16-le"),
            secret.encode("utf-16-be"),
            urllib.parse.quote(secret, safe="").encode(),
            json.dumps(secret)[1:-1].encode(),
            secret.upper().encode(),
            secret.lower().encode(),
        }
    return found


def found_in(data: bytes, secrets: Mapping[str, Iterable[str | bytes]]) -> set[str]:
    """Which kinds of secrets stand in `data`, in any spelling."""
    return {
        kind
        for kind, planted in secrets.items()
        for secret in planted
        if any(spelling in data for spelling in spellings(secret))
    }


def unpacked(bundle: Path) -> bytes:
    """The zip as it is, and everything in it: names, comments, contents."""
    data = bundle.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(item.filename.encode(), archive.read(item)) for item in archive.infolist()]
    return b"\n".join([data, *(piece for pair in parts for piece in pair)])
