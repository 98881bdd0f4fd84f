"""How sessions are born, closed and looked at, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.support import (
    School,
    another_server,
    new_school,
    principal,
    rows,
    telemetry_event,
    telemetry_over,
)
from tests.twins.lost_commit import LostCommit

from onefold.adapters.sql.outbox import SqlOutbox
from onefold.errors import Forbidden, InvalidInput, NotFound, StoreUnavailable
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Principal, Role
from onefold_server.domains.telemetry.events import FEATURES_COMPUTED
from onefold_server.domains.telemetry.rules import Profile
from onefold_server.domains.telemetry.service import Policy, TelemetryService
from onefold_server.domains.telemetry.tables import features as features_table
from onefold_server.domains.telemetry.tables import sessions
from onefold_server.installation import Installation

MINUTE = timedelta(minutes=1)


class Play:
    """One pupil's session, played event by event."""

    def __init__(self, onefold: Installation, caller: Principal, start: datetime) -> None:
        self.onefold, self.caller, self.start = onefold, caller, start
        self.student_id, self.id = uuid4(), uuid4()

    def event(self, event_type: str, minute: float = 0, **fields: Any) -> dict[str, Any]:
        at = self.start + minute * MINUTE
        whose = {"student_id": str(self.student_id), "session_id": str(self.id)}
        return telemetry_event(at, event_type=event_type, **whose, **fields)

    async def send(self, *played: tuple[str, float]) -> None:
        given = [self.event(event_type, minute) for event_type, minute in played]
        receipt = await self.onefold.telemetry.ingest(self.caller, given)
        assert receipt.applied == len(played)

    async def close(self) -> Mapping[str, Any]:
        return await self.onefold.telemetry.close_session(self.caller, self.id)

    async def row(self) -> Mapping[str, Any]:
        return await self.onefold.telemetry.session(self.caller, self.id)


@pytest.fixture
def play(onefold: Installation, school: School, clock: ManualClock) -> Play:
    """A session of the test's school that is about to begin."""
    return Play(onefold, school.service, clock.now() - timedelta(hours=1))


# --- born -----------------------------------------------------------------------------------


async def test_a_session_is_born_with_its_first_event(play: Play) -> None:
    """It has that event's pupil, and is open."""
    await play.send(("mission_start", 0))

    row = await play.row()
    assert (row["student_id"], row["event_count"]) == (play.student_id, 1)
    assert (row["closed_at"], row["revision"], row["features_metrics"]) == (None, 0, None)


async def test_a_session_spans_its_events_by_the_games_clock(play: Play) -> None:
    """In whatever order they come: play without a network is sent hours later."""
    await play.send(("choice_made", 20))
    await play.send(("mission_complete", 30), ("mission_start", 5))

    row = await play.row()
    assert row["started_at"] == play.start + 5 * MINUTE
    assert row["last_event_at"] == play.start + 30 * MINUTE
    assert row["event_count"] == 3


# --- closed ---------------------------------------------------------------------------------


async def test_closing_computes_the_features(play: Play, clock: ManualClock) -> None:
    """All of them, from all events, as revision 1."""
    await play.send(("mission_start", 0), ("failure", 2), ("retry", 3), ("recovery", 4))
    await play.send(("help_given", 5), ("pause", 6), ("mission_complete", 10), ("decision_made", 9))

    row = await play.close()

    assert (row["revision"], row["closed_by"], row["closed_at"]) == (1, "request", clock.now())
    assert row["features_metrics"] == {
        "task_completion_rate": 1.0,
        "time_efficiency": 0.3,
        "recovery_rate": 1.0,
        "distraction_resistance": 0.875,
        "retry_count": 1,
        "focus_duration": 10.0,
        "collaboration_indicators": 1,
        "leadership_indicators": 1,
        "event_count": 8,
        "session_duration_minutes": 10.0,
    }
    assert row["features_undefined"] == {}
    assert row["features_event_types"]["failure"] == 1
    assert row["features_profile"] == "standard"


async def test_what_is_undefined_is_null_with_a_reason(play: Play) -> None:
    """In the revision, beside the metrics."""
    await play.send(("choice_made", 0))

    row = await play.close()

    assert row["features_metrics"]["recovery_rate"] is None
    assert row["features_undefined"]["recovery_rate"] == "nothing failed"


async def test_the_compat_profile_gives_the_earlier_systems_defaults(play: Play) -> None:
    """And says so in the revision."""
    await play.send(("choice_made", 0))
    policy = Policy(profile=Profile.COMPAT)
    compat = TelemetryService(play.onefold.uow, clock=play.onefold.clock, policy=policy)

    row = await compat.close_session(play.caller, play.id)

    assert row["features_metrics"]["recovery_rate"] == 1.0
    assert (row["features_undefined"], row["features_profile"]) == ({}, "compat")


