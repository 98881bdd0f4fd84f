"""Consumers over every store: an effect per event, whatever comes again."""

import asyncio
from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any, cast

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.memory.unit_of_work import MemoryTransaction, MemoryUnitOfWork
from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.delivery import Environment, HandlerTransaction, async_handler
from onefold.engine.failure_policy import Park
from onefold.errors import CommitUnknown
from onefold.ports.ledger import Ledger
from onefold.ports.transport import Outgoing
from onefold.ports.unit_of_work import UnitOfWork
from onefold.ports.watermarks import Watermarks
from onefold.testing.clock import ManualClock
from onefold.testing.crash.points import Crash


def surroundings(clock: ManualClock, seed: int = 1) -> Environment:
    """Seeded chance, and sleeping that moves the clock."""
    random = Random(seed)

    async def sleep(seconds: float) -> None:
        clock.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)

    return Environment(clock=clock, random=random.randbytes, jitter=random.random, sleep=sleep)


def event(clock: ManualClock, number: int, key: str | None = None) -> Event:
    return Event.new(
        "orders.placed",
        {"n": number},
        source="shop",
        key=key,
        now=clock.now(),
        random=Random(number).randbytes,
    )


async def send(transport: MemoryTransport, *events: Event, topic: str = "orders.placed") -> None:
    messages = [
        Outgoing(topic=topic, key=e.key.encode() if e.key else None, value=encode_native(e))
        for e in events
    ]
    assert [None] * len(events) == list(await transport.publish(messages))


effects = Table(
    "test_effects",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("position", Integer),
)


class World:
    """One store, one broker, and a handler whose effect is a row per event."""

    def __init__(
        self, clock: ManualClock, uow: UnitOfWork, ledger: Ledger, watermarks: Watermarks
    ) -> None:
        self.clock, self.uow, self.ledger, self.watermarks = clock, uow, ledger, watermarks
        self.transport = MemoryTransport()
        self._ran = self._members = 0

    async def consumer(self, handler: Any, **options: Any) -> Consumer:
        """Another member of the group, with this handler."""
        self._members += 1
        run = async_handler(handler)
        spec = ConsumerSpec(name="c", topics=("orders.placed",), handler=run, **options)
        return Consumer(
            spec,
            subscription=await self.transport.subscribe("c", ["orders.placed"]),
            uow=self.uow,
            ledger=self.ledger,
            env=surroundings(self.clock, self._members),  # each process has its own chance
            watermarks=self.watermarks,
            poll_s=0,
        )

    async def note(self, event: Event, tx: HandlerTransaction) -> None:
        """The effect: fails if it happens twice."""
        self._ran += 1
        row = {"number": event.data["n"], "position": self._ran}
        if isinstance(tx.tx, MemoryTransaction):
            rows = tx.tx.records.setdefault("effects", {})
            assert row["number"] not in rows
            rows[row["number"]] = row["position"]
        else:
            await tx.execute(insert(effects).values(row))

    async def effects(self) -> list[int]:
        """The numbers of the events that had their effect, in the order it happened."""
        if isinstance(self.uow, MemoryUnitOfWork):
            rows = self.uow.committed.records.get("effects", {})
            return sorted(rows, key=rows.get)
        async with self.uow.read() as tx:
            query = select(effects.c.number).order_by(effects.c.position)
            return list((await tx.execute(query)).scalars())


async def test_a_repeated_event_has_one_effect(world: World) -> None:
    """What the broker delivers twice is applied once."""
    consumer = await world.consumer(world.note)
    one = event(world.clock, 1)
    await send(world.transport, one, one, event(world.clock, 2))

    await consumer.drain()

    assert sorted(await world.effects()) == [1, 2]
    assert (consumer.counts.applied, consumer.counts.repeated) == (2, 1)


async def test_a_failing_message_is_parked_and_costs_no_other(world: World) -> None:
    """One message that can never succeed is parked after its attempts; all others count."""

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if event.data["n"] == 3:
            raise ValueError("three is bad")
        await world.note(event, tx)

    consumer = await world.consumer(handler, max_attempts=3)
    await send(world.transport, *(event(world.clock, n) for n in range(6)))

    for _ in range(20):
        await consumer.step()
        world.clock.advance(timedelta(seconds=10))

    assert sorted(await world.effects()) == [0, 1, 2, 4, 5]
    (letter,) = await world.ledger.letters()
    assert (
        letter["reason"],
        letter["detail"],
        letter["attempts"],
    ) == ("ValueError", "three is bad", 3)


async def test_later_messages_of_a_failing_key_wait_for_it(world: World) -> None:
    """The order of a key holds across retries; other keys go on meanwhile."""
    failing = [True, True]

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if event.data["n"] == 1 and failing:
            failing.pop()
            raise ValueError("not yet")
        await world.note(event, tx)

    consumer = await world.consumer(handler)
    keyed = [event(world.clock, n, key="a" if n < 4 else "b") for n in range(1, 6)]
    await send(world.transport, *keyed)
    await consumer.step()
    before = await world.effects()
    await send(world.transport, event(world.clock, 6, key="a"))

    for _ in range(10):
        await consumer.step()
        world.clock.advance(timedelta(seconds=10))

    assert before == [4, 5]
    assert [n for n in await world.effects() if n not in {4, 5}] == [1, 2, 3, 6]


