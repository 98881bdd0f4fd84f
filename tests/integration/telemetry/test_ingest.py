"""Which events count, on SQLite and PostgreSQL."""

from tests.support import School, telemetry_event

from onefold.testing.clock import ManualClock
from onefold.wiring import Onefold


async def test_an_event_counts_once_however_often_it_is_sent(
    onefold: Onefold, school: School, clock: ManualClock
) -> None:
    """A repeated event is reported as repeated and stored once."""
    event = telemetry_event(clock.now())

    first = await onefold.telemetry.ingest(school.service, [event, event])
    second = await onefold.telemetry.ingest(school.service, [event])

    assert (first.applied, first.repeated) == (1, 1)
    assert (second.applied, second.repeated) == (0, 1)
