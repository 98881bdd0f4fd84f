"""The relay over every store: at least once, in order per key, always under the same id."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from random import Random

import pytest
from tests.integration.engine.test_consumer import surroundings

from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.core.envelope import Event
from onefold.core.wire import decode
from onefold.engine.relay import Relay
from onefold.ports.outbox import Outbox
from onefold.ports.transport import Outgoing
from onefold.ports.unit_of_work import UnitOfWork
from onefold.testing.clock import ManualClock


class Broker:
    """Takes what it is given, unless told to refuse a key; remembers all."""

    def __init__(self) -> None:
        self.got: list[Outgoing] = []
        self.refusing: set[bytes | None] = set()

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[BaseException | None]:
        """Refuse the keys that are down; all others are durable."""
        answers: list[BaseException | None] = []
        for message in messages:
            down = message.key in self.refusing
            answers.append(ConnectionError("down") if down else None)
            self.got += [] if down else [message]
        return answers

    def numbers(self) -> list[int]:
        """The events' numbers in the order they came."""
        return [decode(m.value or b"", m.headers).data["n"] for m in self.got]

    def ids(self) -> set[str]:
        """The different event ids that came."""
        return {decode(m.value or b"", m.headers).id for m in self.got}


class World:
    """One outbox and one broker."""

    def __init__(self, clock: ManualClock, uow: UnitOfWork, outbox: Outbox) -> None:
        self.clock, self.uow, self.outbox, self.broker = clock, uow, outbox, Broker()

    async def publish(self, *numbers: int, key: str | None = "a") -> None:
        """Commit events of these numbers."""
        events = [
            Event.new(
                "t",
                {"n": n},
                source="s",
                key=key,
                now=self.clock.now(),
                random=Random(n).randbytes,
            )
            for n in numbers
        ]
        async with self.uow.begin() as tx:
            await tx.publish(*events, now=self.clock.now())

    def relay(self, owner: str = "r", **options: object) -> Relay:
        """A relay between the two."""
        env = surroundings(self.clock)
        return Relay(self.outbox, self.broker, owner=owner, env=env, **options)  # type: ignore[arg-type]

    async def run(self, relay: Relay) -> None:
        """Until nothing can be sent now."""
        while await relay.step():
            pass


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str | None:
    """Where the test's store is; None for memory."""
    if request.param == "memory":
        return None
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def world(store_url: str | None, clock: ManualClock) -> AsyncIterator[World]:
    """The same test on each store."""
    uow: UnitOfWork
    if store_url is None:
        memory = MemoryUnitOfWork()
        uow, outbox = memory, MemoryOutbox(memory)
    else:
        uow = SqlUnitOfWork(Database(store_url))
        outbox = SqlOutbox(uow)  # type: ignore[assignment]
    yield World(clock, uow, outbox)
    await uow.aclose()


async def test_events_leave_in_the_order_of_their_key(world: World) -> None:
    """What was published first arrives first, each once while nothing dies."""
    await world.publish(1, 2)
    await world.publish(3)

    await world.run(world.relay())

    assert world.broker.numbers() == [1, 2, 3]
    assert await world.outbox.unsent(limit=9) == []


async def test_a_refused_event_holds_up_its_own_key_alone(world: World) -> None:
    """Order per key holds across failures; other keys are not held up."""
    await world.publish(1, 2, key="a")
    await world.publish(3, key="b")
    world.broker.refusing = {b"a"}
    await world.run(world.relay())
    during = world.broker.numbers()
    world.broker.refusing = set()
    await world.publish(4, key="a")

    for _ in range(5):
        await world.run(world.relay())
        world.clock.advance(timedelta(seconds=5))

    assert during == [3]
    assert [n for n in world.broker.numbers() if n != 3] == [1, 2, 4]


async def test_a_relay_that_lost_its_shard_cannot_mark(world: World) -> None:
    """A slow relay's mark is refused; its events are sent again under the same ids."""
    await world.publish(1)
    now = world.clock.now()
    slow = await world.outbox.lease("slow", now=now, lease=timedelta(seconds=1), limit=9)
    assert slow is not None
    world.clock.advance(timedelta(seconds=2))
    now = world.clock.now()
    fast = await world.outbox.lease("fast", now=now, lease=timedelta(seconds=9), limit=9)
    assert fast is not None

    marked = await world.outbox.mark(slow, sent=[slow.waiting[0].position], failed=[], now=now)

    assert not marked
    assert fast.fence > slow.fence
    assert len(await world.outbox.unsent(limit=9)) == 1


async def test_a_shard_in_a_relays_hands_is_left_alone(world: World) -> None:
    """Two relays never send the same shard at the same time."""
    await world.publish(1)
    now = world.clock.now()
    await world.outbox.lease("one", now=now, lease=timedelta(seconds=30), limit=9)

    assert await world.outbox.lease("two", now=now, lease=timedelta(seconds=30), limit=9) is None


async def test_an_event_too_old_is_dead_and_blocks_its_key_alone(world: World) -> None:
    """After its greatest age an event waits for a person, and so do later ones of its key."""
    await world.publish(1, 2, key="a")
    world.broker.refusing = {b"a"}
    relay = world.relay(max_age=timedelta(minutes=1))
    for _ in range(30):
        await world.run(relay)
        world.clock.advance(timedelta(seconds=10))
    world.broker.refusing = set()
    await world.publish(3, key="b")

    await world.run(relay)

    assert world.broker.numbers() == [3]
