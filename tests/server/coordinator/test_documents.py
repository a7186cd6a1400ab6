"""What a person wrote is read exactly, or refused with its place."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord_common.errors import UsageError
from accord_server.coordinator.documents import Document, Number, decode, read
from accord_server.coordinator.plan_file import PlanFile
from accord_server.coordinator.terms_file import TermsFile

PLAN = b"""
agreement: Tumour screening
task: tabular-binary
architecture: logistic-regression
rounds: 8
epsilon: 2.4
sampling_rate: 1e-1
steps: 4
learning_rate: 0.5
clipping_norm: 1
"""


class OneNumber(Document):
    value: Number


def refusal(text: bytes) -> UsageError:
    with pytest.raises(UsageError) as caught:
        decode(text, PlanFile, "plan.yaml")
    assert caught.value.code == "bad-document"
    assert caught.value.message.startswith("plan.yaml:")
    return caught.value


def test_numbers_become_the_decimals_of_records() -> None:
    plan = decode(PLAN, PlanFile, "plan.yaml")
    assert (plan.epsilon, plan.sampling_rate, plan.clipping_norm) == ("2.4", "0.1", "1")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-5", "0.00001"), ('"1e-5"', "0.00001"), ("1.50", "1.5"), ("-0", "0")]
)
def test_a_number_may_be_written_in_several_ways(text: str, value: str) -> None:
    assert decode(f"value: {text}".encode(), OneNumber, "x").value == value


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_float_keeps_its_value(value: float) -> None:
    try:
        found = decode(f"value: {value!r}".encode(), OneNumber, "x").value
    except UsageError:
        assert len(repr(value)) > 18  # more digits than a record may hold
    else:
        assert math.isclose(float(found), value, rel_tol=1e-15)


@pytest.mark.parametrize("text", ["true", "[1]", "abc", ".inf", ".nan", "1e-40"])
def test_what_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"x:1:1: value( = True)?: "):
        decode(f"value: {text}".encode(), OneNumber, "x")


def test_an_unknown_entry_is_named_with_the_known_ones() -> None:
    error = refusal(PLAN + b"lerning_rate: 1\n")
    assert "lerning_rate" in error.message and "learning_rate" in error.message


def test_an_unknown_entry_inside_another_is_named() -> None:
    error = refusal(PLAN + b"deadlines: {upload_s: 5}\n")
    assert "deadlines.upload_s" in error.message and "update_s" in error.message
    assert "sampling_rate" not in error.message


def test_a_repeated_entry_is_refused_with_its_line() -> None:
    assert "'rounds' is given twice, the second time in line 11" in (
        refusal(PLAN + b"rounds: 9\n").message
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"- a\n- b\n", "no list of `name: value` entries"),
        (b"a: [", "not YAML"),
        (b"", "no list"),
        (PLAN.replace(b"epsilon: 2.4\n", b""), "either epsilon or noise_multiplier"),
        (PLAN + b"noise_multiplier: 1\n", "either epsilon or noise_multiplier"),
        (PLAN + b"privacy: {mode: none}\n", "neither epsilon nor noise_multiplier"),
        (PLAN + b"privacy: {mode: plain}\n", "privacy.mode"),
        (
            PLAN.replace(b"epsilon: 2.4\n", b"privacy: {mode: none}\nclipping: automatic\n"),
            "clips no row",
        ),
        (PLAN.replace(b"1e-1", b"0"), "sampling_rate = 0 must be above 0"),
        (PLAN.replace(b"steps: 4", b"steps: four"), "plan.yaml:8:1: steps = 'four': "),
    ],
)
def test_other_mistakes_are_named(text: bytes, words: str) -> None:
    assert words in refusal(text).message


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"valid_from: 2026-13-45\n", "month must be in 1..12"),
        (b"? [a, b]\n: 1\n", "a name that is no text, in line"),
        (b"title: [a\n", "not YAML"),
        (b"title: " + b"[" * 20_000, "not YAML"),
    ],
)
def test_what_yaml_itself_cannot_read_is_refused_like_the_rest(line: bytes, why: str) -> None:
    with pytest.raises(UsageError, match="bad-document") as caught:
        decode(line, TermsFile, "terms.yaml")
    assert why in caught.value.message


def test_yaml_makes_no_objects() -> None:
    assert "not YAML" in refusal(b"agreement: !!python/object/apply:os.system ['true']\n").message


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unreadable-file"):
        read(tmp_path / "absent.yaml", PlanFile)


def test_a_short_form_is_a_name_alone() -> None:
    plan = decode(PLAN + b"server: fedadam\n", PlanFile, "plan.yaml")
    assert plan.server.name == "fedadam"
    assert (plan.architecture.name, plan.architecture.arguments) == ("logistic-regression", {})
    longer = PLAN.replace(b"logistic-regression", b"{name: mlp, hidden: [16]}")
    assert decode(longer, PlanFile, "x").architecture.arguments == {"hidden": [16]}


@pytest.mark.parametrize(("rounds", "attempts"), [(1, 2), (5, 6), (8, 10), (11, 14)])
def test_a_fifth_of_the_rounds_is_to_spare(rounds: int, attempts: int) -> None:
    text = PLAN.replace(b"rounds: 8", b"rounds: %d" % rounds)
    assert decode(text, PlanFile, "x").max_attempts == attempts
    assert decode(text + b"spare_attempts: 0\n", PlanFile, "x").max_attempts == rounds


TERMS = b"""\
title: x
purpose: ["HMB"]
datasets:
  - {owner: a, name: t, privacy: {epsilon_cap: 0}}
  - {owner: b, nam: t}
privacy: {delta: 1e-1}
tasks:
  - {task: Tabular Binary, objective: y, architectures: [mlp], max_rounds: 0}
"""


def test_all_mistakes_are_told_at_once_with_line_and_column() -> None:
    with pytest.raises(UsageError, match=r"\[bad-document\]") as caught:
        decode(TERMS, TermsFile, "terms.yaml")
    head, *lines = caught.value.message.splitlines()
    assert head == f"{len(lines)} entries are wrong:"
    for place, words in (
        ("2:11", "purpose.0: 'HMB' is no code of the Data Use Ontology"),
        ("4:35", "datasets.0.privacy.epsilon_cap: 0 must be above 0 and at most 100"),
        ("5:5", "datasets.1.name: is not given"),
        ("5:16", "datasets.1.nam: no such entry; did you mean name? Else there are duo, name, "),
        ("6:11", "privacy.delta = '1e-1': 0.1 must be above 0 and at most 0.01"),
        ("8:6", "tasks.0.task = 'Tabular Binary': must be lower-case words joined by `-`"),
        ("8:64", "tasks.0.max_rounds = 0: Input should be greater than or equal to 1"),
    ):
        assert any(f"terms.yaml:{place}: {words}" in line for line in lines), (place, lines)
