"""Cursors: what comes back is what went out, and nothing else is taken."""

import base64
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import pytest

from onefold.core.cursor import decode_cursor, encode_cursor
from onefold.errors import InvalidInput

AT = datetime(2026, 3, 1, 12, 0, 0, 7, tzinfo=UTC)
ID = UUID("8c4d6f0e-0000-4000-8000-000000000001")


class Place(NamedTuple):
    at: datetime
    id: UUID


def forged(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_a_cursor_comes_back_as_it_went_out() -> None:
    """To the microsecond, so that no row is shown twice or left out."""
    assert decode_cursor(encode_cursor((AT, ID)), Place) == (AT, ID)


def test_a_cursor_needs_no_quoting_in_a_url() -> None:
    """It can be pasted behind `?cursor=`."""
    cursors = [encode_cursor((AT, ID, "?" * n)) for n in range(4)]

    assert all(c.replace("-", "").replace("_", "").isalnum() for c in cursors)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "!!!!",
        "\ud800",
        "ü",
        forged("{}"),
        forged("[]"),
        forged('["x","y"]'),
        forged(f'["2026-03-01T12:00:00Z","{ID}",1]'),
        forged("[" * 5000),
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """It comes from outside and is not trusted."""
    with pytest.raises(InvalidInput) as refused:
        decode_cursor(text, Place)

    assert [p.field for p in refused.value.problems] == ["cursor"]


@pytest.mark.parametrize("at", ["2026-03-01T12:00:00", "9999-12-31T23:59:59-01:00"])
def test_a_forged_instant_is_refused_before_a_database_sees_it(at: str) -> None:
    """Ours are in UTC; one without offset, or beyond year 9999 in UTC, breaks a query."""
    with pytest.raises(InvalidInput):
        decode_cursor(forged(f'["{at}","{ID}"]'), Place)
