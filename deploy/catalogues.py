"""Bring the pages' catalogues up to date: `python -m deploy.catalogues`.

Guarantees: each catalogue holds exactly the words of today's templates, looks and sentences, and
the codes that pages may show (`codes`), each in the context of codes, where a translation is a
whole sentence; a translation of words that stay is kept, new ones come untranslated (which the
tests refuse), others go.
"""

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir, extract_from_file
from babel.messages.pofile import read_po, write_po

from accord_common.duo import ontology
from accord_common.web.languages import CODE
from deploy.codes import codes

ROOT = Path(__file__).parent.parent
CATALOGUES = ROOT / "common/accord_common/web/catalogues"
SOURCES = (
    ROOT / "common/accord_common/web",
    ROOT / "server/accord_server/registry/web",
    ROOT / "client/accord_client/steward",
    ROOT / "common/accord_common/sentences.py",
)
_DUO = [("common/accord_common/duo.json", 1)]
_METHODS = [("**.html", "jinja2"), ("**.py", "python")]
_JINJA = {"trimmed": "true", "trim_blocks": "true", "lstrip_blocks": "true"}


def extracted() -> Catalog:
    """Every word and every code that pages say, with where it stands."""
    found = Catalog(project="Accord", charset="utf-8", fuzzy=False)
    for code in codes():
        found.add(code, context=CODE)
    for term in ontology().terms.values():
        found.add(term.label, locations=_DUO)
        found.add(term.meaning, locations=_DUO)
    for source in SOURCES:
        for name, line, words, comments, context in _from(source):
            folder = source.parent if source.is_file() else source
            place = (folder / name).relative_to(ROOT).as_posix()
            found.add(words, None, [(place, line)], auto_comments=comments, context=context)
    return found


def updated(path: Path) -> Catalog:
    """A catalogue with today's words and its own translations of them."""
    catalogue = read_po(BytesIO(path.read_bytes()), locale=path.stem)
    catalogue.update(extracted(), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    return catalogue


def text_of(catalogue: Catalog) -> bytes:
    """A catalogue as its file's bytes; without line numbers, which every edit would move."""
    out = BytesIO()
    write_po(out, catalogue, sort_output=True, include_lineno=False, width=100, omit_header=True)
    return out.getvalue()


def untranslated(catalogue: Catalog) -> list[str]:
    """Words without a translation, or without one of its plural forms."""
    return [
        str(message.id)
        for message in catalogue
        if message.id
        and not all(message.string if isinstance(message.string, tuple) else [message.string])
    ]


def _from(source: Path) -> Iterator[tuple[str, int, str | tuple[str, ...], list[str], str | None]]:
    options = {"**.html": {**_JINJA, "newstyle_gettext": "true"}}
    keywords = {
        "_": None,
        "N_": None,
        "gettext": None,
        "ngettext": (1, 2),
        "pgettext": ((1, "c"), 2),
    }
    if source.is_file():
        for line, words, comments, context in extract_from_file("python", source, keywords):
            yield source.name, line, words, comments, context
        return
    yield from extract_from_dir(source, _METHODS, options, keywords)


if __name__ == "__main__":
    for path in sorted(CATALOGUES.glob("*.po")):
        catalogue = updated(path)
        path.write_bytes(text_of(catalogue))
        missing = untranslated(catalogue)
        sys.stdout.write(f"{path.name}: {len(catalogue)} messages, {len(missing)} untranslated\n")
