"""
The thirty faults of the earlier class service (research note, section 6), kept out.

`test_bNN_…`: one a fault, by its number there. Where it is cheap the naive design runs
beside ours (tests/twins/classroom.py) and shows the fault.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import inspect
from tests.crash.test_classroom_deaths import Consuming, Expiring, scenario
from tests.integration.engine.test_consumer import surroundings
from tests.integration.engine.test_relay import Broker
from tests.support import School, another_server, client_of, new_school
from tests.support_classroom import (
    Room,
    counted_statements,
    essay,
    matches,
    new_room,
    watched,
)
from tests.twins.classroom import ConfirmsThenPublishes, FailsOpen, RowByRow, barrier

from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.core.envelope import Event
from onefold.core.wire import decode, encode_native
from onefold.engine.consumer import Consumer
from onefold.engine.relay import Relay
from onefold.errors import (
    AlreadyDecided,
    InvalidInput,
    NotFound,
    StoreFailed,
)
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import explore
from onefold_server.domains.classroom import events
from onefold_server.domains.classroom.batches import BatchService
from onefold_server.domains.classroom.rules import Decision
from onefold_server.domains.classroom.service import ClassroomService
from onefold_server.domains.directory.rules import Role
from onefold_server.http.app import create_app
from onefold_server.installation import Installation
from onefold_server.wiring.classroom import matches_spec

pytestmark = pytest.mark.timeout(120)
NOTE = "classroom"
C = "/api/v1/classroom"
DAY = timedelta(hours=24)


@pytest.fixture
async def room(onefold: Installation, school: School) -> Room:
    """A class of five pupils."""
    return await new_room(onefold, school)


class Desk:
    """Our consumer over a broker in memory; another process may go on where one ended."""

    def __init__(self, room: Room, service: BatchService | None = None) -> None:
        self.room, self.clock = room, room.onefold.clock
        self.transport, self.topic = MemoryTransport(partitions=1), str(uuid4())
        self.service = service or room.onefold.classroom.batches
        self.consumer: Consumer | None = None
        self._processes = 0

    async def send(self, *values: Event | bytes | None) -> None:
        """Write to the topic, each under a key of its own."""
        messages = [
            Outgoing(
                topic=self.topic,
                key=str(n).encode(),
                value=encode_native(value) if isinstance(value, Event) else value,
            )
            for n, value in enumerate(values)
        ]
        await self.transport.publish(messages)

    async def work(self, *, steps: int | None = None) -> Consumer:
        """A process: until nothing is left, or so many polls, and then it dies."""
        self._processes += 1  # its chance differs from that of the one before
        whole = ClassroomService(classes=self.room.onefold.classroom.classes, batches=self.service)
        spec = matches_spec(whole, self.topic)
        subscription = await self.transport.subscribe(spec.name, [self.topic])
        consumer = Consumer(
            spec,
            subscription=subscription,
            uow=self.room.onefold.uow,
            ledger=self.room.onefold.ledger,
            env=surroundings(self.clock, self._processes),  # type: ignore[arg-type]
            poll_s=0,
        )
        for _ in range(steps or 100):
            busy = await consumer.step() or await consumer.replay_asked() > 0
            if not busy and not consumer.waiting:
                break
            self.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]
        await subscription.kill()
        return consumer

    async def letters(self) -> list[Any]:
        """What was parked."""
        found = await self.room.onefold.ledger.letters(state="parked")
        return [one for one in found if one["topic"] == self.topic] if found else []


class Failing(BatchService):
    """Takes nothing of batches in `bad`, as if the store failed; notes every try."""

    bad: Sequence[str] = ()
    tried: list[str]

    async def take(self, tx: Any, event: Event, **how: Any) -> Any:
        self.__dict__.setdefault("tried", []).append(event.id)
        taken = await super().take(tx, event, **how)
        if event.id in self.bad:
            raise StoreFailed("nobody foresaw this")
        return taken


def failing(room: Room, *bad: str) -> Failing:
    made = Failing(
        room.onefold.uow,
        clock=room.onefold.clock,
        random=lambda n: uuid4().bytes[:n],
        deadline=DAY,
    )
    made.bad = bad
    return made


# --- consumer and handler ---------------------------------------------------------------------


async def test_b01_a_failing_handler_runs_once_a_delivery(room: Room) -> None:
    """Theirs ran it a second time, unprotected; ours counts each start, and stops at five."""
    runs: list[int] = []

    async def theirs() -> bool:
        runs.append(1)
        raise StoreFailed("down")

    with pytest.raises(StoreFailed):
        await FailsOpen()("e", theirs)
    event = room.event([essay((room.pupils[0], 0.9))])
    desk = Desk(room, service := failing(room, event.id))
    await desk.send(event)

    consumer = await desk.work()

    assert len(runs) == 2
    assert len(service.tried) == 5  # each of them counted
    assert (consumer.counts.parked, await room.essays()) == (1, {})


async def test_b02_what_was_refused_is_not_recorded_as_done(
    room: Room, onefold: Installation
) -> None:
    """Theirs was `completed` for a day; ours is parked, and its replay applies it."""
    wrapper, class_id = FailsOpen(), uuid4()

    async def refused() -> bool:
        return False

    assert await wrapper("e", refused) is False
    assert wrapper.keys == {"e": "completed"}
    desk = Desk(room)
    event = room.event([essay()], class_id=str(class_id))
    await desk.send(event)
    await desk.work()
    (letter,) = await onefold.ledger.letters(state="parked")
    await onefold.classroom.classes.create(room.teacher, "late", "ENG5", class_id=class_id)

    now = onefold.clock.now()
    await onefold.ledger.move([letter["id"]], to="asked", note="the class is there", now=now)
    await desk.work()

    assert letter["reason"] == "not_found"
    assert len(await room.essays()) == 1


async def test_b03_a_later_success_does_not_carry_a_failure_away(room: Room) -> None:
    """Theirs committed the offset beyond it; ours is there for the next process."""
    bad, good = (room.event([essay((room.pupils[0], 0.9))]) for _ in range(2))
    desk = Desk(room, failing(room, bad.id))
    await desk.send(bad, good)
    await desk.work(steps=1)
    assert len(await room.essays()) == 1

    desk.service = room.onefold.classroom.batches
    await desk.work()

    assert len(await room.essays()) == 2


async def test_b04_a_crash_in_the_middle_loses_no_message(
    room: Room, onefold: Installation, clock: ManualClock
) -> None:
    """Theirs took the dead worker's key for a duplicate; ours has no key beside the effect."""
    wrapper = FailsOpen()

    async def dies() -> bool:
        raise asyncio.CancelledError

    async def lives() -> bool:
        return True

    with pytest.raises(asyncio.CancelledError):
        await wrapper("e", dies)
    assert await wrapper("e", lives) is None

    found = await explore(lambda: scenario(Consuming(onefold, room, clock)))

    assert "transaction#1.commit:before" in found.deaths
    assert found.broken == {}


