"""When a closed trade may leave: the latest of all that somebody was promised."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from onefold_server.domains.trades.rules import earliest_send

EXIT = datetime(2026, 1, 15, 14, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def at(*, late: timedelta = timedelta(0), floor: timedelta = MINUTE, **row: Any) -> timedelta:
    """How long after its exit, for a subscription of five minutes."""
    given = {"exit_time": EXIT, "delay_s": None, "not_before": None} | row
    return earliest_send(given, recorded_at=EXIT + late, delay=5 * MINUTE, floor=floor) - EXIT


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, 5 * MINUTE),
        ({"late": HOUR}, HOUR + 5 * MINUTE),
        ({"late": -HOUR}, 5 * MINUTE),  # recorded before its exit, by a clock that is behind
        ({"floor": HOUR}, HOUR),
        ({"floor": timedelta(0)}, 5 * MINUTE),
        ({"delay_s": 0}, 5 * MINUTE),
        ({"delay_s": 60}, 5 * MINUTE),
        ({"delay_s": 600}, 10 * MINUTE),
        ({"not_before": EXIT - HOUR}, 5 * MINUTE),
        ({"not_before": EXIT + 2 * MINUTE}, 5 * MINUTE),
        ({"not_before": EXIT + HOUR}, HOUR),
        ({"not_before": EXIT + 6 * MINUTE, "delay_s": 600}, 10 * MINUTE),
    ],
)
def test_the_latest_promise_stands(how: dict[str, Any], expected: timedelta) -> None:
    """Consent, floor, and the record's own wish: none makes another shorter."""
    assert at(**how) == expected