async def test_closing_twice_is_the_same_as_once(play: Play, clock: ManualClock) -> None:
    """Nothing in the answer moves."""
    await play.send(("mission_start", 0))
    first = await play.close()
    clock.advance(MINUTE)

    second = await play.close()

    assert second == first
    assert len(await rows(play.onefold, features_table)) == 1


async def test_ten_closers_at_once_close_it_once(play: Play) -> None:
    """Through two servers: one revision, one event, and all get the same answer."""
    await play.send(("mission_start", 0))

    async with another_server(play.onefold) as other:
        servers = [play.onefold, other] * 5
        answers = await asyncio.gather(
            *(server.telemetry.close_session(play.caller, play.id) for server in servers)
        )

    assert all(answer == answers[0] for answer in answers)
    assert len(await rows(play.onefold, features_table)) == 1
    assert len(await SqlOutbox(play.onefold.uow).unsent(limit=10)) == 1


@pytest.mark.parametrize("whose", ["unknown", "another pupil's", "another school's"])
async def test_only_ones_own_session_can_be_closed(play: Play, whose: str) -> None:
    """Any other does not exist, and stays open."""
    await play.send(("mission_start", 0))
    other = await new_school(play.onefold, "Other School")
    student = principal(play.caller.school_id, Role.STUDENT, uuid4())
    caller = {"another pupil's": student, "another school's": other.service}
    session_id = uuid4() if whose == "unknown" else play.id

    with pytest.raises(NotFound):
        await play.onefold.telemetry.close_session(caller.get(whose, play.caller), session_id)

    assert (await play.row())["closed_at"] is None


async def test_a_pupil_closes_its_own_session(play: Play) -> None:
    """The game does it with the pupil's key."""
    await play.send(("mission_start", 0))
    pupil = principal(play.caller.school_id, Role.STUDENT, play.student_id)

    row = await play.onefold.telemetry.close_session(pupil, play.id)

    assert row["revision"] == 1


async def test_a_teacher_closes_nothing(play: Play, school: School) -> None:
    """It is play data, too."""
    await play.send(("mission_start", 0))

    with pytest.raises(Forbidden):
        await play.onefold.telemetry.close_session(school.teacher, play.id)


# --- late -----------------------------------------------------------------------------------


async def test_a_late_event_counts_and_makes_a_new_revision(play: Play, clock: ManualClock) -> None:
    """The close stays when it was; the end of play moves to the last event."""
    await play.send(("mission_start", 5))
    closed = await play.close()
    clock.advance(MINUTE)

    await play.send(("mission_complete", 15), ("choice_made", 0))

    row = await play.row()
    assert (row["revision"], row["features_metrics"]["task_completion_rate"]) == (2, 1.0)
    assert row["features_metrics"]["focus_duration"] == 15.0
    assert row["features_computed_at"] == clock.now()
    assert row["started_at"] == play.start
    assert row["last_event_at"] == play.start + 15 * MINUTE
    assert (row["closed_at"], row["closed_by"]) == (closed["closed_at"], "request")


async def test_every_revision_stays_readable(play: Play) -> None:
    """The newest first."""
    await play.send(("mission_start", 0))
    await play.close()
    await play.send(("mission_complete", 1))

    found = await play.onefold.telemetry.revisions(play.caller, play.id)

    assert [row["revision"] for row in found] == [2, 1]
    assert [row["metrics"]["task_completion_rate"] for row in found] == [1.0, 0.0]


async def test_what_does_not_count_makes_no_revision(play: Play) -> None:
    """Neither a repeat nor a conflict nor an event that is refused."""
    first = play.event("mission_start")
    await play.onefold.telemetry.ingest(play.caller, [first])
    await play.close()
    conflict = first | {"data": {"level": 2}}
    foreign = play.event("retry") | {"student_id": str(uuid4())}

    receipt = await play.onefold.telemetry.ingest(play.caller, [first, conflict, foreign])

    assert (receipt.applied, receipt.repeated, len(receipt.refused)) == (0, 1, 2)
    assert (await play.row())["revision"] == 1