async def test_b05_one_bad_essay_costs_no_other(postgres_url: str, onefold: Installation) -> None:
    """Theirs said True with no row stored; ours stores the others and names the stranger."""
    room = await new_room(onefold, await new_school(onefold))
    anna, nobody = room.pupils[0], uuid4()
    good = [essay((anna, 0.9)) for _ in range(2)]
    data = room.event([good[0], essay((anna, 0.9), essay_id=uuid4()), good[1]]).data
    # What vanished between their look and their insert: a pupil who is not of the class.
    other = await new_room(onefold, room.school, pupils=[("Eva", "Ek")])
    data["match_results"][1]["suggestions"][0]["student_id"] = str(other.pupils[0])
    naive = RowByRow(onefold.database, room.school.id)
    said = await naive.handle(data, now=onefold.clock.now())
    theirs = len(await room.essays())

    taken = await room.take(room.event([*data["match_results"], essay((nobody, 1.0))]))

    assert (said, taken.stored + theirs >= 4, taken.no_match) == (True, True, 2)
    if onefold.uow.features.name == "postgresql":
        assert theirs == 0  # the transaction was aborted; the context closed in silence


async def test_b06_two_batches_with_one_essay_both_keep_theirs(
    room: Room, onefold: Installation
) -> None:
    """Theirs looked, then inserted: the loser lost its whole batch; ours gives the union."""
    anna = room.pupils[0]

    def overlapping() -> list[list[Any]]:
        shared = uuid4()
        one = [essay((anna, 0.9), essay_id=shared), *(essay((anna, 0.9)) for _ in range(4))]
        two = [essay((anna, 0.9), essay_id=shared), *(essay((anna, 0.9)) for _ in range(4))]
        return [one, two]

    if onefold.uow.features.parallel_writers:
        both = barrier(2)
        naives = [
            RowByRow(onefold.database, room.school.id, between=_first(both)) for _ in range(2)
        ]
        now = onefold.clock.now()
        said = await asyncio.gather(
            *(
                naive.handle(room.event(part).data, now=now)
                for naive, part in zip(naives, overlapping(), strict=True)
            )
        )
        assert said == [True, True]
        assert len(await room.essays()) == 5
    before = len(await room.essays())

    taken = await asyncio.gather(*(room.take(room.event(part)) for part in overlapping()))

    assert sum(t.stored for t in taken) == len(await room.essays()) - before == 9
    assert sum(t.already_associated for t in taken) == 1


