"""Words are cut and numbered by a frozen rule."""

import numpy as np
import pytest

from accord_common.schema_file import from_document
from accord_common.text_schema import TextSchema
from accord_common.words import encode, number_of, words_of


def schema(**changes: object) -> TextSchema:
    made = from_document(
        {
            "name": "notes",
            "kind": "text",
            "target": {"type": "binary"},
            "minimum_rows": 1,
            "buckets": 64,
            "length": 4,
            **changes,
        }
    )
    assert isinstance(made, TextSchema)
    return made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("How far is it, from Denver?", ["how", "far", "is", "it", "from", "denver"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("cafe\u0301 caf\u00e9", ["caf\u00e9", "caf\u00e9"]),  # composed alike
        ("x\u00b2 \uff11\uff12mg/dl", ["x2", "12mg", "dl"]),  # compatibility forms
        ("\u0939\u093f\u0928\u094d\u0926\u0940", ["\u0939\u093f\u0928\u094d\u0926\u0940"]),  # marks
        ("a_b-c.d\u00a0e\n\tf", ["a", "b", "c", "d", "e", "f"]),
        ("?! \u2026 \U0001f600", []),
        ("", []),
    ],
)
def test_a_text_is_cut_into_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_the_numbers_of_words_are_frozen() -> None:
    """By coreutils: printf 'accord word v1how' | sha256sum, the first 16 digits modulo 2^20."""
    found = [number_of(word, 1 << 20) - 1 for word in ("how", "denver", "caf\u00e9", "\u0939")]
    assert found == [617266, 707306, 277503, 784902]


def test_short_texts_are_filled_and_long_ones_cut() -> None:
    a, b = (number_of(word, 64) for word in "ab")
    encoded = encode(["a b", "", "b a a a b b", "A-B!"], schema())
    assert encoded.tolist() == [[a, b, 0, 0], [0] * 4, [b, a, a, a], [a, b, 0, 0]]
    assert encoded.dtype == np.int64
    assert encode([], schema()).shape == (0, 4)


def test_numbers_are_even_over_the_buckets() -> None:
    """Poisson-like counts: chi-square of 64 buckets within six deviations of its mean."""
    found = np.array([number_of(f"word{n}", 64) for n in range(6400)])
    counts = np.bincount(found, minlength=65)
    assert counts[0] == 0 and len(counts) == 65
    assert abs(((counts[1:] - 100) ** 2 / 100).sum() - 63) < 6 * np.sqrt(2 * 63)
