"""The system clock."""

from datetime import UTC, datetime, timedelta

from onefold.core.clock import Clock, SystemClock


def test_the_system_clock_tells_an_aware_instant_in_utc() -> None:
    """Nobody has to guess the zone, and it is the time of now."""
    clock: Clock = SystemClock()

    before, now, after = datetime.now(UTC), clock.now(), datetime.now(UTC)

    assert now.tzinfo is UTC
    assert before - timedelta(seconds=1) <= now <= after + timedelta(seconds=1)
