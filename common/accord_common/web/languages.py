"""In which language a page speaks.

Guarantees: whatever a browser asks for, one of `LANGUAGES` is chosen. English is the source; each
other language is one gettext catalogue of text, read as it is when the process starts.
Left out: plural forms that English lacks; Babel reads them from the catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from io import BytesIO

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

COOKIE = "accord-language"
_SOURCE = "en"
_MAX_HEADER_CHARS = 500  # of Accept-Language; browsers send some 50


@dataclass(frozen=True)
class Language:
    """One language: its BCP 47 tag, its own name, and what Babel calls it."""

    tag: str
    name: str
    code: str

    @cached_property
    def locale(self) -> Locale:
        """How it writes numbers and times."""
        return Locale.parse(self.code)

    @cached_property
    def translations(self) -> NullTranslations:
        """Its catalogue; the source has none."""
        if self.tag == _SOURCE:
            return NullTranslations()
        source = files("accord_common.web") / "catalogues" / f"{self.code}.po"
        compiled = BytesIO()
        write_mo(compiled, read_po(BytesIO(source.read_bytes()), locale=self.code))
        compiled.seek(0)
        return Translations(compiled)


LANGUAGES: Mapping[str, Language] = {
    language.tag: language
    for language in (
        Language(_SOURCE, "English", "en"),
        Language("zh-Hans", "简体中文", "zh_Hans"),
    )
}


def choose(wanted: str | None, accepted: str | None) -> Language:
    """The language that a person chose, else the browser's favourite among ours, else English.

    Args:
        wanted: a tag, from the address or the cookie; one that is not ours counts for nothing.
        accepted: the header Accept-Language (RFC 9110, section 12.5.4).
    """
    if wanted is not None and wanted in LANGUAGES:
        return LANGUAGES[wanted]
    for tag in _by_weight((accepted or "")[:_MAX_HEADER_CHARS]):
        for language in LANGUAGES.values():
            if tag.partition("-")[0] == language.tag.partition("-")[0]:
                return language
    return LANGUAGES[_SOURCE]


def _by_weight(header: str) -> list[str]:
    weighted: list[tuple[float, str]] = []
    for item in header.split(","):
        tag, _, parameter = item.strip().lower().partition(";")
        weight = parameter.strip().removeprefix("q=") if parameter else "1"
        try:
            weighted.append((float(weight), tag.strip()))
        except ValueError:  # not a weight: the item says nothing
            continue
    ranked = sorted(weighted, key=lambda pair: -pair[0])  # stable: the first named wins
    return [tag for weight, tag in ranked if weight > 0]