def _first(pause: Any) -> Any:
    """Waits at its first call alone."""
    left = [pause]

    async def wait() -> None:
        if left:
            await left.pop()()

    return wait


async def _naive(room: Room, *essays: Any) -> dict[str, Any]:
    """What the row-by-row design stores of an event's essays."""
    naive = RowByRow(room.onefold.database, room.school.id)
    event = room.event(list(essays))
    await naive.handle(event.data, now=room.onefold.clock.now())
    return await room.essays(UUID(event.data["batch_id"]))


async def test_b07_the_best_suggestion_counts_not_the_first(room: Room) -> None:
    """Theirs stored 0.3 before 0.97; ours sorts, and keeps the other as an alternative."""
    anna, bjorn, *_ = room.pupils

    (theirs,) = (await _naive(room, essay((bjorn, 0.3), (anna, 0.97)))).values()
    (ours,) = (await room.essays(await room.batch(essay((bjorn, 0.3), (anna, 0.97))))).values()

    assert (theirs["score"], ours["score"]) == (0.3, 0.97)
    assert [other["score"] for other in ours["alternatives"]] == [0.3]


async def test_b08_a_bad_id_spoils_no_good_one(room: Room) -> None:
    """Theirs lost the essay; ours drops the id with its reason."""
    suggested = (("not-an-id", 0.99), (room.pupils[0], 0.9))

    theirs = await _naive(room, essay(*suggested))
    taken = await room.take(room.event([essay(*suggested)]))

    assert theirs == {}
    assert (taken.stored, taken.no_match) == (1, 0)
    assert [dropped.reason for dropped in taken.invalid] == ["student_id_not_a_uuid"]


async def test_b09_statements_do_not_grow_and_nobody_waits_for_himself(
    room: Room, onefold: Installation
) -> None:
    """Theirs took five an essay on a second connection; ours at most eight a batch."""
    naive = RowByRow(onefold.database, room.school.id)
    if onefold.uow.features.parallel_writers:  # on SQLite it waits for its own lock
        data = room.event([essay((room.pupils[0], 0.9)) for _ in range(100)]).data
        await naive.handle(data, now=onefold.clock.now())
        assert naive.statements == 500

    async with counted_statements(onefold) as seen:
        await room.take(room.event([essay((room.pupils[0], 0.9)) for _ in range(100)]))
    forty = [room.event([essay((room.pupils[0], 0.9)) for _ in range(3)]) for _ in range(40)]
    taken = await asyncio.gather(*map(room.take, forty))

    assert sum(s.startswith(("INSERT", "SELECT", "UPDATE")) for s in seen) <= 8
    assert [t.stored for t in taken] == [3] * 40


async def test_b10_a_pupil_of_another_class_cannot_be_attached(
    room: Room, onefold: Installation, school: School
) -> None:
    """Theirs asked for no enrolment; ours does, and so does the schema."""
    other = await new_room(onefold, school, pupils=[("Eva", "Ek")])

    taken = await room.take(room.event([essay((other.pupils[0], 0.99))]))

    assert (taken.no_match, [d.reason for d in taken.not_enrolled]) == (1, ["not_in_the_class"])
    assert await _naive(room, essay((other.pupils[0], 0.99))) == {}  # our schema refuses theirs


