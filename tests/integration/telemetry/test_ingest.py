"""Which events count, on SQLite and PostgreSQL."""

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.support import (
    School,
    WatchedUnitOfWork,
    leave,
    new_school,
    principal,
    rows,
    telemetry_event,
    telemetry_over,
)

from onefold.errors import Forbidden, InvalidInput
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role
from onefold_server.domains.directory.tables import enrolments, students
from onefold_server.domains.telemetry.intake import Receipt
from onefold_server.domains.telemetry.tables import batches, events, sessions
from onefold_server.installation import Installation


def counts(receipt: Receipt) -> tuple[int, int, list[tuple[int, str]]]:
    return receipt.applied, receipt.repeated, [(r.index, r.code) for r in receipt.refused]


# --- once -----------------------------------------------------------------------------------


async def test_an_event_counts_once_however_often_it_is_sent(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A repeated event is reported as repeated and stored once."""
    event = telemetry_event(clock.now())

    first = await onefold.telemetry.ingest(school.service, [event, event])
    second = await onefold.telemetry.ingest(school.service, [event])

    assert counts(first) == (1, 1, [])
    assert counts(second) == (0, 1, [])
    assert len(await rows(onefold, events)) == 1


async def test_an_event_is_kept_as_it_was_sent(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """With where it came from and when, in UTC."""
    batch_id = uuid4()
    event = telemetry_event(
        clock.now(),
        timestamp="2026-01-01T11:59:59.123456+02:00",
        data={"學": [1, 2.5, None, True, {"a": "😀"}], "big": 10**39},
        mission_id="harbour",
        game_version="1.4.0",
    )

    await onefold.telemetry.ingest(
        school.service, [event], batch_id=batch_id, client_version="up/2"
    )

    (row,) = await rows(onefold, events)
    del row["fingerprint"]
    sent = {name: UUID(event[name]) for name in ("event_id", "student_id", "session_id")}
    assert row == sent | {
        "school_id": school.id,
        "event_type": "mission_start",
        "occurred_at": clock.now() - timedelta(hours=2, seconds=1) + timedelta(microseconds=123456),
        "received_at": clock.now(),
        "batch_id": batch_id,
        "mission_id": "harbour",
        "game_version": "1.4.0",
        "client_version": "up/2",
        "data": event["data"],
    }


async def test_a_repeat_may_be_written_otherwise(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Another offset, another order of members: the same event."""
    event = telemetry_event(clock.now(), timestamp="2026-01-01T12:00:00Z", data={"a": 1, "b": 2})
    again = event | {
        "event_id": event["event_id"].upper(),
        "timestamp": "2026-01-01T13:00:00+01:00",
        "data": {"b": 2.0, "a": 1},
    }

    await onefold.telemetry.ingest(school.service, [event])
    second = await onefold.telemetry.ingest(school.service, [again])

    assert counts(second) == (0, 1, [])


# --- conflicts ------------------------------------------------------------------------------


async def test_an_id_used_for_other_content_is_a_conflict_and_leaves_nothing(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Neither a session nor a pupil is made for an event that does not count."""
    event = telemetry_event(clock.now())
    other = telemetry_event(clock.now(), event_id=event["event_id"])
    await onefold.telemetry.ingest(school.service, [event])

    receipt = await onefold.telemetry.ingest(school.service, [other])

    assert counts(receipt) == (0, 0, [(0, "conflict")])
    (kept,) = await rows(onefold, sessions)
    (pupil,) = await rows(onefold, students)
    assert (str(kept["id"]), str(pupil["id"])) == (event["session_id"], event["student_id"])


async def test_of_one_id_twice_in_a_request_the_first_counts(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Same content repeats it, other content is a conflict that leaves nothing behind."""
    event = telemetry_event(clock.now())
    other = telemetry_event(clock.now(), event_id=event["event_id"])

    receipt = await onefold.telemetry.ingest(school.service, [event, other, event])

    assert counts(receipt) == (1, 1, [(1, "conflict")])
    assert [str(row["id"]) for row in await rows(onefold, sessions)] == [event["session_id"]]
    assert [str(row["id"]) for row in await rows(onefold, students)] == [event["student_id"]]
    assert len(await rows(onefold, enrolments)) == 1


@pytest.mark.parametrize("flaw", [{"data": {"a": float("nan")}}, {"session_id": "taken"}])
async def test_when_the_first_of_an_id_is_refused_the_second_counts(
    onefold: Installation, school: School, clock: ManualClock, flaw: dict[str, Any]
) -> None:
    """A refused event does not use up its id."""
    taken = telemetry_event(clock.now())
    await onefold.telemetry.ingest(school.service, [taken])
    good = telemetry_event(clock.now())
    bad = good | {n: taken["session_id"] if v == "taken" else v for n, v in flaw.items()}

    receipt = await onefold.telemetry.ingest(school.service, [bad, good])

    assert (receipt.applied, [r.index for r in receipt.refused]) == (1, [0])
    assert {str(row["event_id"]) for row in await rows(onefold, events)} == {
        taken["event_id"],
        good["event_id"],
    }


async def test_a_conflicting_repeat_does_not_take_a_session_from_another_pupil(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It stands first in the request, yet opens nothing: it does not count."""
    event = telemetry_event(clock.now())
    repeat = telemetry_event(clock.now(), event_id=event["event_id"])
    theirs = telemetry_event(clock.now(), session_id=repeat["session_id"])

    receipt = await onefold.telemetry.ingest(school.service, [event, repeat, theirs])

    assert counts(receipt) == (2, 0, [(1, "conflict")])


async def test_a_session_has_no_times_of_an_event_that_does_not_count(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A conflicting repeat would have made it begin earlier."""
    event = telemetry_event(clock.now())
    played = {"student_id": event["student_id"], "session_id": str(uuid4())}
    hour_ago = (clock.now() - timedelta(hours=1)).isoformat()
    repeat = telemetry_event(clock.now(), event_id=event["event_id"], timestamp=hour_ago, **played)
    other = telemetry_event(clock.now(), **played)

    await onefold.telemetry.ingest(school.service, [event, repeat, other])

    times = {row["started_at"] for row in await rows(onefold, sessions)}
    assert times == {clock.now()}


# --- whose ----------------------------------------------------------------------------------


async def test_a_session_takes_events_of_its_own_pupil_alone(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """And an unknown pupil who tries is not enrolled for it."""
    event = telemetry_event(clock.now())
    await onefold.telemetry.ingest(school.service, [event])
    foreign = telemetry_event(clock.now(), session_id=event["session_id"])

    receipt = await onefold.telemetry.ingest(school.service, [foreign])

    assert counts(receipt) == (0, 0, [(0, "session_of_another_student")])
    assert len(await rows(onefold, students)) == 1


async def test_a_new_session_is_the_pupils_whose_event_comes_first(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Two pupils in one request do not share it."""
    session_id = str(uuid4())
    pair = [telemetry_event(clock.now(), session_id=session_id) for _ in range(2)]

    receipt = await onefold.telemetry.ingest(school.service, pair)

    assert counts(receipt) == (1, 0, [(1, "session_of_another_student")])
    assert [str(row["id"]) for row in await rows(onefold, students)] == [pair[0]["student_id"]]


async def test_an_event_of_an_unknown_pupil_is_refused(
    onefold: Installation, clock: ManualClock
) -> None:
    """Unless the school wants unknown pupils enrolled."""
    strict = await new_school(onefold, "Strict School", auto_enrol=False)

    receipt = await onefold.telemetry.ingest(strict.service, [telemetry_event(clock.now())])

    assert counts(receipt) == (0, 0, [(0, "unknown_student")])
    assert await rows(onefold, students) == []


async def test_an_unknown_pupil_is_enrolled_where_the_school_wants_it(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Once, and then known."""
    event = telemetry_event(clock.now())

    await onefold.telemetry.ingest(school.service, [event])
    await onefold.telemetry.ingest(
        school.service, [telemetry_event(clock.now(), student_id=event["student_id"])]
    )

    (enrolment,) = await rows(onefold, enrolments)
    assert (str(enrolment["student_id"]), enrolment["left_at"]) == (event["student_id"], None)


async def test_who_has_left_stays_out(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Even where unknown pupils are enrolled; others in the request count."""
    event = telemetry_event(clock.now())
    await onefold.telemetry.ingest(school.service, [event])
    await leave(onefold, school.id, UUID(event["student_id"]))
    late = telemetry_event(clock.now(), student_id=event["student_id"])

    receipt = await onefold.telemetry.ingest(school.service, [late, telemetry_event(clock.now())])

    assert counts(receipt) == (1, 0, [(0, "unknown_student")])


async def test_a_pupils_key_writes_for_that_pupil_alone(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A pupil cannot play for another."""
    mine = telemetry_event(clock.now())
    caller = principal(school.id, Role.STUDENT, UUID(mine["student_id"]))

    receipt = await onefold.telemetry.ingest(caller, [telemetry_event(clock.now()), mine])

    assert counts(receipt) == (1, 0, [(0, "not_your_student")])


async def test_a_teacher_cannot_write_play_data(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """The scope is missing, and nothing is recorded."""
    with pytest.raises(Forbidden):
        await onefold.telemetry.ingest(school.teacher, [telemetry_event(clock.now())])

    assert await rows(onefold, events) == []


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1001])
async def test_a_request_holds_1_to_1000_events(
    onefold: Installation, school: School, number: int
) -> None:
    """The bound is checked before anything is read."""
    with pytest.raises(InvalidInput, match="1 to 1000"):
        await onefold.telemetry.ingest(school.service, [None] * number, batch_id=uuid4())

    assert await rows(onefold, batches) == []


def deep(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels):
        inner = {"a": inner}
    return inner


POISON: list[dict[str, Any]] = [
    {"data": {"a": float("nan")}},
    {"data": {"a": float("inf")}},
    {"data": {"a": "\0"}},
    {"data": {"\0": 1}},
    {"data": {"a": "\ud800"}},
    {"data": {"\ud800": 1}},
    {"data": {"a": 10**700}},
    {"data": {"a": 10**5000}},
    {"data": deep(21)},
    {"data": deep(5000)},
    {"data": {"a": "x" * 10_240}},
    {"data": None},
    {"mission_id": "\0"},
    {"mission_id": "\ud800"},
    {"mission_id": "x" * 101},
    {"game_version": "\0"},
    {"event_type": "\0"},
    {"event_type": "\ud800"},
    {"event_id": "\0"},
    {"event_id": "\ud800"},
    {"event_id": "x" * 100_000},
    {"timestamp": "\ud800"},
    {"timestamp": "0001-01-01T00:00:00Z"},
    {"timestamp": "9999-12-31T23:59:59-10:00"},
    {"timestamp": "2026-01-01T12:00:00"},
    {"\0": 1},
    {"\ud800": 1},
    {f"field_{n}": n for n in range(10_000)},
]


async def test_a_bad_event_costs_itself_alone(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Whatever is in it, the good ones count, and the verdicts can be stored and read."""
    good = [telemetry_event(clock.now()) for _ in POISON]
    bad = [telemetry_event(clock.now()) | flaw for flaw in POISON]
    mixed = [event for pair in zip(good, bad, strict=True) for event in pair]
    batch_id = uuid4()

    receipt = await onefold.telemetry.ingest(
        school.service, [*mixed, None, [], "x"], batch_id=batch_id
    )

    status = await onefold.telemetry.batch_status(school.service, batch_id)
    assert receipt.applied == len(good) == len(await rows(onefold, events))
    assert [r.index for r in receipt.refused] == [*range(1, 2 * len(bad), 2), 56, 57, 58]
    assert [r["code"] for r in status["refused"]] == [r.code for r in receipt.refused]
    assert all(len(str(refusal)) < 1000 for refusal in status["refused"])


# --- cost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 100, 1000])
async def test_the_number_of_statements_does_not_depend_on_the_number_of_events(
    onefold: Installation, school: School, clock: ManualClock, number: int
) -> None:
    """Ten for new pupils and sessions, seven for known ones, eleven for late events."""
    calls: Counter[str] = Counter()

    async def count(name: str, _: object) -> None:
        calls[name] += 1

    counted = telemetry_over(onefold, WatchedUnitOfWork(onefold.uow, count))
    pupils = [(str(uuid4()), str(uuid4())) for _ in range(10)]

    async def statements() -> int:
        calls.clear()
        played = [
            telemetry_event(clock.now(), student_id=student, session_id=session)
            for student, session in (pupils[n % 10] for n in range(number))
        ]
        receipt = await counted.telemetry.ingest(school.service, played, batch_id=uuid4())
        assert receipt.applied == number
        return calls.total()

    fresh = await statements()
    known = await statements()
    for _, session in pupils[:number]:
        await onefold.telemetry.close_session(school.service, UUID(session))
    late = await statements()

    assert (fresh, known, late) == (10, 7, 11)
