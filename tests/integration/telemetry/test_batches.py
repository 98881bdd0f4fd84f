"""What became of a batch, over all the times it was sent."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tests.support import (
    School,
    another_server,
    new_school,
    principal,
    telemetry_event,
    telemetry_over,
)
from tests.twins.lost_commit import LostCommit

from onefold.errors import NotFound, StoreUnavailable
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role
from onefold_server.installation import Installation


async def test_the_status_tells_what_really_happened(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Each event of the batch, with the reason where it was refused."""
    known, batch_id = telemetry_event(clock.now()), uuid4()
    await onefold.telemetry.ingest(school.service, [known])
    conflict = known | {"data": {"level": 9}}

    await onefold.telemetry.ingest(
        school.service,
        [telemetry_event(clock.now()), known, conflict, {}],
        batch_id=batch_id,
        client_version="up/2",
    )

    status = await onefold.telemetry.batch_status(school.teacher, batch_id)
    refused = status.pop("refused")
    assert status == {
        "school_id": school.id,
        "id": batch_id,
        "student_id": None,
        "client_version": "up/2",
        "received_at": clock.now(),
        "last_received_at": clock.now(),
        "posts": 1,
        "applied": 1,
        "repeated": 1,
    }
    assert [(r["index"], r["event_id"], r["code"]) for r in refused] == [
        (2, known["event_id"], "conflict"),
        (3, None, "missing"),
    ]
    assert all(r["reason"] for r in refused)


async def test_a_batch_sent_again_is_added_up(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Applied once, repeated at each later post; received first when it was."""
    batch, batch_id, first = [telemetry_event(clock.now()) for _ in range(3)], uuid4(), clock.now()
    for _ in range(3):
        await onefold.telemetry.ingest(school.service, batch, batch_id=batch_id)
        clock.advance(timedelta(seconds=1))

    status = await onefold.telemetry.batch_status(school.service, batch_id)

    assert (status["posts"], status["applied"], status["repeated"]) == (3, 3, 6)
    assert status["received_at"] == first
    assert status["last_received_at"] == first + timedelta(seconds=2)


async def test_a_mended_batch_has_nothing_refused(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Refusals are those of the latest post."""
    good, bad, batch_id = telemetry_event(clock.now()), telemetry_event(clock.now()), uuid4()
    await onefold.telemetry.ingest(
        school.service, [good, bad | {"mission_id": 1}], batch_id=batch_id
    )

    await onefold.telemetry.ingest(school.service, [good, bad], batch_id=batch_id)

    status = await onefold.telemetry.batch_status(school.service, batch_id)
    assert (status["applied"], status["repeated"], status["refused"]) == (2, 1, [])


async def test_one_batch_sent_by_many_at_once_adds_up(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Through two servers, each of ten posts is counted."""
    batch, batch_id = [telemetry_event(clock.now()) for _ in range(5)], uuid4()

    async with another_server(onefold) as other:
        await asyncio.gather(
            *(
                server.telemetry.ingest(school.service, batch, batch_id=batch_id)
                for server in [onefold, other] * 5
            )
        )

    status = await onefold.telemetry.batch_status(school.service, batch_id)
    assert (status["posts"], status["applied"], status["repeated"]) == (10, 5, 45)


async def test_a_batch_that_was_not_recorded_is_not_known(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """The status is written with the events or not at all."""
    batch_id = uuid4()
    failing = telemetry_over(onefold, LostCommit(onefold.uow))

    with pytest.raises(StoreUnavailable):
        await failing.telemetry.ingest(
            school.service, [telemetry_event(clock.now())], batch_id=batch_id
        )

    with pytest.raises(NotFound):
        await onefold.telemetry.batch_status(school.service, batch_id)


async def test_a_batch_of_another_school_is_not_found(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """And the same batch id in two schools is two batches."""
    batch_id = uuid4()
    other = await new_school(onefold, "Other School")
    await onefold.telemetry.ingest(
        school.service, [telemetry_event(clock.now())] * 2, batch_id=batch_id
    )

    with pytest.raises(NotFound):
        await onefold.telemetry.batch_status(other.service, batch_id)
    event = telemetry_event(clock.now())
    for _ in range(2):
        await onefold.telemetry.ingest(other.service, [event], batch_id=batch_id)

    mine = await onefold.telemetry.batch_status(school.service, batch_id)
    theirs = await onefold.telemetry.batch_status(other.service, batch_id)
    assert (mine["applied"], mine["repeated"], mine["posts"]) == (1, 1, 1)
    assert (theirs["applied"], theirs["repeated"], theirs["posts"]) == (1, 1, 2)


async def test_refused_events_are_counted_by_code(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A school can see how often its events were refused and why, conflicts among them."""
    event = telemetry_event(clock.now())
    await onefold.telemetry.ingest(school.service, [event])
    conflicting = event | {"data": {"level": 2}}

    await onefold.telemetry.ingest(school.service, [conflicting, conflicting, {}])
    await onefold.telemetry.ingest(school.service, [conflicting])

    counts = {r["code"]: r["events"] for r in await onefold.telemetry.refusals(school.service)}
    assert counts == {"conflict": 3, "missing": 1}


async def test_a_pupils_key_sees_the_batches_it_sent_alone(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Who knows a batch's id does not thereby see what became of it."""
    event, batch_id = telemetry_event(clock.now()), uuid4()
    await onefold.telemetry.ingest(school.service, [event], batch_id=batch_id)
    pupil = principal(school.id, Role.STUDENT, UUID(event["student_id"]))

    with pytest.raises(NotFound):
        await onefold.telemetry.batch_status(pupil, batch_id)