async def test_a_handler_can_park_at_once(world: World) -> None:
    """`Park` needs no attempts."""

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        raise Park("never")

    consumer = await world.consumer(handler)
    await send(world.transport, event(world.clock, 1))

    await consumer.drain()

    assert [letter["reason"] for letter in await world.ledger.letters()] == ["never"]
    assert consumer.waiting == 0


async def test_undecodable_bytes_are_parked_with_all_that_is_known(world: World) -> None:
    """Bytes that are no event go to the dead letters at once, raw."""
    consumer = await world.consumer(world.note)
    await world.transport.publish([Outgoing(topic="orders.placed", key=None, value=b"\xff{")])
    await send(world.transport, event(world.clock, 1))

    await consumer.drain()

    (letter,) = await world.ledger.letters()
    assert (letter["reason"], letter["value"]) == ("undecodable", b"\xff{")
    assert await world.effects() == [1]


class LosesAnswers:
    """A ledger whose first commits are never heard of; they are there all the same."""

    def __init__(self, ledger: Ledger, *, lost: int, of: str = "count") -> None:
        self._ledger, self._lost, self._of = ledger, lost, of
        self.calls = Counter[str]()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._ledger, name)

        async def call(*args: Any, **named: Any) -> Any:
            self.calls[name] += 1
            answer = await method(*args, **named)
            if name == self._of and self._lost:
                self._lost -= 1
                raise CommitUnknown("the connection broke")
            return answer

        return call


async def test_a_start_whose_answer_was_lost_is_no_second_start(world: World) -> None:
    """A message that would succeed at its last attempt is not parked for a broken connection."""
    failing = ["once"]

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if failing:
            raise ValueError(failing.pop())
        await world.note(event, tx)

    world.ledger = cast("Ledger", LosesAnswers(world.ledger, lost=3))
    consumer = await world.consumer(handler, max_attempts=2)
    await send(world.transport, event(world.clock, 1))
    for _ in range(5):
        await consumer.step()
        world.clock.advance(timedelta(seconds=10))

    assert await world.effects() == [1]
    assert await world.ledger.letters() == []
    assert consumer.counts.commits_unknown == 3


async def test_a_consumer_whose_answer_was_lost_does_not_suspect_itself(world: World) -> None:
    """It began its messages and died of none: they stay together, and no start is counted."""
    ledger = LosesAnswers(world.ledger, lost=2, of="begin")
    world.ledger = cast("Ledger", ledger)
    consumer = await world.consumer(world.note)
    await send(world.transport, *(event(world.clock, n) for n in range(4)))

    await consumer.step()

    assert sorted(await world.effects()) == [0, 1, 2, 3]
    assert (consumer.counts.commits_unknown, ledger.calls["count"]) == (2, 0)


async def test_a_lost_answer_hides_no_message_that_may_kill(world: World) -> None:
    """Another worker began them and died: who comes next still begins each by itself."""

    async def dies(_: Event, __: HandlerTransaction) -> None:
        raise Crash("the handler took its process with it")

    died = await world.consumer(dies)
    await send(world.transport, *(event(world.clock, n) for n in range(4)))
    with pytest.raises(Crash):
        await died.step()
    await died._subscription.close()
    ledger = LosesAnswers(world.ledger, lost=2, of="begin")
    world.ledger = cast("Ledger", ledger)
    consumer = await world.consumer(world.note)

    await consumer.drain()

    assert sorted(await world.effects()) == [0, 1, 2, 3]
    assert (consumer.counts.commits_unknown, ledger.calls["count"]) == (2, 4)


async def test_what_is_begun_in_pieces_keeps_its_order_around_what_fails(world: World) -> None:
    """A later piece waits behind a message that failed in an earlier one; other keys go on."""

    async def dies(_: Event, __: HandlerTransaction) -> None:
        raise Crash("the handler took its process with it")

    failing = ["together", "alone"]

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if event.data["n"] == 6 and failing:
            raise ValueError(failing.pop())
        await world.note(event, tx)

    died = await world.consumer(dies)
    await send(world.transport, *(event(world.clock, n, key="ab"[n % 2]) for n in range(80)))
    with pytest.raises(Crash):
        await died.step()
    await died._subscription.close()
    consumer = await world.consumer(handler)

    await consumer.step()
    first = await world.effects()
    world.clock.advance(timedelta(seconds=10))
    await consumer.drain()

    assert sorted(first) == sorted([*range(1, 80, 2), 0, 2, 4])
    found = await world.effects()
    assert [n for n in found if n % 2] == list(range(1, 80, 2))
    assert [n for n in found if n % 2 == 0] == list(range(0, 80, 2))


async def test_a_large_poll_is_kept_in_order_around_what_fails(world: World) -> None:
    """More than is read at once, with and without keys: one bad message costs itself alone."""
    bad = 600

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if event.data["n"] == bad:
            raise Park("bad")
        await world.note(event, tx)

    keys = [None, *"abc"]
    await send(world.transport, *(event(world.clock, n, key=keys[n % 4]) for n in range(1200)))
    garbage = Outgoing(topic="orders.placed", key=b"a", value=b"{")
    await world.transport.publish([garbage])
    consumer = await world.consumer(handler, max_batch=2000, concurrency=2)

    await consumer.drain()

    done = await world.effects()
    assert sorted(done) == [n for n in range(1200) if n != bad]
    for start in (1, 2, 3):
        of_key = [n for n in done if n % 4 == start]
        assert of_key == sorted(of_key)
    letters = await world.ledger.letters()
    assert sorted(letter["reason"] for letter in letters) == ["bad", "undecodable"]
