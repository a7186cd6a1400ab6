"""In which language a page speaks.

Guarantees: whatever a browser asks for, one of `LANGUAGES` is chosen. English is the source; each
other language is one gettext catalogue of text, read as it is when the process starts. It has a
sentence for each code of an error or a finding, under the code itself, in the context `CODE`.
Left out: plural forms that English lacks; Babel reads them from the catalogue.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from importlib.resources import files
from io import BytesIO

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

from accord_common.errors import AccordError

COOKIE = "accord-language"
CODE = "code"  # the context of codes in a catalogue
_SOURCE = "en"
_CODED = re.compile(r"\[([a-z0-9-]+)\] ")
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

    @property
    def is_source(self) -> bool:
        """Whether it is the one that everything is written in."""
        return self.tag == _SOURCE

    def reason(self, code: str) -> str:
        """What the code of an error or a finding says; empty in the source, and for no code."""
        found = self.translations.upgettext(CODE, code)
        return "" if found == code else found

    @cached_property
    def translations(self) -> NullTranslations:
        """Its catalogue; the source has none."""
        if self.is_source:
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


def title(error: AccordError, status: HTTPStatus, accepted: str | None) -> tuple[str, Language]:
    """The title of a problem (RFC 9457, section 3.1.4), and its language.

    Args:
        error: what happened.
        status: of HTTP; what it is called is the title in English.
        accepted: the header Accept-Language; pages name their own language there.
    """
    language = choose(None, accepted)
    reason = language.reason(error.code)
    return (reason, language) if reason else (status.phrase, LANGUAGES[_SOURCE])


def explained(line: str, language: Language) -> str:
    """A line `[code] ...`, below what its code says; as it is in English."""
    code = _CODED.match(line)
    reason = language.reason(code[1]) if code is not None else ""
    return f"{reason}\n    {line}" if reason else line


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
