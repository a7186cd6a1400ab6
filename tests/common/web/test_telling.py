"""What a page makes of what the software wrote."""

from http import HTTPStatus
from string import Formatter

import pytest

from accord_common.errors import PolicyError
from accord_common.sentences import Sentence, joined, say
from accord_common.web.languages import LANGUAGES, explained, title
from accord_common.web.telling import Telling

CHINESE, ENGLISH = (Telling(LANGUAGES[tag]) for tag in ("zh-Hans", "en"))
NOON = "2026-11-22T12:00:00Z"
TIME = '<time datetime="2026-11-22T12:00:00+00:00">2026-11-22 12:00 UTC</time>'


def test_a_sentence_is_in_the_pages_language_and_its_english_in_the_title() -> None:
    told = joined(say(Sentence.NO_ANSWER, names="A & B"), say(Sentence.OTHERWISE, time=NOON))
    assert ENGLISH.tell(told, "awaiting-consent") == (
        f"no answer from A &amp; B; otherwise it ends at {TIME}"
    )
    assert CHINESE.tell(told, "awaiting-consent") == (
        f'<span title="no answer from A &amp; B; otherwise it ends at {NOON}">'
        f"<bdi>A &amp; B</bdi> 尚未答复\N{FULLWIDTH SEMICOLON}否则将于 {TIME} 终止</span>"
    )


def test_an_error_says_what_its_code_means_and_its_english_follows() -> None:
    error = PolicyError("budget-exceeded", "epsilon 4 > 3", hint="Ask for fewer rounds.")
    assert ENGLISH.failure(error) == "epsilon 4 &gt; 3 Ask for fewer rounds."
    assert CHINESE.failure(error) == (
        "超出隐私预算上限。 "
        '<span class="original" lang="en">epsilon 4 &gt; 3 Ask for fewer rounds.</span>'
    )


def test_a_code_that_nobody_translated_leaves_the_english() -> None:
    told = CHINESE.tell("what it says", "of-a-newer-release")
    assert told == '<span class="original" lang="en">what it says</span>'
    assert CHINESE.reason("of-a-newer-release") == ENGLISH.reason("budget-exceeded") == ""


@pytest.mark.parametrize("telling", [CHINESE, ENGLISH])
def test_what_people_wrote_is_theirs(telling: Telling) -> None:
    said = "<b>لا</b> until 2026-11-22T12:00:00Z"
    shown = "<bdi>&lt;b&gt;لا&lt;/b&gt; until 2026-11-22T12:00:00Z</bdi>"
    assert telling.tell(said) == shown
    assert telling.tell(said, "steward-refused").endswith(shown)
    assert telling.tell("") == ""


def test_a_cause_within_a_line_is_told_by_its_code() -> None:
    line = say(Sentence.REFUSED, name="North", code="disk-full", reason="2 MiB are left")
    shown = CHINESE.tell(line)
    assert "磁盘空间不足。" in shown and "<code>disk-full</code>" in shown
    assert '<span class="original" lang="en">2 MiB are left</span>' in shown
    closed = say(Sentence.CLOSED, state="failed", cause="x", code="consent-timeout")
    assert "失败" in CHINESE.tell(closed)
    begun = say(Sentence.NOT_BEGUN, span="7 days")
    assert "7天内没有聚合方开始此训练" in CHINESE.tell(begun).replace(" ", "")
    role = say(Sentence.ROLE_CHANGED, role="owner", instead="auditor")
    assert "由所有者改为审计员" in CHINESE.tell(role)


@pytest.mark.parametrize("sentence", Sentence)
def test_a_translation_has_the_values_of_its_sentence(sentence: Sentence) -> None:
    for language in LANGUAGES.values():
        translated = language.translations.ugettext(sentence.value)
        assert names(translated) == names(sentence), (language.tag, translated)


def names(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize(
    ("accepted", "expected", "tag"),
    [
        (None, "Forbidden", "en"),
        ("en-GB, zh;q=0.5", "Forbidden", "en"),
        ("zh-Hans", "超出隐私预算上限。", "zh-Hans"),
    ],
)
def test_a_problem_is_titled_in_the_language_that_is_accepted(
    accepted: str | None, expected: str, tag: str
) -> None:
    error = PolicyError("budget-exceeded", "epsilon 4 > 3")
    found, language = title(error, HTTPStatus.FORBIDDEN, accepted)
    assert (found, language.tag) == (expected, tag)
    unknown = PolicyError("of-a-newer-release", "what it says")
    assert title(unknown, HTTPStatus.FORBIDDEN, accepted)[0] == "Forbidden"


def test_a_line_of_a_check_is_explained() -> None:
    line = "[bad-signature] line 2: the signature does not hold"
    assert explained(line, LANGUAGES["zh-Hans"]) == f"签名不成立。\n    {line}"
    for same in (line, "[of-a-newer-release] x", "no code"):
        assert explained(same, LANGUAGES["en"]) == same
    assert explained("no code", LANGUAGES["zh-Hans"]) == "no code"
