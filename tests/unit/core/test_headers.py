"""Headers of Kafka and HTTP, in whatever shape a client gives them."""

from typing import Any

import pytest

from onefold.core.headers import HeaderPairs, Headers, percent_encode, read_headers
from onefold.errors import InvalidEvent

EURO = "Euro € \U0001f600"
EURO_ENCODED = "Euro%20%E2%82%AC%20%F0%9F%98%80"


@pytest.mark.parametrize(
    "pairs",
    [
        {"Content-Type": "a/b", "EVENT_ID": "1", "CE_Id": "2"},
        [("content-type", b"a/b"), ("event_id", b"1"), ("ce_id", b"2")],
        [(b"Content-Type", b" a/b "), (b"Event_Id", b"1"), (b"ce-ID", b"2")],
        iter([("content-type", "a/b"), ("event_id", "1"), ("ce-id", '"2"'), ("ce_id", "2")]),
    ],
)
def test_the_shape_of_headers_does_not_matter(pairs: Any) -> None:
    """Mapping or pairs, text or bytes, any case: the same headers are read."""
    assert read_headers(pairs) == Headers("a/b", "1", {"id": "2"})


def test_headers_without_meaning_are_passed_over() -> None:
    """Whatever they hold, be it unreadable; a header without a value is none."""
    pairs: HeaderPairs = [
        ("x", b"\xff"),
        (b"\xff", None),
        ("ce_id", None),
        ("event_id", b""),
        ("cex", "1"),
    ]

    assert read_headers(pairs) == Headers(None, None, {})


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (EURO_ENCODED, EURO),
        (EURO_ENCODED.lower(), EURO.lower()),
        ("%41", "A"),
        ("100%25", "100%"),
        ("%2525", "%25"),
        ("50%", "50%"),
        ('"a b"', "a b"),
        ('"a \\"b\\" \\\\"', 'a "b" \\'),
        ('"%22"', '"'),
        ('"open', '"open'),
        ("a+b", "a+b"),
    ],
)
def test_http_values_are_unquoted_and_percent_decoded_once(sent: str, expected: str) -> None:
    """HTTP binding 1.0.2, section 3.1.3.2, in that order."""
    assert read_headers({"ce-subject": sent}).attributes == {"subject": expected}


def test_kafka_values_are_plain_text() -> None:
    """Kafka binding: UTF-8 as it is; a percent sign is a percent sign."""
    pairs: dict[str, str | bytes] = {"ce_subject": EURO.encode(), "ce_x": '"100%25"'}

    assert read_headers(pairs).attributes == {"subject": EURO, "x": '"100%25"'}


@pytest.mark.parametrize(
    ("pairs", "field", "reason"),
    [
        ([("ce_id", b"\xff")], "ce_id", "the header's value is not UTF-8"),
        ([("Event_Id", b"\xff")], "event_id", "the header's value is not UTF-8"),
        ([("ce-id", "%C0%A0")], "ce-id", "the header's percent-encoding is not UTF-8"),
        ([("ce-id", "%41\ud800")], "ce-id", "the header's percent-encoding is not UTF-8"),
        ([("ce_id", "1"), ("ce_id", "2")], "ce_id", "occurs twice with different values"),
        ([("ce_id", "1"), ("ce-id", "2")], "ce-id", "occurs twice with different values"),
        ([("event_id", "1"), ("event_id", "2")], "event_id", "occurs twice with different"),
        ([("content-type", "a/b"), ("content-type", "a/c")], "content-type", "occurs twice"),
    ],
)
def test_headers_that_cannot_be_read_are_refused(pairs: Any, field: str, reason: str) -> None:
    """A known header is never guessed at."""
    with pytest.raises(InvalidEvent, match=reason) as refused:
        read_headers(pairs)

    assert refused.value.field == field


def test_percent_encoding_leaves_only_what_a_header_may_hold() -> None:
    """Space, quote, percent and everything beyond printable ASCII are encoded, in upper case."""
    printable = "".join(map(chr, range(0x21, 0x7F)))

    assert percent_encode(EURO) == EURO_ENCODED
    assert percent_encode(' "%\x7f\n') == "%20%22%25%7F%0A"
    assert percent_encode(printable) == printable.replace("%", "%25").replace('"', "%22")
