"""Which fields are wrong: all of them, by name, and nothing of a stranger's text but a little."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest

from onefold.core.fields import Expected, list_problems, text_flaw, wrong_fields
from onefold.errors import FieldProblem

AN_ID = "8c4d6f0e-0000-4000-8000-000000000001"


class Visit(msgspec.Struct, forbid_unknown_fields=True):
    visitor: UUID
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    note: str | None = None


EXPECTED: Expected = {
    "visitor": ("not_a_uuid", "expected a UUID"),
    "at": ("timestamp", "expected a time with its offset"),
    "note": ("text", "expected text"),
}


def codes(raw: Any) -> list[tuple[str, str]]:
    return [(p.field, p.code) for p in wrong_fields(raw, Visit, EXPECTED)]


def test_what_fits_has_no_wrong_field() -> None:
    """Optional fields may be absent."""
    assert codes({"visitor": AN_ID, "at": "2026-01-01T00:00:00Z"}) == []


def test_every_wrong_field_is_named_not_only_the_first() -> None:
    """A client mends its request in one go."""
    raw = {"visitor": 7, "at": "soon", "note": [], "extra": 1}

    assert codes(raw) == [
        ("visitor", "not_a_uuid"),
        ("at", "timestamp"),
        ("note", "text"),
        ("extra", "unknown_field"),
    ]


def test_a_required_field_that_is_absent_is_missing() -> None:
    """Absent and wrong are told apart."""
    assert codes({}) == [("visitor", "missing"), ("at", "missing")]


@pytest.mark.parametrize("raw", [None, [], "text", 1, True])
def test_what_is_no_object_is_said_to_be_none(raw: Any) -> None:
    """There is no field to name then."""
    assert codes(raw) == [("", "not_an_object")]


def test_a_time_without_offset_has_a_code_of_its_own() -> None:
    """It is the most frequent mistake, and its cure is to add two characters."""
    raw = {"visitor": AN_ID, "at": "2026-01-01T00:00:00"}

    assert codes(raw) == [("at", "naive_timestamp")]


def test_a_lone_surrogate_in_a_field_is_a_wrong_field() -> None:
    """It is no text, and must not become an error of the server."""
    assert codes({"visitor": "\ud800", "at": "\udfff"}) == [
        ("visitor", "not_a_uuid"),
        ("at", "timestamp"),
    ]


def test_unknown_names_are_shown_shortened_and_printable() -> None:
    """An answer can be encoded, stored and read whatever the request held."""
    raw = {"visitor": AN_ID, "at": "2026-01-01T00:00:00Z", "a\0\ud800\n" + "x" * 100: 1}

    (problem,) = wrong_fields(raw, Visit, EXPECTED)

    assert problem.field == "a\ufffd\ufffd\ufffd" + "x" * 36


def test_at_most_ten_unknown_fields_are_named() -> None:
    """An answer is no echo of its request."""
    raw = {"visitor": AN_ID, "at": "2026-01-01T00:00:00Z"} | {f"f{n}": n for n in range(1000)}

    assert len(codes(raw)) == 10


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("plain", None),
        ("", None),
        ("größe 学", None),
        ("a\0b", "nul_character"),
        ("\ud83d", "not_unicode"),
        ("\udc00x", "not_unicode"),
    ],
)
def test_text_that_a_database_cannot_store_has_a_flaw(text: str, code: str | None) -> None:
    """PostgreSQL stores no U+0000, and UTF-8 no half of a surrogate pair."""
    flaw = text_flaw(text)

    assert (flaw and flaw[0]) == code


def test_problems_become_one_line() -> None:
    """Field and reason, and no stray space where there is no field."""
    problems = [FieldProblem("at", "x", "is late"), FieldProblem("", "y", "expected an object")]

    assert list_problems(problems) == "at is late; expected an object"