async def test_b11_a_better_suggestion_improves_an_open_essay(
    room: Room, clock: ManualClock
) -> None:
    """Theirs could never improve one; ours does, and never touches a person's decision."""
    anna, bjorn, *_ = room.pupils
    open_, decided = uuid4(), uuid4()
    batch_id = await room.batch(
        essay((anna, 0.5), essay_id=open_), essay((anna, 0.5), essay_id=decided)
    )
    word = Decision(essay_id=decided, confirmed=True)
    await room.onefold.classroom.batches.decide(room.teacher, batch_id, [word])
    clock.advance(timedelta(minutes=1))

    taken = await room.take(
        room.event([essay((bjorn, 0.9), essay_id=id_) for id_ in (open_, decided)])
    )

    found = await room.essays()
    assert (taken.improved, taken.already_associated) == (1, 1)
    assert found[str(open_)]["suggested_student_id"] == bjorn
    assert found[str(decided)]["student_id"] == anna


async def test_b12_a_batch_without_matches_comes_to_an_end(room: Room, clock: ManualClock) -> None:
    """Theirs had no rows and waited for ever; ours has one an essay, and a deadline."""
    assert await _naive(room, essay(), essay()) == {}
    batch_id = await room.batch(essay(), essay())
    empty = await room.batch()

    clock.advance(DAY)
    while await room.onefold.classroom.batches.close_due():
        pass

    (fact,) = await room.confirmed(batch_id)
    assert [a["status"] for a in fact.data["associations"]] == ["no_match"] * 2
    assert len(await room.confirmed(empty)) == 1


async def test_b13_poison_is_parked_and_what_follows_is_applied(
    room: Room, onefold: Installation
) -> None:
    """Theirs raised UnboundLocalError or passed over it; ours says what was wrong with it."""
    desk = Desk(room)
    await desk.send(b"\xff\xfe", None, b"{", b"7", room.event([essay()]))

    consumer = await desk.work()

    assert (consumer.counts.applied, consumer.counts.parked) == (1, 4)
    letters = await onefold.ledger.letters(state="parked")
    assert {letter["reason"] for letter in letters} == {"undecodable"}


async def test_b14_an_event_of_no_batch_is_parked_not_lost(
    room: Room, onefold: Installation
) -> None:
    """`single-essay-batch` of class `unknown`: theirs recorded it as done."""
    desk = Desk(room)
    data = {"batch_id": "single-essay-batch", "class_id": "unknown", "match_results": []}
    await desk.send(matches(data, at=onefold.clock.now()))

    await desk.work()

    (letter,) = await onefold.ledger.letters(state="parked")
    assert (letter["reason"], "data." in letter["detail"]) == ("invalid_event", True)


# --- teacher confirmation -----------------------------------------------------------------------


async def test_b15_decisions_are_kept_and_outlive_the_deadline(
    room: Room, clock: ManualClock
) -> None:
    """Theirs changed no row, and contradicted itself a day later; ours is said once."""
    one, two = uuid4(), uuid4()
    batch_id = await room.batch(
        *(essay((room.pupils[0], 0.95), essay_id=id_) for id_ in (one, two))
    )
    marta = room.pupils[2]
    await room.onefold.classroom.batches.decide(
        room.teacher,
        batch_id,
        [
            Decision(essay_id=one, confirmed=False),
            Decision(essay_id=two, confirmed=True, student_id=marta),
        ],
    )

    clock.advance(2 * DAY)
    await room.onefold.classroom.batches.close_due()
    looked = await room.onefold.classroom.batches.author_of(room.service, two)

    found = await room.essays()
    assert (found[str(one)]["status"], found[str(two)]["student_id"]) == ("rejected", marta)
    assert looked["student_id"] == marta
    assert len(await room.confirmed(batch_id)) == 1


