"""Names that read otherwise than they are written, told to whoever is about to sign.

Guarantees: two names that differ in letters that look the same, in capitals or in width are named
together; so is a word in which scripts that share such letters are mixed. It is a warning beside
the text, and refuses nothing: hospitals have Greek and Russian names, and what an older release
signed must decode for ever, while Unicode's tables grow.

Not covered: all of Unicode's confusables (UTS 39 has thousands); what counts is the identity key.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import combinations

_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK")  # whose letters look alike
# Lower case letters whose capital, or they themselves, look like the Latin one.
_ALIKE = str.maketrans(
    # Cyrillic a to ha, then i, je, dze; Greek alpha to chi; digits
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440"
    "\u0441\u0442\u0443\u0445\u0456\u0458\u0455"
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7"
    "01",
    "abekmhopctyxijsabezhikmnoptyxol",
)


def warnings(names: Iterable[str]) -> list[str]:
    """Say which of some names may be taken for others.

    Args:
        names: what people read: of parties, of datasets, a title.

    Returns:
        Sentences; none where nothing is noticed.
    """
    found = list(dict.fromkeys(names))
    told = []
    for name in found:
        for word in re.findall(r"\w+", name):
            if len(mixed := _scripts(word)) > 1:
                strange = ", ".join(
                    f"U+{ord(letter):04X} {unicodedata.name(letter)}"
                    for letter in word
                    if unicodedata.name(letter, "").split(" ")[0].title() in mixed[1:]
                )
                told.append(f"{name!r} mixes {' and '.join(mixed)} letters: {strange}")
    for one, other in combinations(found, 2):
        if _skeleton(one) == _skeleton(other):
            told.append(f"{one!r} and {other!r} look alike, and are two names")
    return told


def _scripts(word: str) -> list[str]:
    """Which of the scripts a word's letters are of, the commonest first."""
    count = {
        script: sum(unicodedata.name(letter, "").startswith(f"{script} ") for letter in word)
        for script in _SCRIPTS
    }
    there = [script for script in _SCRIPTS if count[script]]
    return [script.title() for script in sorted(there, key=lambda script: -count[script])]


def _skeleton(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_ALIKE)
    return " ".join(plain.split())
