"""Consuming, deciding and the deadline, dying at every boundary, on both databases."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.integration.engine.test_consumer import surroundings
from tests.support import School
from tests.support_classroom import Room, batches_over, essay, new_room
from tests.twins.classroom import ConfirmsThenPublishes

from onefold.adapters.memory.transport import MemoryTransport
from onefold.core.wire import encode_native
from onefold.engine.consumer import Consumer
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario, explore
from onefold.testing.crash.points import Mortal, MortalUnitOfWork, Reaper
from onefold_server.domains.classroom import events
from onefold_server.domains.classroom.batches import BatchService
from onefold_server.domains.classroom.rules import Decision
from onefold_server.domains.classroom.service import ClassroomService
from onefold_server.installation import Installation
from onefold_server.wiring.classroom import matches_spec

pytestmark = pytest.mark.timeout(180)
Build = Callable[[Installation, Any], BatchService]


class World:
    """A class over the test's database; each world has batches of its own."""

    def __init__(self, onefold: Installation, room: Room, clock: ManualClock) -> None:
        self.onefold, self.room, self.clock = onefold, room, clock
        self.essays = [uuid4() for _ in range(3)]
        anna, bjorn, *_ = room.pupils
        self.event = room.event(
            [
                essay((anna, 0.9), essay_id=self.essays[0]),
                essay((anna, 0.8), (bjorn, 0.8), essay_id=self.essays[1]),
                essay(essay_id=self.essays[2]),
            ]
        )
        self.batch_id = UUID(self.event.data["batch_id"])
        self.topic = str(self.batch_id)  # starts are counted by place: no two worlds share one
        self._begun = False

    async def begin(self) -> None:
        """The batch is stored, before anything dies."""
        if not self._begun:
            self._begun = True
            await self.room.take(self.event)

    async def statuses(self) -> list[str]:
        rows = await self.room.essays(self.batch_id)
        return [rows[str(id_)]["status"] for id_ in self.essays if str(id_) in rows]


class Consuming(World):
    """The event comes twice through a broker."""

    transport: MemoryTransport | None = None
    _processes = 0

    async def run(self, reaper: Reaper) -> None:
        """One process: from joining the group until nothing is left."""
        self._processes += 1  # its chance differs from that of the one before
        if self.transport is None:
            self.transport = MemoryTransport(partitions=1)
            value = encode_native(self.event)
            await self.transport.publish([Outgoing(topic=self.topic, key=b"k", value=value)] * 2)
        uow = MortalUnitOfWork(self.onefold.uow, reaper)
        whole = ClassroomService(
            classes=self.onefold.classroom.classes,
            batches=batches_over(self.onefold, uow),
        )
        spec = matches_spec(whole, self.topic)
        subscription = await self.transport.subscribe(spec.name, [self.topic])
        consumer = Consumer(
            spec,
            subscription=Mortal(subscription, reaper, "subscription"),
            uow=uow,
            ledger=self.onefold.ledger,
            env=surroundings(self.clock, seed=self._processes),
            poll_s=0,
        )
        try:
            await consumer.drain()
        finally:
            await subscription.kill()

    async def check(self) -> None:
        """All three essays, and the teacher told once."""
        assert await self.statuses() == ["pending_validation", "pending_validation", "no_match"]
        assert len(await self.room.facts(events.NOTIFIED, self.batch_id)) == 1
        assert await self.onefold.ledger.letters(state="parked") == []


class Deciding(World):
    """The teacher decides all three in two calls."""

    async def run(self, reaper: Reaper) -> None:
        """One process: both calls, as often as a client that got no answer repeats them."""
        await self.begin()
        uow: Any = MortalUnitOfWork(self.onefold.uow, reaper)
        service = batches_over(self.onefold, uow)
        one, two, three = self.essays
        for decisions in (
            [Decision(essay_id=one, confirmed=True), Decision(essay_id=two, confirmed=False)],
            [Decision(essay_id=three, confirmed=True, student_id=self.room.pupils[2])],
        ):
            await service.decide(self.room.teacher, self.batch_id, decisions)

    async def check(self) -> None:
        """Each decision once, and the end of the batch published once, with all of it."""
        assert await self.statuses() == ["confirmed", "rejected", "confirmed"]
        facts = await self.room.confirmed(self.batch_id)
        assert len(facts) == 1, "published"
        assert len(facts[0].data["associations"]) == 3
        assert len(await self.room.facts(events.DECIDED, self.batch_id)) == 2


class Expiring(World):
    """A day passes and nobody decides."""

    def __init__(self, *given: Any, build: Build = batches_over) -> None:
        super().__init__(*given)
        self._build = build

    async def run(self, reaper: Reaper) -> None:
        """One worker process, a day or an hour later than the one before."""
        await self.begin()
        self.clock.advance(timedelta(hours=25))
        uow: Any = MortalUnitOfWork(self.onefold.uow, reaper)
        service = self._build(self.onefold, uow)
        while await service.close_due():
            pass

    async def check(self) -> None:
        """The sure one is confirmed, the others are left, one event says so."""
        assert await self.statuses() == ["timeout_confirmed", "no_match", "no_match"]
        facts = await self.room.confirmed(self.batch_id)
        assert len(facts) == 1, "published"
        assert facts[0].data["timeout_triggered"] is True


def scenario(world: Consuming | Deciding | Expiring) -> Scenario:
    """*world*, to be explored."""
    return Scenario(run=world.run, check=world.check)


@pytest.fixture
async def room(onefold: Installation, school: School) -> Room:
    """A class of five pupils."""
    return await new_room(onefold, school)


@pytest.mark.parametrize(
    ("kind", "least"),
    [(Consuming, 14), (Deciding, 30), (Expiring, 18)],
    ids=["consume", "decide", "deadline"],
)
async def test_no_death_loses_or_doubles_anything(
    onefold: Installation,
    room: Room,
    clock: ManualClock,
    kind: Callable[..., Consuming | Deciding | Expiring],
    least: int,
) -> None:
    """Wherever the process dies, the next one ends with everything once."""
    found = await explore(lambda: scenario(kind(onefold, room, clock)))

    assert found.broken == {}
    assert len(found.deaths) >= least


async def test_a_deadline_that_publishes_after_its_commit_is_caught(
    onefold: Installation, room: Room, clock: ManualClock
) -> None:
    """Fault B19: rows confirmed and no event, for ever; the explorer names the death."""

    def build(parts: Installation, uow: Any) -> BatchService:
        return ConfirmsThenPublishes.over(parts, uow)

    found = await explore(lambda: scenario(Expiring(onefold, room, clock, build=build)))

    assert any("commit:after" in death for death in found.broken)