async def test_b16_nothing_of_a_decision_is_believed(room: Room, onefold: Installation) -> None:
    """Foreign essays, strangers, other people's batches; who decides is who calls."""
    one = uuid4()
    batch_id = await room.batch(essay((room.pupils[0], 0.9), essay_id=one))
    elsewhere = await new_school(onefold, "Elsewhere")
    decide = onefold.classroom.batches.decide
    yes = Decision(essay_id=one, confirmed=True)

    with pytest.raises(InvalidInput):
        await decide(room.teacher, batch_id, [Decision(essay_id=uuid4(), confirmed=True)])
    stranger = Decision(essay_id=one, confirmed=True, student_id=uuid4())
    with pytest.raises(InvalidInput):
        await decide(room.teacher, batch_id, [stranger])
    with pytest.raises(NotFound):
        await decide(elsewhere.admin, batch_id, [yes])
    empty = await decide(room.teacher, batch_id, [])
    assert (empty["closed"], await room.confirmed(batch_id)) == (False, [])
    await decide(room.teacher, batch_id, [yes])
    again = await decide(room.teacher, batch_id, [yes])
    with pytest.raises(AlreadyDecided):
        await decide(room.school.admin, batch_id, [Decision(essay_id=one, confirmed=False)])

    assert again["repeated"] == 1
    assert (await room.essays())[str(one)]["validated_by"] == room.teacher.name


async def test_b17_a_guess_looks_like_one(room: Room) -> None:
    """Theirs showed 0.95 and `Name extracted from essay header` for everything."""
    batch_id = await room.batch(essay((room.pupils[1], 0.42)))

    found = await room.onefold.classroom.batches.batch(room.teacher, batch_id)

    shown = found["essays"][0]["suggested"]
    assert (shown["score"], shown["reasons"]) == (0.42, ["name_exact"])
    assert shown["name"] == "Björn Svartling"


async def test_b18_rejected_essays_are_published_and_instants_are_aware(
    room: Room, clock: ManualClock
) -> None:
    """Theirs left them out, and told the instant without its zone."""
    one = uuid4()
    by_hand = await room.batch(essay((room.pupils[0], 0.9), essay_id=one))
    word = Decision(essay_id=one, confirmed=False)
    await room.onefold.classroom.batches.decide(room.teacher, by_hand, [word])
    by_time = await room.batch(essay((room.pupils[0], 0.9)))
    clock.advance(DAY)
    await room.onefold.classroom.batches.close_due()

    told = [(await room.confirmed(id_))[0].data["associations"][0] for id_ in (by_hand, by_time)]

    assert (told[0]["student_id"], told[0]["validation_method"]) == (None, "human")
    assert all(a["validated_at"].endswith("+00:00") for a in told)


# --- deadlines ----------------------------------------------------------------------------------


async def test_b19_no_batch_is_confirmed_without_its_event(
    room: Room, onefold: Installation, clock: ManualClock
) -> None:
    """Theirs committed, then published: a death between them lost the event for ever."""

    def build(parts: Installation, uow: Any) -> BatchService:
        return ConfirmsThenPublishes.over(parts, uow)

    theirs = await explore(lambda: scenario(Expiring(onefold, room, clock, build=build)))
    ours = await explore(lambda: scenario(Expiring(onefold, room, clock)))

    assert any("commit:after" in death for death in theirs.broken)
    assert ours.broken == {}


async def test_b20_a_poisoned_batch_holds_up_no_other(
    room: Room, onefold: Installation, clock: ManualClock
) -> None:
    """Theirs spoiled the session they shared; ours has a transaction each."""
    ids = []
    for _ in range(4):
        ids.append(await room.batch(essay((room.pupils[0], 0.9))))
        clock.advance(timedelta(seconds=1))
    clock.advance(DAY)

    async def fail(name: str, args: tuple[object, ...]) -> None:
        if name == "publish" and str(ids[0]) in str(args):
            raise StoreFailed("nobody foresaw this")

    worker = watched(onefold, fail)
    while await worker.close_due():
        pass

    assert [len(await room.confirmed(id_)) for id_ in ids] == [0, 1, 1, 1]


async def test_b21_many_workers_publish_once(
    room: Room, onefold: Installation, clock: ManualClock
) -> None:
    """Theirs took what the other had; ours skips what is held, and the id is the batch's."""
    ids = [await room.batch(essay((room.pupils[0], 0.9))) for _ in range(10)]
    clock.advance(DAY)

    async def work(one: Installation) -> None:
        while await one.classroom.batches.close_due():
            pass

    async with another_server(onefold) as other:
        await asyncio.gather(*(work(one) for one in (onefold, other) * 2))

    assert [len(await room.confirmed(id_)) for id_ in ids] == [1] * 10


