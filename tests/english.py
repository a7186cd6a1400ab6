"""English prose on a page that speaks another language."""

import re
from html.parser import HTMLParser

COMMANDS = ("accord audit verify", "accord run watch", "accord-node steward")
_OWN = {"code", "pre", "bdi", "script", "style"}  # names, commands; what people wrote, as .said
_VOID = {"meta", "link", "input", "img", "br", "use"}
_SPOKEN = ("aria-label", "placeholder", "data-label", "data-done", "data-words")
_PROSE = re.compile(r"[A-Za-z]{2,}(?:[ ,:;]+[a-z]{2,}){2,}")  # three words in a row


def english_in(page: str, *written: str) -> list[str]:
    """What of a page reads as English, but for what is marked as such.

    Args:
        page: HTML.
        written: titles and names of the test, which people wrote.
    """
    reader = _Reader()
    reader.feed(page)
    found = []
    for text in reader.texts:
        for one in written:
            text = text.replace(one, " ")
        found += [prose[0] for prose in _PROSE.finditer(text)]
    return found


class _Reader(HTMLParser):
    """Collects texts outside what is in English on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[bool] = []  # of each open element: whether its text is another's

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        lang = given.get("lang")
        others = tag in _OWN or "said" in (given.get("class") or "").split()
        if lang is not None:
            others = others or not lang.startswith("zh")
        else:
            others = others or (bool(self._open) and self._open[-1])
        if not others:
            self.texts += [value for name, value in attrs if name in _SPOKEN and value]
        if tag not in _VOID:
            self._open.append(others)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID and self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not (self._open and self._open[-1]):
            self.texts.append(data)
