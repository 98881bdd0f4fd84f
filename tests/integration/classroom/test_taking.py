"""Suggestions come in: what is stored of them, what is said of the rest. No broker."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.support import School, new_school
from tests.support_classroom import Room, counted_statements, essay, matches, new_room

from onefold.core.envelope import Event
from onefold.errors import Conflict, Forbidden, InvalidEvent, InvalidInput, NotFound
from onefold.testing.clock import ManualClock
from onefold_server.domains.classroom import events
from onefold_server.installation import Installation


async def test_the_best_pupil_of_the_class_is_suggested(room: Room) -> None:
    """Whatever the order of the event; the others stay visible as alternatives."""
    anna, bjorn, marta, *_ = room.pupils

    batch_id = await room.batch(essay((bjorn, 0.3), (anna, 0.97), (marta, 0.5)))

    (row,) = (await room.essays(batch_id)).values()
    assert (row["suggested_student_id"], row["score"]) == (anna, 0.97)
    assert [other["student_id"] for other in row["alternatives"]] == [str(marta), str(bjorn)]
    assert (row["status"], row["ambiguous"], row["student_id"]) == (
        "pending_validation",
        False,
        None,
    )


async def test_a_tie_is_kept_whole_and_is_ambiguous(room: Room) -> None:
    """Both pupils are shown, and the deadline will confirm neither."""
    anna, bjorn, *_ = room.pupils

    taken = await room.take(event := room.event([essay((anna, 0.9), (bjorn, 0.9))]))

    (row,) = (await room.essays(UUID(event.data["batch_id"]))).values()
    assert row["ambiguous"] is True
    assert row["suggested_student_id"] == anna
    assert [other["student_id"] for other in row["alternatives"]] == [str(bjorn)]
    assert taken.ambiguous == 1


async def test_bad_ids_and_scores_are_dropped_singly(room: Room) -> None:
    """Each with its reason; the good ones beside them count."""
    anna, bjorn, *_ = room.pupils
    good = essay(("not-an-id", 0.99), (bjorn, 1.5), (bjorn, -0.1), (anna, 0.8))
    seven: Any = 7
    wrong_text = essay((anna, 0.9)) | {"suggestions": "anna"}

    taken = await room.take(
        room.event([essay((anna, 0.9), essay_id="seven"), good, seven, wrong_text, good])
    )

    reasons = [dropped.reason for dropped in taken.invalid]
    assert sorted(reasons) == [
        "essay_id_not_a_uuid",
        "not_an_object",
        "repeated_in_batch",
        "score_not_between_0_and_1",
        "score_not_between_0_and_1",
        "score_not_between_0_and_1",
        "score_not_between_0_and_1",
        "student_id_not_a_uuid",
        "student_id_not_a_uuid",
        "suggestions_not_a_list",
    ]
    assert (taken.stored, taken.no_match) == (2, 1)
    assert (await room.essays())[good["essay_id"]]["suggested_student_id"] == anna


async def test_strangers_are_named_and_nobody_else_is_lost(
    room: Room, onefold: Installation, school: School
) -> None:
    """A pupil of nowhere and one of another class are told apart; the essay has no match."""
    other = await new_room(onefold, school, pupils=[("Eva", "Ek")])
    nobody = uuid4()

    taken = await room.take(
        room.event([essay((nobody, 0.9), (other.pupils[0], 0.9)), essay((room.pupils[0], 0.9))])
    )

    assert [dropped.value for dropped in taken.unknown_students] == [str(nobody)]
    assert [dropped.value for dropped in taken.not_enrolled] == [str(other.pupils[0])]
    assert (taken.stored, taken.no_match) == (2, 1)


async def test_a_batch_without_matches_is_stored_whole(room: Room) -> None:
    """Every essay has a row, for the teacher to decide."""
    reason = "No matches found"

    batch_id = await room.batch(essay(), essay(no_match_reason=reason))

    found = list((await room.essays(batch_id)).values())
    assert [row["status"] for row in found] == ["no_match"] * 2
    assert {row["note"] for row in found} == {None, reason}
    assert (await room.batch_row(batch_id))["closed_at"] is None


async def test_an_empty_batch_is_over_at_once(room: Room) -> None:
    """It is published with nothing in it: whoever waits for it can go on."""
    batch_id = await room.batch()

    (fact,) = await room.confirmed(batch_id)
    assert fact.data["associations"] == []
    assert (await room.batch_row(batch_id))["closed_at"] is not None


async def test_the_teacher_is_told_once_a_batch(room: Room) -> None:
    """In the transaction that stores it, with the deadline."""
    event = room.event([essay((room.pupils[0], 0.9)), essay()])

    await room.take(event)
    await room.take(event)

    (fact,) = await room.facts(events.NOTIFIED)
    assert fact.data["teacher_id"] == room.teacher.name
    assert fact.data["payload"]["stored"] == 2
    assert fact.data["action_required"] is True


async def test_the_same_event_counts_once(room: Room) -> None:
    """Sent again it changes nothing and says so; with other content it is refused."""
    event = room.event([essay((room.pupils[0], 0.9))])
    await room.take(event)

    again = await room.take(event)
    other = Event(
        id=event.id,
        type=event.type,
        source=event.source,
        occurred_at=event.occurred_at,
        data=event.data | {"match_results": []},
    )

    assert again.repeated
    with pytest.raises(Conflict):
        await room.take(other)
    assert len(await room.essays()) == 1


async def test_an_associated_essay_is_reported_and_costs_no_other(room: Room) -> None:
    """It stays in its first batch."""
    shared = uuid4()
    first = await room.batch(essay((room.pupils[0], 0.9), essay_id=shared))

    taken = await room.take(
        room.event([essay((room.pupils[1], 0.95), essay_id=shared), essay()], at=None)
    )

    assert (taken.stored, taken.already_associated) == (1, 1)
    assert (await room.essays())[str(shared)]["batch_id"] == first


async def test_a_later_better_suggestion_replaces_an_open_one(
    room: Room, clock: ManualClock
) -> None:
    """Of the same source; an earlier or a worse one, or another source's, does not."""
    anna, bjorn, *_ = room.pupils
    id_ = uuid4()
    batch_id = await room.batch(essay((anna, 0.6), essay_id=id_))
    before = clock.now()
    clock.advance(timedelta(minutes=1))

    stale = await room.take(room.event([essay((bjorn, 0.9), essay_id=id_)], at=before))
    worse = await room.take(room.event([essay((bjorn, 0.5), essay_id=id_)]))
    data = room.event([essay((bjorn, 0.9), essay_id=id_)]).data
    foreign = await room.take(matches(data, at=clock.now(), source="another"))
    better = await room.take(room.event([essay((bjorn, 0.9), essay_id=id_)]))

    assert [t.improved for t in (stale, worse, foreign, better)] == [0, 0, 0, 1]
    row = (await room.essays())[str(id_)]
    assert (row["suggested_student_id"], row["score"]) == (bjorn, 0.9)
    assert (row["batch_id"], row["revision"]) == (batch_id, 2)


