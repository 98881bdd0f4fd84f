"""What counts as a JSON value, and where one stops."""

import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest

from onefold.core.json_value import (
    MAX_DEPTH,
    MAX_DIGITS,
    decode_json,
    decode_object,
    encode_json,
    refuse,
)
from onefold.errors import InvalidEvent


class Colour(StrEnum):
    RED = "red"


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1.5,
        "ö\x00\U0001f600",
        {"": [], "ä": {}},
        10**MAX_DIGITS - 1,
        -(10**MAX_DIGITS) + 1,
        nested(MAX_DEPTH),
    ],
)
def test_what_json_can_say_is_a_json_value(value: Any) -> None:
    """It is accepted, and written and read back as it was."""
    refuse(value, "data")

    assert decode_json(encode_json(value), "data") == value


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        (math.nan, "data", "nan is not a JSON number"),
        ({"a": [1, {"b": -math.inf}]}, "data.a[1].b", "-inf is not a JSON number"),
        (["\ud800"], "data[0]", "a lone surrogate is not text"),
        ({"a": {"\udfff": 1}}, "data.a", "in a member's name, a lone surrogate is not text"),
        ({"a": {1: 1}}, "data.a", "a member's name is text, not int"),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, "data.when", "datetime is not a JSON type"),
        ([(1, 2)], "data[0]", "tuple is not a JSON type"),
        ({"colour": Colour.RED}, "data.colour", "Colour is not a JSON type"),
        (10**MAX_DIGITS, "data", "an integer has at most 640 digits"),
        (-(10**MAX_DIGITS), "data", "an integer has at most 640 digits"),
        ({"x" * 99: b""}, "data." + "x" * 40, "bytes is not a JSON type"),
    ],
)
def test_what_json_cannot_say_is_refused_where_it_stands(
    value: Any, field: str, reason: str
) -> None:
    """The error leads to the value, however deep it is buried."""
    with pytest.raises(InvalidEvent) as refused:
        refuse(value, "data")

    assert (refused.value.field, refused.value.reason) == (field, reason)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, MAX_DEPTH + 2, 10_000])
def test_nesting_has_a_bound(levels: int) -> None:
    """No value is so deep that writing it later could fail."""
    with pytest.raises(InvalidEvent, match="nested deeper than 100 levels"):
        refuse(nested(levels), "data")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON: Input data was truncated"),
        (b'{"a":NaN}', "not JSON: invalid character (byte 5)"),
        (b"1e999", "not JSON: Number out of range"),
        (b"1 2", "not JSON: trailing characters (byte 3)"),
        (b'"\xff"', "not UTF-8, or a lone surrogate"),
        ('"\ud800"', "not UTF-8, or a lone surrogate"),
        (b'"\\udc00"', "not JSON: invalid utf-16 surrogate pair (byte 7)"),
    ],
)
def test_text_that_is_no_json_is_refused(text: bytes | str, reason: str) -> None:
    """The reason says what is wrong and, where known, at which byte."""
    with pytest.raises(InvalidEvent) as refused:
        decode_json(text, "body")

    assert (refused.value.field, refused.value.reason) == ("body", reason)


def test_bottomless_text_is_refused() -> None:
    """A megabyte of brackets is an InvalidEvent, not a crash."""
    with pytest.raises(InvalidEvent, match="not JSON: maximum recursion depth"):
        decode_json(b"[" * 1_000_000, "body")


def test_of_two_members_with_one_name_the_last_counts() -> None:
    """RFC 8259 leaves it open; here it is settled."""
    assert decode_object(b'{"a":1,"a":2}', "body") == {"a": 2}


@pytest.mark.parametrize("text", [b"[]", b"null", b'"{}"', b"1"])
def test_an_object_is_not_just_any_value(text: bytes) -> None:
    """Valid JSON of another type is refused."""
    with pytest.raises(InvalidEvent, match="body: a JSON object is expected"):
        decode_object(text, "body")
