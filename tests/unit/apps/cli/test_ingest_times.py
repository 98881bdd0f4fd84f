"""What instant a text means, clocks that are put back included."""

import pytest

from onefold_server.cli.ingest.rows import RowFault
from onefold_server.cli.ingest.spec import TimeSpec
from onefold_server.cli.ingest.times import time_reader

OSLO = {"format": "%Y-%m-%d %H:%M", "zone": "Europe/Oslo"}


def read(text: str, **spec: str) -> str:
    return time_reader(TimeSpec(column=1, **spec))(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "text", "instant"),
    [
        ({}, "2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00+00:00"),
        ({}, "2026-01-31T12:00:00.25Z", "2026-01-31T12:00:00.250000+00:00"),
        ({"zone": "Europe/Oslo"}, "2026-01-31T12:00:00", "2026-01-31T11:00:00+00:00"),
        ({"zone": "Europe/Oslo"}, "2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ({"format": "epoch_s"}, "1769860800.5", "2026-01-31T12:00:00.500000+00:00"),
        ({"format": "epoch_ms"}, "1769860800001", "2026-01-31T12:00:00.001000+00:00"),
        ({"format": "epoch_s"}, "-1", "1969-12-31T23:59:59+00:00"),
        ({"format": "%Y%m%d %H%M %z"}, "20260131 1200 -0500", "2026-01-31T17:00:00+00:00"),
        (
            {"format": "%m-%d-%y-%H-%M-%S", "zone": "America/New_York"},
            "08-01-17-20-30-08",
            "2017-08-02T00:30:08+00:00",
        ),
        (OSLO, "2026-07-01 12:00", "2026-07-01T10:00:00+00:00"),
        (OSLO, "2026-12-01 12:00", "2026-12-01T11:00:00+00:00"),
    ],
)
def test_a_time_is_told_in_utc(spec: dict[str, str], text: str, instant: str) -> None:
    """Whatever form it has in the file."""
    assert read(text, **spec) == instant


def test_a_local_time_that_occurs_twice_is_the_earlier_one_unless_told() -> None:
    """On 25 October 2026 at 03:00 clocks in Oslo go back to 02:00."""
    earlier = read("2026-10-25 02:30", **OSLO)
    later = read("2026-10-25 02:30", **OSLO, ambiguous="later")

    assert earlier == "2026-10-25T00:30:00+00:00"
    assert later == "2026-10-25T01:30:00+00:00"


def test_a_local_time_that_is_skipped_is_shifted_unless_told() -> None:
    """On 29 March 2026 at 02:00 clocks in Oslo go forward to 03:00: 02:30 is 03:30."""
    assert read("2026-03-29 02:30", **OSLO) == read("2026-03-29 03:30", **OSLO)
    assert read("2026-03-29 02:30", **OSLO, ambiguous="later") == "2026-03-29T01:30:00+00:00"


@pytest.mark.parametrize(
    ("text", "spec", "code"),
    [
        ("2026-10-25 02:30", {**OSLO, "ambiguous": "reject"}, "ambiguous_time"),
        ("2026-03-29 02:30", {**OSLO, "nonexistent": "reject"}, "nonexistent_time"),
        ("2026-13-01 00:00", OSLO, "timestamp"),
        ("0001-01-01 00:00", OSLO, "timestamp"),
        ("2026-01-31T12:00:00", {}, "naive_timestamp"),
        ("31.1.2026", {}, "timestamp"),
        ("yesterday", {"format": "epoch_s"}, "timestamp"),
        ("NaN", {"format": "epoch_s"}, "timestamp"),
        ("1e99", {"format": "epoch_s"}, "timestamp"),
        ("Infinity", {"format": "epoch_s"}, "timestamp"),
    ],
)
def test_a_time_that_means_no_instant_is_a_fault(
    text: str, spec: dict[str, str], code: str
) -> None:
    """Of its row alone."""
    with pytest.raises(RowFault) as fault:
        read(text, **spec)

    assert fault.value.code == code


def test_hours_beside_a_change_of_clocks_are_never_rejected() -> None:
    """Only the hour itself is in doubt."""
    strict = {**OSLO, "ambiguous": "reject", "nonexistent": "reject"}

    assert read("2026-10-25 03:00", **strict) == "2026-10-25T02:00:00+00:00"
    assert read("2026-03-29 03:00", **strict) == "2026-03-29T01:00:00+00:00"