async def test_two_overlapping_batches_at_once_give_the_union(
    room: Room, onefold: Installation
) -> None:
    """Fifty times: nothing is lost, nothing fails, whoever comes first."""
    for _ in range(50):
        ids = [uuid4() for _ in range(9)]
        one = [essay((room.pupils[0], 0.9), essay_id=id_) for id_ in ids[:5]]
        two = [essay((room.pupils[0], 0.9), essay_id=id_) for id_ in ids[4:]]

        taken = await asyncio.gather(*(room.take(room.event(part)) for part in (one, two)))

        assert sum(t.stored for t in taken) == 9
        assert sum(t.already_associated for t in taken) == 1
        assert {str(id_) for id_ in ids} <= (await room.essays()).keys()


async def test_forty_batches_at_once_all_complete(room: Room) -> None:
    """None waits for a second connection while it holds one."""
    parts = [[essay((room.pupils[n % 5], 0.9)) for _ in range(3)] for n in range(40)]

    taken = await asyncio.gather(*(room.take(room.event(part)) for part in parts))

    assert [t.stored for t in taken] == [3] * 40
    assert len(await room.essays()) == 120


@pytest.mark.parametrize("count", [1, 2000])
async def test_statements_do_not_grow_with_the_batch(
    room: Room, onefold: Installation, count: int
) -> None:
    """One transaction of at most eight statements, begin and commit apart; so for a repeat."""
    essays = [essay((room.pupils[n % 5], 0.9), (uuid4(), 0.5)) for n in range(count)]

    async with counted_statements(onefold) as first:
        await room.take(room.event(essays))
    async with counted_statements(onefold) as overlap:
        await room.take(room.event([*essays, essay()]))

    for seen in (first, overlap):
        told = [s for s in seen if s.split()[0] in {"INSERT", "SELECT", "UPDATE", "DELETE"}]
        assert 4 <= len(told) <= 8
    assert len(await room.essays()) == count + 1


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"batch_id": "single-essay-batch", "class_id": "unknown", "match_results": []},
        {"batch_id": str(UUID(int=1)), "class_id": str(UUID(int=2)), "match_results": "none"},
        {"batch_id": str(UUID(int=1)), "match_results": []},
    ],
    ids=["nothing", "no ids", "no list", "no class"],
)
async def test_what_cannot_be_read_is_refused_whole(room: Room, data: object) -> None:
    """Nothing is recorded, the inbox included."""
    event = matches(data, at=room.onefold.clock.now())

    with pytest.raises(InvalidEvent):
        await room.onefold.classroom.batches.post(room.service, UUID(int=1), event)

    assert await room.essays() == {}


