"""Teachers decide, deadlines decide the rest, and the end goes out once. No broker."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from tests.support import School, another_server, new_school, principal
from tests.support_classroom import Room, essay, new_room, watched

from onefold.errors import AlreadyDecided, Forbidden, InvalidInput, NotFound, StoreFailed
from onefold.testing.clock import ManualClock
from onefold_server.domains.classroom import events
from onefold_server.domains.classroom.rules import Decision
from onefold_server.domains.directory.rules import Role
from onefold_server.installation import Installation

DAY = timedelta(hours=24)


def confirm(id_: UUID, student: UUID | None = None) -> Decision:
    return Decision(essay_id=id_, confirmed=True, student_id=student)


def reject(id_: UUID) -> Decision:
    return Decision(essay_id=id_, confirmed=False)


async def three(room: Room) -> tuple[UUID, list[UUID]]:
    """A batch of a sure essay, an unsure one, and one without a match."""
    ids = [uuid4() for _ in range(3)]
    anna, bjorn, *_ = room.pupils
    batch_id = await room.batch(
        essay((anna, 0.95), essay_id=ids[0]),
        essay((bjorn, 0.42), essay_id=ids[1]),
        essay(essay_id=ids[2]),
    )
    return batch_id, list(ids)


async def test_the_last_decision_publishes_the_batch_once(room: Room) -> None:
    """Rejected essays are in it; what was suggested stays beside what was decided."""
    batch_id, (one, two, three_) = await three(room)
    marta = room.pupils[2]
    decide = room.onefold.classroom.batches.decide

    first = await decide(room.teacher, batch_id, [confirm(one), confirm(two, marta)])
    early = await room.confirmed(batch_id)
    last = await decide(room.teacher, batch_id, [reject(three_)])

    assert (first["undecided"], first["closed"], early) == (1, False, [])
    assert (last["undecided"], last["closed"]) == (0, True)
    (fact,) = await room.confirmed(batch_id)
    assert {a["essay_id"]: (a["student_id"], a["status"]) for a in fact.data["associations"]} == {
        str(one): (str(room.pupils[0]), "confirmed"),
        str(two): (str(marta), "confirmed"),
        str(three_): (None, "rejected"),
    }
    assert {a["validation_method"] for a in fact.data["associations"]} == {"human"}
    row = (await room.essays())[str(two)]
    assert (row["suggested_student_id"], row["score"]) == (room.pupils[1], 0.42)
    assert len(await room.facts(events.DECIDED)) == 2


async def test_the_same_decision_again_is_harmless(room: Room) -> None:
    """Also after the pupil has left the class."""
    batch_id, (one, *_) = await three(room)
    decide = room.onefold.classroom.batches.decide
    await decide(room.teacher, batch_id, [confirm(one)])
    await room.onefold.classroom.classes.withdraw(room.teacher, room.id, room.pupils[0])

    again = await decide(room.teacher, batch_id, [confirm(one)])

    assert (again["decided"], again["repeated"]) == (0, 1)
    assert len(await room.facts(events.DECIDED)) == 1


async def test_another_second_decision_says_who_was_first(room: Room) -> None:
    """And when; nothing of the call is recorded."""
    batch_id, (one, two, _) = await three(room)
    decide = room.onefold.classroom.batches.decide
    await decide(room.teacher, batch_id, [confirm(one)])

    with pytest.raises(AlreadyDecided, match="test teacher at 2026"):
        await decide(room.school.admin, batch_id, [confirm(two), reject(one)])

    assert (await room.essays())[str(two)]["method"] is None


async def test_unknown_essays_and_pupils_are_named(
    room: Room, onefold: Installation, school: School
) -> None:
    """Each of them, in one answer; nobody of another class can be chosen."""
    batch_id, (one, two, three_) = await three(room)
    other = await new_room(onefold, school, pupils=[("Eva", "Ek")])
    decide = room.onefold.classroom.batches.decide
    wrong = [
        [confirm(uuid4()), confirm(uuid4())],
        [confirm(one, other.pupils[0]), confirm(two, uuid4())],
        [confirm(three_)],
        [reject(one), reject(one)],
        [Decision(essay_id=one, confirmed=False, student_id=room.pupils[0])],
    ]

    named = []
    for decisions in wrong:
        with pytest.raises(InvalidInput) as refused:
            await decide(room.teacher, batch_id, decisions)
        named.append([problem.code for problem in refused.value.problems])

    assert named == [["unknown"] * 2, ["unknown"] * 2, ["missing"], ["twice"], ["rejected"]]
    assert {row["method"] for row in (await room.essays()).values()} == {None}


async def test_a_batch_exists_for_its_teacher_and_the_admins_alone(
    room: Room, onefold: Installation, school: School
) -> None:
    """For another teacher, and for every role of another school, it is not found."""
    batch_id, _ = await three(room)
    elsewhere = await new_school(onefold, "Elsewhere")
    colleague = principal(school.id, Role.TEACHER)
    colleague = type(colleague)(
        school_id=school.id, role=Role.TEACHER, scopes=colleague.scopes, name="a colleague"
    )
    batches = onefold.classroom.batches

    for caller in (colleague, elsewhere.teacher, elsewhere.admin):
        with pytest.raises(NotFound):
            await batches.batch(caller, batch_id)
        with pytest.raises(NotFound):
            await batches.decide(caller, batch_id, [])
    with pytest.raises(Forbidden):
        await batches.decide(room.service, batch_id, [])
    assert (await batches.batch(school.admin, batch_id))["batch_id"] == batch_id


async def test_a_teacher_sees_real_scores_names_and_reasons(room: Room) -> None:
    """Never a constant: a guess of 0.42 is shown as one. Pages end where the next begins."""
    batch_id, ids = await three(room)
    look = room.onefold.classroom.batches.batch

    first = await look(room.teacher, batch_id, limit=2)
    rest = await look(room.teacher, batch_id, limit=2, cursor=first["next_cursor"])

    shown = {row["essay_id"]: row for row in first["essays"] + rest["essays"]}
    assert shown.keys() == set(ids)
    assert shown[ids[1]]["suggested"] == {
        "student_id": room.pupils[1],
        "name": "Björn Svartling",
        "score": 0.42,
        "reasons": ["name_exact"],
    }
    assert (rest["next_cursor"], first["undecided"]) == (None, 3)


async def test_the_deadline_confirms_what_is_sure_and_nothing_else(
    room: Room, clock: ManualClock
) -> None:
    """Ties and low scores are left for the teacher, who may still decide; it goes out once."""
    anna, bjorn, *_ = room.pupils
    sure, edge, low, tied = (uuid4() for _ in range(4))
    batch_id = await room.batch(
        essay((anna, 0.95), essay_id=sure),
        essay((anna, 0.7), essay_id=edge),
        essay((anna, 0.69), essay_id=low),
        essay((anna, 0.9), (bjorn, 0.9), essay_id=tied),
    )
    batches = room.onefold.classroom.batches

    clock.advance(DAY - timedelta(seconds=1))
    assert not await batches.close_due()
    clock.advance(timedelta(seconds=1))
    assert await batches.close_due()
    assert not await batches.close_due()

    found = {id_: (row["status"], row["student_id"]) for id_, row in (await room.essays()).items()}
    assert found == {
        str(sure): ("timeout_confirmed", anna),
        str(edge): ("timeout_confirmed", anna),
        str(low): ("no_match", None),
        str(tied): ("no_match", None),
    }
    await batches.decide(room.teacher, batch_id, [confirm(low)])
    (fact,) = await room.confirmed(batch_id)
    assert fact.data["timeout_triggered"] is True
    assert fact.data["validation_summary"] == {
        "total_associations": 4,
        "confirmed": 2,
        "rejected": 0,
        "no_match": 2,
    }
    assert (await room.essays())[str(low)]["status"] == "confirmed"


async def test_the_deadline_leaves_decisions_alone(room: Room, clock: ManualClock) -> None:
    """A rejected pupil is not confirmed a day later."""
    batch_id, (one, *_) = await three(room)
    await room.onefold.classroom.batches.decide(room.teacher, batch_id, [reject(one)])
    clock.advance(DAY)

    await room.onefold.classroom.batches.close_due()

    assert (await room.essays())[str(one)]["status"] == "rejected"


async def test_any_number_of_workers_close_each_batch_once(
    room: Room, onefold: Installation, clock: ManualClock
) -> None:
    """Two processes, twenty batches: twenty events."""
    ids = [await room.batch(essay((room.pupils[0], 0.9))) for _ in range(20)]
    clock.advance(DAY)

    async def work(one: Installation) -> None:
        while await one.classroom.batches.close_due():
            pass

    async with another_server(onefold) as other:
        await asyncio.gather(*(work(one) for one in (onefold, other, onefold, other)))

    assert [len(await room.confirmed(id_)) for id_ in ids] == [1] * 20


async def test_a_poisoned_batch_holds_up_no_other(
    room: Room, onefold: Installation, clock: ManualClock
) -> None:
    """It is tried later and later, and closed once it can be."""
    poisoned = await room.batch(essay((room.pupils[0], 0.9)))
    clock.advance(timedelta(seconds=1))
    healthy = await room.batch(essay((room.pupils[1], 0.9)))
    clock.advance(DAY)
    touched: list[object] = []

    async def fail(name: str, args: tuple[object, ...]) -> None:
        if name == "publish" and str(poisoned) in str(args):
            touched.append(args)
            raise StoreFailed("nobody foresaw this")

    worker = watched(onefold, fail)

    while await worker.close_due():
        pass

    assert len(touched) == 1
    assert await room.confirmed(poisoned) == []
    assert len(await room.confirmed(healthy)) == 1
    row = await room.batch_row(poisoned)
    assert (row["failures"], row["closed_at"]) == (1, None)
    clock.advance(timedelta(minutes=2))
    assert await onefold.classroom.batches.close_due()
    assert len(await room.confirmed(poisoned)) == 1


async def test_a_bug_in_one_batch_holds_up_no_other(
    room: Room, onefold: Installation, clock: ManualClock
) -> None:
    """An error that nobody foresaw ends the step; the next one takes the next batch."""
    broken = await room.batch(essay((room.pupils[0], 0.9)))
    clock.advance(timedelta(seconds=1))
    healthy = await room.batch(essay((room.pupils[1], 0.9)))
    clock.advance(DAY)

    async def stumble(name: str, args: tuple[object, ...]) -> None:
        if name == "publish" and str(broken) in str(args):
            raise ZeroDivisionError

    worker = watched(onefold, stumble)
    with pytest.raises(ZeroDivisionError):
        await worker.close_due()

    assert await worker.close_due()

    assert len(await room.confirmed(healthy)) == 1
    assert (await room.batch_row(broken))["closed_at"] is None


async def test_a_decision_and_the_deadline_at_once_agree(
    room: Room, onefold: Installation, clock: ManualClock
) -> None:
    """Whoever is first, there is one event, and a person's word stands."""
    for _ in range(20):
        one = uuid4()
        batch_id = await room.batch(essay((room.pupils[0], 0.95), essay_id=one))
        clock.advance(DAY)

        await asyncio.gather(
            onefold.classroom.batches.decide(room.teacher, batch_id, [reject(one)]),
            onefold.classroom.batches.close_due(),
        )

        assert len(await room.confirmed(batch_id)) == 1
        assert (await room.essays())[str(one)]["status"] == "rejected"


@pytest.mark.parametrize(
    "change",
    [
        "score = 1.5",
        "status = 'sure'",
        "status = 'confirmed'",
        "method = 'magic'",
        "validated_at = suggested_at",
        "score = NULL",
        "class_id = batch_id",
        "batch_id = essay_id",
        "suggested_student_id = essay_id",
    ],
)
async def test_the_schema_refuses_what_cannot_be(room: Room, change: str) -> None:
    """Whatever the code does: the database holds these rules itself."""
    await room.batch(essay((room.pupils[0], 0.9)))

    from onefold.errors import ConstraintViolated

    with pytest.raises(ConstraintViolated):
        async with room.onefold.uow.begin() as tx:
            await tx.execute(text(f"UPDATE classroom_associations SET {change}"))


async def test_the_courses_are_there_on_every_database(room: Room) -> None:
    """Six of them, from the migration."""
    found = await room.onefold.classroom.classes.courses(room.teacher)

    assert [row["code"] for row in found] == ["ENG5", "ENG6", "ENG7", "SV1", "SV2", "SV3"]
