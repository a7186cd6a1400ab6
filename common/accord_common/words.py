"""Words as numbers: the rule `casefold-sha256` that text schemas name.

A text is normalised (NFKC), case-folded and normalised again; a word is a longest run of letters,
marks and digits (Unicode categories L, M, N) of what results, and all else only separates. A word's
number is 1 + b, b being the first 8 bytes of SHA-256("accord word v1" || the word in UTF-8),
big-endian, modulo the schema's buckets, a power of two (feature hashing, Weinberger et al. 2009).
The first `length` words of a text count; a shorter one is filled with 0 at its end.

Guarantees: a word's number depends on the word and the schema alone, so no vocabulary is estimated
from anybody's texts; one text's numbers depend on no other text.

Not covered: languages that write no spaces between words, where a sentence is one word; characters
that Unicode assigned after version 14, which Pythons may fold differently (older ones are stable).
"""

from collections.abc import Iterable
from hashlib import sha256
from unicodedata import category, normalize

import numpy as np
from numpy.typing import NDArray

from accord_common.text_schema import NOTHING, TextSchema

_CONTEXT = b"accord word v1"


class _Separators(dict[int, int]):
    """What each character is translated to: a space unless it is part of a word."""

    def __missing__(self, point: int) -> int:
        self[point] = point if category(chr(point))[0] in "LMN" else ord(" ")
        return self[point]


_SEPARATORS = _Separators()


def words_of(text: str) -> list[str]:
    """Cut a text into words."""
    folded = normalize("NFKC", normalize("NFKC", text).casefold())
    return folded.translate(_SEPARATORS).split()


def number_of(word: str, buckets: int) -> int:
    """Return a word's number, from 1 to `buckets`."""
    digest = sha256(_CONTEXT + word.encode()).digest()
    return NOTHING + 1 + int.from_bytes(digest[:8], "big") % buckets


def encode(texts: Iterable[str], schema: TextSchema) -> NDArray[np.int64]:
    """Return the numbers of n texts, (n, length)."""
    known: dict[str, int] = {}
    rows = []
    for text in texts:
        row = [NOTHING] * schema.length
        for place, word in enumerate(words_of(text)[: schema.length]):
            if word not in known:
                known[word] = number_of(word, schema.buckets)
            row[place] = known[word]
        rows.append(np.array(row, np.int64))
    return np.stack(rows) if rows else np.empty((0, schema.length), np.int64)
