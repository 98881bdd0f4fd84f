"""Schools do not see, change or hinder each other, whatever ids they use."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.support import School, new_school, rows, telemetry_event

from onefold.errors import NotFound
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Principal
from onefold_server.domains.directory.tables import students
from onefold_server.domains.telemetry.service import TelemetryService
from onefold_server.domains.telemetry.tables import events, features, sessions
from onefold_server.installation import Installation


@pytest.fixture
async def other(onefold: Installation) -> School:
    """A second school over the same database."""
    return await new_school(onefold, "Other School")


async def test_the_same_ids_in_two_schools_are_two_of_everything(
    onefold: Installation, school: School, other: School, clock: ManualClock
) -> None:
    """Event, session and pupil; content may differ, and neither is told of the other."""
    event = telemetry_event(clock.now())
    theirs = event | {"event_type": "mission_complete"}

    first = await onefold.telemetry.ingest(school.service, [event])
    second = await onefold.telemetry.ingest(other.service, [theirs])
    session_id = UUID(event["session_id"])
    mine = await onefold.telemetry.close_session(school.service, session_id)
    their = await onefold.telemetry.session(other.service, session_id)

    assert (first.applied, second.applied) == (1, 1)
    assert (len(await rows(onefold, events)), len(await rows(onefold, sessions))) == (2, 2)
    assert mine["features_event_types"] == {"mission_start": 1}
    assert (their["closed_at"], their["features_metrics"]) == (None, None)


async def test_what_is_read_of_a_shared_id_is_the_own_schools(
    onefold: Installation, school: School, other: School, clock: ManualClock
) -> None:
    """Its events, its revisions, its times."""
    event = telemetry_event(clock.now())
    session_id = UUID(event["session_id"])
    await onefold.telemetry.ingest(school.service, [event])
    await onefold.telemetry.ingest(other.service, [event | {"event_type": "mission_complete"}])
    await onefold.telemetry.close_session(other.service, session_id)

    page = await onefold.telemetry.session_events(school.teacher, session_id)
    timeline = await onefold.telemetry.timeline(school.teacher, session_id)

    assert [row["event_type"] for row in page.rows] == ["mission_start"]
    assert timeline.counts == {"mission_start": {0: 1}}
    assert await onefold.telemetry.revisions(school.teacher, session_id) == []


async def test_a_refused_pupil_is_taken_back_in_the_own_school_alone(
    onefold: Installation, school: School, other: School, clock: ManualClock
) -> None:
    """In the other it may be enrolled, and stays so."""
    event, theirs = telemetry_event(clock.now()), telemetry_event(clock.now())
    await onefold.telemetry.ingest(school.service, [event])
    await onefold.telemetry.ingest(other.service, [theirs])
    foreign = theirs | {"session_id": event["session_id"]}

    await onefold.telemetry.ingest(school.service, [foreign])

    found = {(row["school_id"], str(row["id"])) for row in await rows(onefold, students)}
    assert found == {(school.id, event["student_id"]), (other.id, theirs["student_id"])}


async def test_a_session_of_the_same_id_may_be_another_pupils_in_another_school(
    onefold: Installation, school: School, other: School, clock: ManualClock
) -> None:
    """Whose a session is, is asked within the school."""
    event = telemetry_event(clock.now())
    theirs = telemetry_event(clock.now(), session_id=event["session_id"])

    await onefold.telemetry.ingest(school.service, [event])
    second = await onefold.telemetry.ingest(other.service, [theirs])

    assert second.applied == 1


async def test_late_events_recompute_the_own_schools_session_alone(
    onefold: Installation, school: School, other: School, clock: ManualClock
) -> None:
    """The other's features stay at their revision."""
    event = telemetry_event(clock.now())
    for caller in (school.service, other.service):
        await onefold.telemetry.ingest(caller, [event])
        await onefold.telemetry.close_session(caller, UUID(event["session_id"]))

    late = event | {"event_id": str(uuid4())}
    await onefold.telemetry.ingest(other.service, [late])

    found = {(row["school_id"], row["revision"]) for row in await rows(onefold, features)}
    assert found == {(school.id, 1), (other.id, 1), (other.id, 2)}


Call = Callable[[TelemetryService, Principal, dict[str, UUID]], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "session": lambda t, who, of: t.session(who, of["session_id"]),
    "events": lambda t, who, of: t.session_events(who, of["session_id"]),
    "revisions": lambda t, who, of: t.revisions(who, of["session_id"]),
    "close": lambda t, who, of: t.close_session(who, of["session_id"]),
    "sessions": lambda t, who, of: t.sessions(who, student_id=of["student_id"]),
    "batch": lambda t, who, of: t.batch_status(who, of["batch_id"]),
    "timeline": lambda t, who, of: t.timeline(who, of["session_id"]),
}


@pytest.mark.parametrize("call", CALLS)
async def test_nothing_of_another_school_exists(
    onefold: Installation, school: School, other: School, clock: ManualClock, call: str
) -> None:
    """Every use case that names a thing says that it is not found."""
    event, batch_id = telemetry_event(clock.now()), uuid4()
    await onefold.telemetry.ingest(school.service, [event], batch_id=batch_id)
    ids = {name: UUID(event[name]) for name in ("session_id", "student_id")}

    with pytest.raises(NotFound):
        await CALLS[call](onefold.telemetry, other.admin, ids | {"batch_id": batch_id})

    await CALLS[call](onefold.telemetry, school.admin, ids | {"batch_id": batch_id})


async def test_lists_and_totals_hold_the_own_school_alone(
    onefold: Installation, school: School, other: School, clock: ManualClock
) -> None:
    """The other's are empty."""
    await onefold.telemetry.ingest(school.service, [telemetry_event(clock.now())])

    listed = await onefold.telemetry.sessions(other.admin)
    totals = await onefold.telemetry.totals(other.admin)

    assert list(listed.rows) == []
    assert set(totals.values()) == {0}
