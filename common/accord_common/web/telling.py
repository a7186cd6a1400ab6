"""What the software wrote, as its reader's page says it.

Guarantees: what it wrote in English is still on the page, or in its element's title; times in it
are local and UTC, as all are; nothing is markup that is not escaped. What people wrote (`_THEIRS`)
is shown as they wrote it.
"""

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

from accord_common.errors import AccordError
from accord_common.sentences import AND, Sentence, hear
from accord_common.web.formats import Formats
from accord_common.web.languages import Language
from accord_common.web.looks import look

_TIME = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_THEIRS = {"steward-refused", "stop-requested"}  # their reason is a person's
_SECONDS = {"days": 86_400, "hours": 3600, "minutes": 60, "s": 1}


class Telling:
    """The functions of one language; templates call them by name."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._formats = Formats(language)

    def tell(self, text: str, code: str = "", hint: str = "") -> Markup:
        """A sentence of ours, with the code and the hint that it came with.

        Args:
            text: English, or a person's words.
            code: what a program knows it by; its own sentence stands before a text that has none.
            hint: what to do next, in English.
        """
        english = f"{text} {hint}".strip()
        heard = hear(text)
        theirs = not heard and (code in _THEIRS or not code)
        if self._language.is_source:
            return _theirs(english) if theirs else self._timed(english)
        if heard:
            parts = [self._sentence(sentence, values) for sentence, values in heard]
            told = Markup(self._words(AND)).join(parts)
            return Markup('<span title="{}">{}</span>').format(english, told)
        original = _theirs(english) if theirs else self._original(english)
        reason = self._language.reason(code)
        return Markup("{} {}").format(reason, original) if reason else original

    def failure(self, error: AccordError) -> Markup:
        """An error, without its code."""
        return self.tell(error.message, error.code, error.hint)

    def reason(self, code: str) -> str:
        """What a code says, for languages other than English, which has more than that."""
        return self._language.reason(code)

    def _words(self, words: str) -> str:
        return self._language.translations.ugettext(words)

    def _original(self, english: str) -> Markup:
        shown = self._timed(english)
        return (
            Markup('<span class="original" lang="en">{}</span>').format(shown) if shown else shown
        )

    def _sentence(self, sentence: Sentence, values: Mapping[str, str]) -> Markup:
        words = escape(self._words(sentence.value))
        code = values.get("code", "")
        return words.format(**{name: self._value(name, values[name], code) for name in values})

    def _value(self, name: str, value: str, code: str) -> Markup:
        match name:
            case "time":
                return self._formats.time(value)
            case "span":
                count, unit = value.split()
                return escape(self._formats.span(int(count) * _SECONDS[unit]))
            case "state":
                return escape(self._words(look(value).words))
            case "role" | "instead":
                return escape(self._words(look(f"person-{value}").words))
            case "code":
                return Markup("<code>{}</code>").format(value)
            case "cause" | "reason":
                return self.tell(value, code)
            case _:
                return _theirs(value)

    def _timed(self, text: str) -> Markup:
        """A text with its times as elements."""
        shown, end = Markup(), 0
        for found in _TIME.finditer(text):
            shown += text[end : found.start()] + self._formats.time(found.group())
            end = found.end()
        return shown + text[end:]


def _theirs(text: str) -> Markup:
    """Somebody's words or name: its direction is its own."""
    return Markup("<bdi>{}</bdi>").format(text) if text else Markup()
