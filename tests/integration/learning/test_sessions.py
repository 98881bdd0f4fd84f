"""Learning sessions end to end, on SQLite and PostgreSQL."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from tests.support import School, new_school
from tests.support_learning import change, open_session, pupil, servers

from onefold.adapters.sql.outbox import SqlOutbox
from onefold.errors import (
    Conflict,
    Forbidden,
    IllegalTransition,
    InvalidInput,
    NotFound,
    Outdated,
)
from onefold.testing.clock import ManualClock
from onefold_server.domains.learning.sessions.rules import Session, SessionState, SessionTypes
from onefold_server.domains.learning.sessions.service import SessionService
from onefold_server.installation import Installation


async def test_a_session_is_started_changed_completed_and_read_back(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """What was counted is there afterwards, with accuracy and whole seconds of duration."""
    learning = onefold.learning.sessions
    begun = await open_session(onefold, school, source_id="lesson 4", metadata={"device": "a"})
    await learning.change(
        school.service,
        begun.id,
        change(add={"items_studied": 10, "items_correct": 7, "items_incorrect": 3}),
    )
    clock.advance(timedelta(minutes=2, seconds=3, milliseconds=900))

    done = await learning.complete(school.service, begun.id)

    assert (done.state, done.duration_s, done.accuracy_rate) == (SessionState.COMPLETED, 123, 0.7)
    assert done == await learning.get(school.service, begun.id)


async def test_increments_of_many_devices_all_count(database_url: str, clock: ManualClock) -> None:
    """100 concurrent increments over 10 servers add up exactly, each counted once."""
    async with servers(database_url, 10, clock) as many:
        school = await new_school(many[0])
        begun = await open_session(many[0], school)
        changes = [
            change(
                add={"items_studied": 1, "items_correct": n % 3, "items_incorrect": 1},
                metadata={f"key {n}": n},
            )
            for n in range(100)
        ]

        await asyncio.gather(
            *(
                many[(n + again) % 10].learning.sessions.change(school.service, begun.id, one)
                for again in range(2)
                for n, one in enumerate(changes)
            )
        )

        found = await many[3].learning.sessions.get(school.service, begun.id)
        assert (found.items_studied, found.items_correct, found.items_incorrect) == (100, 99, 100)
        assert len(found.metadata) == 100
        assert found.version == 101


async def test_a_lost_update_is_refused_and_not_silent(
    onefold: Installation, school: School
) -> None:
    """Of two that set a counter from the same version, the second is told."""
    learning = onefold.learning.sessions
    begun = await open_session(onefold, school)
    first = change(set={"items_correct": 7}, expected_version=begun.version)
    second = change(set={"items_correct": 8}, expected_version=begun.version)

    await learning.change(school.service, begun.id, first)
    with pytest.raises(Outdated, match="at version 2"):
        await learning.change(school.service, begun.id, second)

    assert (await learning.get(school.service, begun.id)).items_correct == 7


async def test_a_change_id_counts_once_and_means_one_change(
    onefold: Installation, school: School
) -> None:
    """Sent again it changes nothing; with other content it is a conflict."""
    learning = onefold.learning.sessions
    begun = await open_session(onefold, school)
    once = change(add={"items_studied": 1})

    results = await asyncio.gather(
        *(learning.change(school.service, begun.id, once) for _ in range(5))
    )

    assert {result.items_studied for result in results} == {1}
    with pytest.raises(Conflict):
        await learning.change(
            school.service, begun.id, change(id=once.id, add={"items_studied": 2})
        )


async def test_starting_again_is_the_same_as_once(onefold: Installation, school: School) -> None:
    """A retry with the caller's own id finds the session; another start under it is refused."""
    id_, student = uuid4(), uuid4()

    first = await open_session(onefold, school, session_id=id_, student_id=student)
    again = await open_session(onefold, school, session_id=id_, student_id=student)

    assert first == again
    with pytest.raises(Conflict):
        await open_session(onefold, school, session_id=id_, student_id=student, language="fr")


async def test_starts_of_one_session_in_one_round_are_one(
    onefold: Installation, school: School
) -> None:
    """Ten devices that start the same session at the same time have the same session."""
    id_, student = uuid4(), uuid4()

    begun = await asyncio.gather(
        *(open_session(onefold, school, session_id=id_, student_id=student) for _ in range(10))
    )

    assert all(session == begun[0] for session in begun)


