"""Ids made from an instant, and ids made from names."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest

from onefold.core.ids import NAMESPACE, derived_id, new_event_id, uuid7
from onefold.errors import InvalidEvent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ZEROS, ONES = bytes(10), b"\xff" * 10


def test_the_example_of_the_rfc_comes_out() -> None:
    """RFC 9562, appendix A.6, to the bit."""
    now = datetime(2022, 2, 22, 14, 22, 22, tzinfo=timezone(timedelta(hours=-5)))
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F) << 6

    made = uuid7(now, random.to_bytes(10))

    assert made == UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")


@pytest.mark.parametrize("random", [ZEROS, ONES])
def test_random_bits_leave_version_and_variant_alone(random: bytes) -> None:
    """No random bytes make it another kind of UUID."""
    made = uuid7(NOON, random)

    assert (made.version, made.int >> 62 & 0b11) == (7, 0b10)


def test_ids_of_later_milliseconds_sort_later() -> None:
    """A database index grows at its end, whatever the random bits are."""
    earlier, later = uuid7(NOON, ONES), uuid7(NOON + timedelta(milliseconds=1), ZEROS)

    assert (earlier < later, str(earlier) < str(later)) == (True, True)


def test_the_instant_is_cut_to_the_millisecond() -> None:
    """An id never lies in the future of its event."""
    assert uuid7(NOON + timedelta(microseconds=999), ZEROS) == uuid7(NOON, ZEROS)


@pytest.mark.parametrize(
    ("now", "random", "field"),
    [
        (NOON.replace(tzinfo=None), ZEROS, "now"),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), ZEROS, "now"),
        (NOON, bytes(9), "random"),
        (NOON, bytes(11), "random"),
    ],
)
def test_what_a_uuid7_cannot_hold_is_refused(now: datetime, random: bytes, field: str) -> None:
    """A naive instant, one before 1970, or the wrong number of bytes makes no id."""
    with pytest.raises(InvalidEvent) as refused:
        uuid7(now, random)

    assert refused.value.field == field


def test_a_new_event_id_asks_for_ten_bytes_once() -> None:
    """The source of randomness is the caller's, so a test can repeat it."""
    asked: list[int] = []

    def random(size_bytes: int) -> bytes:
        asked.append(size_bytes)
        return bytes(size_bytes)

    made = new_event_id(NOON, random)

    assert (made, asked) == (uuid7(NOON, ZEROS), [10])


def test_the_namespace_can_be_recomputed() -> None:
    """Another language can derive the same ids from the documentation alone."""
    assert uuid5(NAMESPACE_URL, "https://onefold.dev/ids") == NAMESPACE
    assert derived_id("a", "é") == uuid5(NAMESPACE, '["a","é"]')


@pytest.mark.parametrize("other", [("ab", "c"), ("abc",), ("a", "b", "c"), ('a","bc',), ()])
def test_parts_are_not_run_together(other: tuple[str, ...]) -> None:
    """("a", "bc") has an id of its own."""
    assert derived_id("a", "bc") != derived_id(*other)


def test_a_part_that_is_no_text_is_refused() -> None:
    """A lone surrogate has no bytes that could be hashed."""
    with pytest.raises(InvalidEvent, match="surrogate"):
        derived_id("a", "\ud800")