async def test_b22_a_batch_has_one_deadline_in_utc(room: Room, clock: ManualClock) -> None:
    """Theirs was per row, in the database's own zone: a late row had a later one."""
    batch_id = await room.batch(essay((room.pupils[0], 0.9)))
    before = await room.batch_row(batch_id)
    clock.advance(timedelta(hours=23))
    await room.take(room.event([essay((room.pupils[1], 0.9))], batch_id=str(batch_id)))
    clock.advance(timedelta(hours=1))

    assert await room.onefold.classroom.batches.close_due()

    (fact,) = await room.confirmed(batch_id)
    assert len(fact.data["associations"]) == 2
    assert before["deadline"] - before["received_at"] == DAY
    assert before["deadline"].tzinfo is UTC


async def test_b23_a_low_score_stays_what_it_was(room: Room, clock: ManualClock) -> None:
    """Theirs pointed the row at a pupil called UNKNOWN, who then stood in the roster."""
    one = uuid4()
    await room.batch(essay((room.pupils[0], 0.3), essay_id=one))
    clock.advance(DAY)
    await room.onefold.classroom.batches.close_due()

    row = (await room.essays())[str(one)]
    roster = await room.onefold.classroom.classes.roster(room.teacher, room.id)

    assert (row["status"], row["student_id"]) == ("no_match", None)
    assert (row["suggested_student_id"], row["score"]) == (room.pupils[0], 0.3)
    assert {pupil["student_id"] for pupil in roster["students"]} == set(room.pupils)


# --- API, outbox, schema ------------------------------------------------------------------------


async def test_b24_a_class_can_just_be_renamed(room: Room) -> None:
    """Theirs answered 500 after it had renamed, and told nobody."""
    classes = room.onefold.classroom.classes

    renamed = await classes.update(room.teacher, room.id, name="SA24E")
    await classes.update(room.teacher, room.id, name="SA24E")

    facts = await room.facts(events.CLASS_UPDATED)
    assert (renamed["name"], renamed["course_code"]) == ("SA24E", "ENG5")
    assert [fact.data["name"] for fact in facts] == ["SA24E"]


async def test_b25_a_class_and_its_event_are_there_or_not(
    room: Room, onefold: Installation
) -> None:
    """Theirs had the class and not the event, and a retry made a second class."""
    from tests.support import WatchedUnitOfWork

    from onefold_server.domains.classroom.classes import ClassService

    async def fail(name: str, _: tuple[object, ...]) -> None:
        if name == "publish":
            raise StoreFailed("the outbox is broken")

    broken = ClassService(
        WatchedUnitOfWork(onefold.uow, fail),
        clock=onefold.clock,
        random=lambda n: uuid4().bytes[:n],
    )
    id_ = uuid4()
    with pytest.raises(StoreFailed):
        await broken.create(room.teacher, "new", "ENG5", class_id=id_)
    with pytest.raises(NotFound):
        await onefold.classroom.classes.get(room.teacher, id_)

    for _ in range(2):
        await onefold.classroom.classes.create(room.teacher, "new", "ENG5", class_id=id_)

    created = await room.facts(events.CLASS_CREATED)
    assert [fact.key for fact in created].count(str(id_)) == 1


async def test_b26_every_wrong_request_is_told_what_is_wrong(
    room: Room, onefold: Installation
) -> None:
    """Theirs answered 500; ours 422, 404 or 409, each field by its name."""
    key = await onefold.directory.create_key(room.school.id, role=Role.TEACHER, label="")
    async with client_of(create_app(onefold, worker=False), key) as client:
        pupil = {"name": "Eva", "email": "eva@skola.se"}
        answers = [
            await client.post(f"{C}/classes", content=b"{"),
            await client.post(f"{C}/classes", json={"name": "", "course_code": "ENG5"}),
            await client.post(f"{C}/students", json={"name": "Eva", "email": "nowhere"}),
            await client.post(f"{C}/students", json=pupil),
            await client.post(f"{C}/students", json=pupil),
            await client.post(f"{C}/students", json={"name": "A", "class_ids": [str(uuid4())]}),
            await client.post(f"{C}/batches/{uuid4()}/decisions", json={}),
            await client.get(f"{C}/batches/seven"),
        ]

    assert [a.status_code for a in answers] == [422, 422, 422, 201, 409, 404, 422, 422]
    assert answers[2].json()["errors"][0]["field"] == "email"


