"""Which language a page speaks, and whether it has all the words."""

from pathlib import Path

import pytest

from accord_common.web.languages import LANGUAGES, choose
from deploy import catalogues


@pytest.mark.parametrize(
    ("wanted", "accepted", "tag"),
    [
        (None, None, "en"),
        ("zh-Hans", "en", "zh-Hans"),
        ("xx", "zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        (None, "en-GB,zh;q=0.9", "en"),
        (None, "fr, zh;q=0.3, en;q=0.7", "en"),
        (None, "zh;q=0", "en"),
        (None, "zh;q=x, ;;,,", "en"),
        (None, "fr", "en"),
        (None, "en;q=0.1," + "x" * 10_000 + ",zh", "en"),
    ],
)
def test_the_language_that_is_chosen(wanted: str | None, accepted: str | None, tag: str) -> None:
    assert choose(wanted, accepted).tag == tag


@pytest.mark.parametrize("path", sorted(catalogues.CATALOGUES.glob("*.po")), ids=lambda p: p.stem)
def test_a_catalogue_has_all_of_todays_words_and_no_others(path: Path) -> None:
    catalogue = catalogues.updated(path)
    assert catalogues.untranslated(catalogue) == []
    assert path.read_bytes() == catalogues.text_of(catalogue), "run python -m deploy.catalogues"


def test_each_language_but_the_source_has_a_catalogue() -> None:
    codes = {language.code for language in LANGUAGES.values()} - {"en"}
    assert codes == {path.stem for path in catalogues.CATALOGUES.glob("*.po")}
    chinese = LANGUAGES["zh-Hans"].translations
    assert chinese.ugettext("running") == "运行中"


def test_placeholders_survive_translation() -> None:
    for path in catalogues.CATALOGUES.glob("*.po"):
        for message in catalogues.updated(path):
            for problem in message.check():
                raise problem
            for mark in ("{n}",):
                assert (mark in str(message.id)) == (mark in str(message.string)), message.id