async def test_late_events_of_one_request_make_one_revision_a_session(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """However many they are; sessions that are open get none."""
    plays = [Play(onefold, school.service, clock.now() - 60 * MINUTE) for _ in range(3)]
    for each in plays:
        await each.send(("mission_start", 0))
    await plays[0].close()
    await plays[1].close()

    late = [each.event("choice_made", n) for each in plays for n in range(5)]
    await onefold.telemetry.ingest(school.service, late)

    assert [(await each.row())["revision"] for each in plays] == [2, 2, 0]


# --- idle -----------------------------------------------------------------------------------


async def test_a_session_is_over_half_an_hour_after_its_last_event(
    play: Play, clock: ManualClock
) -> None:
    """At the gap itself, not a moment before; an event makes it wait again."""
    await play.send(("mission_start", 0))
    sweep = play.onefold.telemetry.close_idle_sessions

    clock.set(play.start + 30 * MINUTE - timedelta(microseconds=1))
    early = await sweep()
    await play.send(("choice_made", 29))
    clock.set(play.start + 30 * MINUTE)
    moved = await sweep()
    clock.set(play.start + 59 * MINUTE)
    due = await sweep()

    assert (early, moved, due, await sweep()) == (0, 0, 1, 0)
    row = await play.row()
    assert (row["closed_by"], row["closed_at"], row["revision"]) == ("idle", clock.now(), 1)
    assert row["features_metrics"]["event_count"] == 2


async def test_the_idle_gap_can_be_set(play: Play) -> None:
    """Some games are slower."""
    await play.send(("mission_start", 0))
    policy = Policy(idle_gap=timedelta(hours=2))
    patient = TelemetryService(play.onefold.uow, clock=play.onefold.clock, policy=policy)

    assert await patient.close_idle_sessions() == 0


async def test_an_event_after_an_idle_close_makes_a_new_revision(play: Play) -> None:
    """As after any other close; the session stays closed."""
    await play.send(("mission_start", 0))
    await play.onefold.telemetry.close_idle_sessions()

    await play.send(("mission_complete", 40))

    row = await play.row()
    assert (row["closed_by"], row["revision"]) == ("idle", 2)


async def test_a_request_to_close_an_idly_closed_session_changes_nothing(play: Play) -> None:
    """It was closed already."""
    await play.send(("mission_start", 0))
    await play.onefold.telemetry.close_idle_sessions()

    assert (await play.close())["closed_by"] == "idle"


async def test_several_sweepers_at_once_close_each_session_once(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Of every school; together they close all there are."""
    other = await new_school(onefold, "Other School")
    hour_ago = clock.now() - 60 * MINUTE
    for each in (school, other):
        played = [telemetry_event(hour_ago) for _ in range(20)]
        await onefold.telemetry.ingest(each.service, played)

    async def sweep_all(server: Installation) -> int:
        closed = 0
        while more := await server.telemetry.close_idle_sessions(limit=3):
            closed += more
        return closed

    async with another_server(onefold) as second:
        closed = await asyncio.gather(*(sweep_all(s) for s in (onefold, second, onefold, second)))

    assert sum(closed) == 40
    assert {row["closed_by"] for row in await rows(onefold, sessions)} == {"idle"}
    assert {row["revision"] for row in await rows(onefold, features_table)} == {1}
    assert len(await SqlOutbox(onefold.uow).unsent(limit=100)) == 40


# --- told to others -------------------------------------------------------------------------


async def test_each_revision_is_published_once_and_in_order(play: Play) -> None:
    """With what it says, under the session as its key."""
    await play.send(("mission_start", 0))
    await play.close()
    await play.close()
    await play.send(("mission_complete", 1))

    sent = await SqlOutbox(play.onefold.uow).unsent(limit=10)

    assert [event.data["revision"] for event in sent] == [1, 2]
    assert {event.type for event in sent} == {FEATURES_COMPUTED}
    assert {event.key for event in sent} == {str(play.id)}
    newest = (await play.row())["features_metrics"]
    assert sent[1].data["metrics"] == newest
    assert sent[1].data["student_id"] == str(play.student_id)
    assert sent[1].data["school_id"] == str(play.caller.school_id)


@pytest.mark.parametrize("step", ["close", "late event", "idle sweep"])
async def test_a_lost_transaction_publishes_nothing(play: Play, step: str) -> None:
    """Neither revision nor event, and the session stands as before; again, and all is there."""
    await play.send(("mission_start", 0))
    if step == "late event":
        await play.close()
    before = await play.row()
    late = play.event("mission_complete", 1)

    async def act(server: Installation) -> None:
        if step == "close":
            await server.telemetry.close_session(play.caller, play.id)
        elif step == "late event":
            await server.telemetry.ingest(play.caller, [late])
        else:
            await server.telemetry.close_idle_sessions()

    with pytest.raises(StoreUnavailable):
        await act(telemetry_over(play.onefold, LostCommit(play.onefold.uow)))
    published = len(await SqlOutbox(play.onefold.uow).unsent(limit=10))
    after = await play.row()
    await act(play.onefold)

    assert after == before
    assert published == before["revision"]
    assert (await play.row())["revision"] == before["revision"] + 1
    assert len(await SqlOutbox(play.onefold.uow).unsent(limit=10)) == published + 1


# --- read -----------------------------------------------------------------------------------


async def test_a_sessions_events_come_in_the_order_of_their_time(play: Play) -> None:
    """Page by page, none twice and none left out, even at one instant."""
    await play.send(*[("choice_made", minute) for minute in (3, 1, 1, 1, 2, 0)])

    seen: list[Mapping[str, Any]] = []
    cursor = None
    for _ in range(3):
        page = await play.onefold.telemetry.session_events(
            play.caller, play.id, cursor=cursor, limit=2
        )
        seen += page.rows
        cursor = page.next_cursor

    assert cursor is None
    assert [(row["occurred_at"] - play.start) / MINUTE for row in seen] == [0, 1, 1, 1, 2, 3]
    assert len({row["event_id"] for row in seen}) == 6


async def test_sessions_come_newest_first_page_by_page(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Of the whole school, or of one pupil."""
    plays = [Play(onefold, school.service, clock.now() - n * MINUTE) for n in (3, 1, 2)]
    for each in plays:
        await each.send(("mission_start", 0))

    first = await onefold.telemetry.sessions(school.teacher, limit=2)
    rest = await onefold.telemetry.sessions(school.teacher, limit=2, cursor=first.next_cursor)
    one = await onefold.telemetry.sessions(school.teacher, student_id=plays[0].student_id)

    assert [row["id"] for row in first.rows] == [plays[1].id, plays[2].id]
    assert ([row["id"] for row in rest.rows], rest.next_cursor) == ([plays[0].id], None)
    assert [row["id"] for row in one.rows] == [plays[0].id]


async def test_a_pupil_sees_its_own_sessions_alone(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Without naming itself; another pupil does not exist for it."""
    mine, theirs = (Play(onefold, school.service, clock.now()) for _ in range(2))
    await mine.send(("mission_start", 0))
    await theirs.send(("mission_start", 0))
    pupil = principal(school.id, Role.STUDENT, mine.student_id)

    found = await onefold.telemetry.sessions(pupil)

    assert [row["id"] for row in found.rows] == [mine.id]
    with pytest.raises(NotFound):
        await onefold.telemetry.sessions(pupil, student_id=theirs.student_id)
    for read in (onefold.telemetry.session, onefold.telemetry.revisions):
        with pytest.raises(NotFound):
            await read(pupil, theirs.id)


async def test_a_pupil_nobody_knows_has_no_sessions_to_list(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Not found is told apart from has not played yet."""
    with pytest.raises(NotFound):
        await onefold.telemetry.sessions(school.teacher, student_id=uuid4())


async def test_closed_sessions_can_be_listed_alone(play: Play, school: School) -> None:
    """Open ones have no features yet."""
    await play.send(("mission_start", 0))

    before = await play.onefold.telemetry.sessions(school.teacher, closed_only=True)
    await play.close()
    after = await play.onefold.telemetry.sessions(school.teacher, closed_only=True)

    assert (len(before.rows), len(after.rows)) == (0, 1)


@pytest.mark.parametrize("limit", [0, 1001, -1])
async def test_a_page_has_1_to_1000_rows(onefold: Installation, school: School, limit: int) -> None:
    """The bound holds for every caller, not for HTTP alone."""
    with pytest.raises(InvalidInput, match="limit"):
        await onefold.telemetry.sessions(school.teacher, limit=limit)


async def test_totals_count_the_school(play: Play, school: School) -> None:
    """Sessions, open ones, pupils and events."""
    await play.send(("mission_start", 0), ("choice_made", 1))
    again = Play(play.onefold, play.caller, play.start)
    again.student_id = play.student_id
    await again.send(("mission_start", 0))
    await play.close()

    totals = await play.onefold.telemetry.totals(school.teacher)

    assert totals == {"sessions": 2, "open_sessions": 1, "students": 1, "events": 3}


async def test_reading_needs_the_scope(play: Play) -> None:
    """Deny by default, in the use case itself."""
    await play.send(("mission_start", 0))
    school_id = play.caller.school_id
    mute = Principal(school_id=school_id, role=Role.SERVICE, scopes=frozenset(), name="mute")
    telemetry = play.onefold.telemetry

    for call in (
        telemetry.session(mute, play.id),
        telemetry.session_events(mute, play.id),
        telemetry.revisions(mute, play.id),
        telemetry.sessions(mute),
        telemetry.totals(mute),
        telemetry.batch_status(mute, UUID(int=1)),
    ):
        with pytest.raises(Forbidden, match="telemetry:read"):
            await call