async def test_b27_a_class_exists_for_its_owner_alone(room: Room, onefold: Installation) -> None:
    """Theirs asked nobody: rosters were public, and any user's delete erased attributions."""
    key = await onefold.directory.create_key(room.school.id, role=Role.TEACHER, label="")
    one = uuid4()
    batch_id = await room.batch(essay((room.pupils[0], 0.9), essay_id=one))
    async with client_of(create_app(onefold, worker=False), key) as colleague:
        paths = [f"/classes/{room.id}/students", f"/classes/{room.id}", f"/batches/{batch_id}"]
        looked = [(await colleague.get(C + path)).status_code for path in paths]
        removed = await colleague.delete(f"{C}/students/{room.pupils[0]}")
    async with client_of(create_app(onefold, worker=False)) as anyone:
        unknown = await anyone.get(f"{C}/internal/batches/{batch_id}/students")

    assert (looked, removed.status_code, unknown.status_code) == ([404] * 3, 404, 401)
    word = Decision(essay_id=one, confirmed=True)
    await onefold.classroom.batches.decide(room.teacher, batch_id, [word])
    await onefold.classroom.classes.delete_student(room.teacher, room.pupils[0])
    assert (await room.essays())[str(one)]["student_id"] == room.pupils[0]


async def test_b28_an_outage_of_the_broker_loses_nothing_and_holds_up_nobody(
    room: Room, onefold: Installation, clock: ManualClock
) -> None:
    """Theirs gave up after five tries within milliseconds, under a new id each time."""
    first, second = [await room.batch(essay()) for _ in range(2)]
    broker = Broker()
    broker.refusing = {str(first).encode()}
    relay = Relay(
        SqlOutbox(onefold.uow),
        broker,  # type: ignore[arg-type]
        owner="r",
        env=surroundings(clock),
    )
    tries = 0
    for _ in range(60):  # ten minutes and more
        while await relay.step():
            tries += 1
        clock.advance(timedelta(seconds=12))
    during = {message.key for message in broker.got}
    broker.refusing = set()
    clock.advance(timedelta(minutes=5))
    while await relay.step():
        pass

    sent = [decode(m.value or b"", m.headers).id for m in broker.got]
    assert str(second).encode() in during
    assert str(first).encode() not in during
    assert (tries < 200, len(sent)) == (True, len(set(sent)))
    assert str(first).encode() in {message.key for message in broker.got}


async def test_b29_an_enrolment_is_there_once_and_scans_have_indexes(
    room: Room, onefold: Installation
) -> None:
    """Theirs could be inserted twice, and every look-up read the whole table."""
    again = await onefold.classroom.classes.enrol(room.teacher, room.id, room.pupils)

    async with onefold.database.writer.connect() as connection:

        def keys(sync: Any) -> dict[str, list[Any]]:
            look = inspect(sync)
            tables = ("classroom_enrolments", "classroom_associations", "classroom_batches")
            return {
                table: [
                    look.get_pk_constraint(table)["constrained_columns"],
                    *(index["column_names"] for index in look.get_indexes(table)),
                ]
                for table in tables
            }

        found = await connection.run_sync(keys)

    assert again == 0
    assert found["classroom_enrolments"][0] == ["school_id", "class_id", "student_id"]
    assert ["school_id", "student_id"] in found["classroom_enrolments"]
    assert ["school_id", "student_id"] in found["classroom_associations"]
    assert ["due_at"] in found["classroom_batches"]


async def test_b30_lists_are_bounded_and_counts_load_nobody(
    room: Room, onefold: Installation
) -> None:
    """Theirs had no limit, and counted pupils by loading them."""
    key = await onefold.directory.create_key(room.school.id, role=Role.ADMIN, label="")
    async with client_of(create_app(onefold, worker=False), key) as client:
        unlimited = await client.get(f"{C}/classes?limit=1000000")
        health = await client.get("/healthz")
    async with counted_statements(onefold) as seen:
        listed = await onefold.classroom.classes.page(room.school.admin)

    assert unlimited.status_code == 422
    assert health.json()["database"] == onefold.uow.features.name
    assert [c["student_count"] for c in listed["classes"]] == [5]
    assert sum("students.name" in statement for statement in seen) == 0