async def test_orders_can_be_carried_out_alone(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Without rounds the use cases do and refuse the same."""
    lone = SessionService(onefold.uow, clock=clock, random=bytes, types=SessionTypes())
    begun = await lone.start(school.service, uuid4(), "conversation", "es")

    assert (await lone.complete(school.service, begun.id)).state is SessionState.COMPLETED
    with pytest.raises(IllegalTransition):
        await lone.abandon(school.service, begun.id)


async def test_the_end_is_written_once(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Completing again answers the first result; what comes later must say it is a correction."""
    learning = onefold.learning.sessions
    begun = await open_session(onefold, school)
    clock.advance(timedelta(seconds=60))
    first = await learning.complete(school.service, begun.id)
    clock.advance(timedelta(seconds=60))

    again = await learning.complete(school.service, begun.id)
    with pytest.raises(IllegalTransition):
        await learning.change(school.service, begun.id, change(add={"items_correct": 1}))
    with pytest.raises(IllegalTransition):
        await learning.abandon(school.service, begun.id)
    mended = await learning.change(
        school.service, begun.id, change(add={"items_correct": 1}, correction=True)
    )

    assert again == first
    assert (mended.duration_s, mended.revision, mended.items_correct) == (60, 1, 1)


async def test_abandoned_sessions_are_ended_by_the_worker_once(
    database_url: str, clock: ManualClock
) -> None:
    """Two workers end each quiet session once, at its last change; a lively one stays open."""
    async with servers(database_url, 2, clock) as (one, two):
        school = await new_school(one)
        quiet = [await open_session(one, school) for _ in range(5)]
        clock.advance(timedelta(minutes=1))
        await one.learning.sessions.change(
            school.service, quiet[0].id, change(add={"items_studied": 1})
        )
        clock.advance(timedelta(hours=7))
        lively = await open_session(one, school)

        ended = await asyncio.gather(
            *(server.learning.sessions.abandon_idle() for server in (one, two))
        )

        assert sum(ended) == 5
        assert not await one.learning.sweep()
        first = await one.learning.sessions.get(school.service, quiet[0].id)
        assert (first.state, first.duration_s) == (SessionState.ABANDONED, 60)
        still = await one.learning.sessions.get(school.service, lively.id)
        assert still.state is SessionState.OPEN
        with pytest.raises(IllegalTransition):
            await one.learning.sessions.complete(school.service, quiet[0].id)


async def test_lists_are_filtered_and_paged_newest_first(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Every session comes once, in order, even when many start at the same instant."""
    learning = onefold.learning.sessions
    student = uuid4()
    made = []
    for number in range(7):
        made.append(await open_session(onefold, school, student_id=student, language="es"))
        if number % 3 == 0:
            clock.advance(timedelta(seconds=1))
    other = await open_session(
        onefold, school, student_id=student, language="fr", session_type="scenario"
    )
    await learning.complete(school.service, other.id)

    seen: list[Session] = []
    cursor = None
    while True:
        found = await learning.sessions(
            school.service, student_id=student, language="es", cursor=cursor, limit=3
        )
        seen += found.rows
        cursor = found.next_cursor
        if cursor is None:
            break

    expected = sorted(made, key=lambda s: (s.started_at, s.id), reverse=True)
    assert [s.id for s in seen] == [s.id for s in expected]
    closed = await learning.sessions(school.service, is_open=False)
    assert [s.id for s in closed.rows] == [other.id]
    by_type = await learning.sessions(school.service, session_type="scenario", is_open=True)
    assert not by_type.rows
    for wrong in ({"session_type": "x"}, {"language": "?"}, {"limit": 0}, {"cursor": "?"}):
        with pytest.raises(InvalidInput):
            await learning.sessions(school.service, **wrong)


async def test_nothing_of_others_exists(onefold: Installation, school: School) -> None:
    """Another school's session, and for a pupil's key another pupil's, is not found."""
    learning = onefold.learning.sessions
    begun = await open_session(onefold, school)
    elsewhere = (await new_school(onefold, "Elsewhere")).service
    other_pupil = pupil(school, uuid4())

    for caller in (elsewhere, other_pupil):
        with pytest.raises(NotFound):
            await learning.get(caller, begun.id)
        with pytest.raises(NotFound):
            await learning.change(caller, begun.id, change(add={"items_studied": 1}))
        with pytest.raises(NotFound):
            await learning.complete(caller, begun.id)
        assert not (await learning.sessions(caller)).rows
    with pytest.raises(NotFound):
        await learning.sessions(other_pupil, student_id=begun.student_id)
    with pytest.raises(NotFound):
        await learning.start(other_pupil, begun.student_id, "conversation", "es")
    with pytest.raises(Forbidden):
        await learning.start(school.teacher, begun.student_id, "conversation", "es")
    own = await learning.get(pupil(school, begun.student_id), begun.id)
    assert own.id == begun.id


async def test_unknown_learners_are_not_enrolled_behind_the_schools_back(
    onefold: Installation,
) -> None:
    """Where a school does not enrol by itself, a stranger's session is refused."""
    strict = await new_school(onefold, "Strict", auto_enrol=False)

    with pytest.raises(NotFound):
        await open_session(onefold, strict)


async def test_every_change_is_a_fact_that_leaves_with_it(
    onefold: Installation, school: School
) -> None:
    """Start, change, end and correction stand in the outbox, once, in order."""
    learning = onefold.learning.sessions
    begun = await open_session(onefold, school)
    step = change(add={"items_correct": 1})
    for _ in range(2):
        await learning.change(school.service, begun.id, step)
        await learning.complete(school.service, begun.id)
        if not (await learning.get(school.service, begun.id)).revision:
            await learning.change(
                school.service, begun.id, change(add={"items_correct": 1}, correction=True)
            )

    facts = await SqlOutbox(onefold.uow).unsent(limit=100)

    assert [fact.type.rpartition(".")[2] for fact in facts] == [
        "started",
        "updated",
        "completed",
        "corrected",
    ]
    assert {fact.key for fact in facts} == {str(begun.id)}