async def test_a_class_of_nobody_or_of_another_school_is_not_found(
    room: Room, onefold: Installation
) -> None:
    """The event is refused and can be sent again when the class is there."""
    elsewhere = await new_room(onefold, await new_school(onefold, "Elsewhere"))
    nowhere = room.event([essay()], class_id=str(uuid4()))
    foreign = elsewhere.event([essay()])

    for event in (nowhere, foreign):
        with pytest.raises(NotFound):
            await room.take(event)


async def test_a_batch_stays_in_its_class(
    room: Room, onefold: Installation, school: School
) -> None:
    """The same batch for another class is a conflict, whoever's class it is."""
    other = await new_room(onefold, school, pupils=[])
    batch_id = await room.batch(essay())

    with pytest.raises(Conflict):
        await other.take(other.event([essay()], batch_id=str(batch_id)))


async def test_essays_that_come_late_reopen_their_batch(room: Room, clock: ManualClock) -> None:
    """It is published again, under an id of its own, once they are decided."""
    batch_id = await room.batch()
    clock.advance(timedelta(minutes=1))

    await room.take(room.event([essay((room.pupils[0], 0.9))], batch_id=str(batch_id)))
    reopened = await room.batch_row(batch_id)
    clock.advance(timedelta(hours=25))
    await room.onefold.classroom.batches.close_due()

    assert (reopened["closed_at"], reopened["revision"]) == (None, 2)
    first, second = await room.confirmed(batch_id)
    assert first.id != second.id
    assert len(second.data["associations"]) == 1


async def test_only_services_suggest(room: Room) -> None:
    """A teacher's key does not; nor does an event count for a batch that is not its own."""
    event = room.event([essay()])

    with pytest.raises(Forbidden):
        await room.onefold.classroom.batches.post(room.teacher, UUID(event.data["batch_id"]), event)
    with pytest.raises(InvalidInput):
        await room.onefold.classroom.batches.post(room.service, uuid4(), event)
