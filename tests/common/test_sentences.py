"""What the software writes for people is found again in what was written, with its values."""

import string

import pytest

from accord_common.sentences import Sentence, hear, joined, say

SAMPLES = {
    "code": "budget-exceeded",
    "time": "2026-11-22T10:00:00Z",
    "span": "7 days",
    "state": "failed",
    "role": "owner",
    "instead": "auditor",
    "scopes": "read, audit",
    **dict.fromkeys(
        ("attempt", "count", "days", "entry", "most", "round", "rounds", "version"), "3"
    ),
}


def values_of(sentence: Sentence) -> dict[str, str]:
    names = [name for _, name, _, _ in string.Formatter().parse(sentence) if name]
    return {name: SAMPLES.get(name, f"St {name.title()}'s") for name in names}


@pytest.mark.parametrize("sentence", Sentence)
def test_a_sentence_is_found_in_what_it_says(sentence: Sentence) -> None:
    values = values_of(sentence)
    assert hear(say(sentence, **values)) == ((sentence, values),)


@pytest.mark.parametrize("first", [Sentence.NO_ANSWER, Sentence.SILENT, Sentence.ON_RESTART])
def test_sentences_that_were_joined_are_found_one_by_one(first: Sentence) -> None:
    parts = [Sentence.STOPPING, first, Sentence.OTHERWISE]
    text = joined(*(say(one, **values_of(one)) for one in parts), None)
    assert hear(text) == tuple((one, values_of(one)) for one in parts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accepted",
        "Please look at round two.",
        "round two completed by 3 nodes",
        "no word from the aggregator; and somebody's own words",
        "otherwise it ends at noon",
    ],
)
def test_other_words_are_left_alone(text: str) -> None:
    assert hear(text) == ()


def test_a_reason_may_hold_anything() -> None:
    why = "as agreed; see our letter: [no-such-code]\nof 22 November"
    told = say(Sentence.WITHDREW, name="St Luke's", reason=why)
    assert hear(told) == ((Sentence.WITHDREW, {"name": "St Luke's", "reason": why}),)


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError, match="name"):
        say(Sentence.ACCEPTED)
