"""RFC 8785 bytes, and everything that is refused."""

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from accord_common.canonical import MAX_INTEGER, canonical_bytes, parse
from accord_common.errors import FormatError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_every_value_comes_back_from_its_one_byte_form(value: object) -> None:
    try:
        data = canonical_bytes(value)  # type: ignore[arg-type]  # hypothesis types st.recursive loosely
    except FormatError:
        assert any(0xD800 <= ord(c) <= 0xDFFF for c in json.dumps(value, ensure_ascii=False))
        return
    assert parse(data, max_bytes=len(data)) == value
    assert canonical_bytes(parse(data, max_bytes=len(data))) == data


@given(JSON)
def test_both_writers_write_the_same_bytes(value: object) -> None:
    try:
        data = canonical_bytes(value)  # type: ignore[arg-type]  # as above
    except FormatError:
        return
    assert data == rfc8785.dumps(value)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("code", [*range(0x80), 0xFF, 0x2028, 0xFFFF, 0x1F600])
def test_every_escape_is_rfc_8785s(code: int) -> None:
    value = {"key": f"a{chr(code)}b"}
    assert canonical_bytes(value) == rfc8785.dumps(value)


def test_keys_sort_by_utf16_units_as_rfc_8785_section_3_2_3_orders_them() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    data = canonical_bytes(dict.fromkeys(keys, 0))
    assert list(json.loads(data)) == [
        "\r",
        "1",
        "\u0080",
        "\u00f6",
        "\u20ac",
        "\U0001f600",
        "\ufb33",
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"a":1.0}', "not-canonical"),
        (b'{"a":1e3}', "not-canonical"),
        (b'{"a":NaN}', "not-canonical"),
        (b'{"a":9007199254740992}', "not-canonical"),
        (b'{"a":1,"a":1}', "not-canonical"),
        (b'{"b":1,"a":1}', "not-canonical"),
        (b'{"a": 1}', "not-canonical"),
        (b'{"a":"\\u0041"}', "not-canonical"),
        (b'{"a":1} ', "not-canonical"),
        (b'{"a":1}x', "not-json"),
        (b'\xef\xbb\xbf{"a":1}', "not-json"),
        (b'{"a":"\xff"}', "not-json"),
        (b"", "not-json"),
        (b"[" * 20 + b"]" * 20, "not-canonical"),
        (b"[" * 200_000, "not-json"),
        (b"1" * 5_000, "not-json"),
    ],
)
def test_bytes_with_a_second_reading_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(data, max_bytes=1_000_000)
    assert caught.value.code == code


def test_one_byte_too_many_is_refused_before_decoding() -> None:
    with pytest.raises(FormatError) as caught:
        parse(b"[1,2]", max_bytes=4)
    assert caught.value.code == "too-large"
    assert "5 bytes" in caught.value.message


@pytest.mark.parametrize("value", [1.0, {"a": 0.5}, {1: "a"}, [{"a": b"x"}], 2**53, "\ud800"])
def test_values_without_a_canonical_form_are_not_written(value: object) -> None:
    with pytest.raises(FormatError) as caught:
        canonical_bytes(value)  # type: ignore[arg-type]  # the wrong type is the point
    assert caught.value.code == "not-canonical"
