"""The ways to record that an event was applied: what each promises, on every store."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text
from tests.integration.engine.test_consumer import World, effects, event, send

from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.memory.transport import FEATURES
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.adapters.sql.watermarks import SqlWatermarks
from onefold.core.envelope import Event
from onefold.engine.consumer import Consumer
from onefold.engine.dedup import AtWatermark
from onefold.engine.delivery import Delivery, HandlerTransaction
from onefold.engine.failure_policy import FailureAction
from onefold.errors import CommitUnknown
from onefold.ports.transport import Message, Outgoing, Partition
from onefold.ports.unit_of_work import Transaction, UnitOfWork
from onefold.testing.crash.points import Crash, Mortal, Reaper

IN_TRANSACTION = ["transaction", "optimistic", "watermark"]

in_every_transaction = pytest.mark.parametrize("record", IN_TRANSACTION)


async def dies_before_settling(
    world: World, handler: Any, twin: type[AtWatermark] | None = None, **options: Any
) -> None:
    """A worker commits, and dies before the broker hears of it."""
    worker = await world.consumer(handler, **options)
    if twin is not None:
        worker._record.__class__ = twin
    subscription: Any = worker._subscription
    worker._subscription = Mortal(subscription, Reaper("s.settle#1:before"), "s")
    with pytest.raises(Crash):
        await worker.drain()
    await subscription.kill()


async def steps(world: World, consumer: Consumer, count: int = 20) -> None:
    """Work for a while; what waits becomes due."""
    for _ in range(count):
        await consumer.step()
        world.clock.advance(timedelta(seconds=10))


async def published(world: World) -> int:
    """How many events are in the outbox."""
    if isinstance(world.uow, MemoryUnitOfWork):
        return len(world.uow.committed.outbox)
    async with world.uow.read() as tx:
        found = await tx.execute(text("SELECT count(*) FROM onefold_outbox"))
        return int(found.scalar_one())


async def somebody_waits_for_a_lock(world: World) -> None:
    """Asking lets the workers go on until one of them stands before another's row."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    found = 0
    async with asyncio.timeout(15):
        while not found:
            async with world.uow.read() as tx:
                found = (await tx.execute(waiting)).scalar_one()


# -- whatever the transaction holds ---------------------------------------------------------


@in_every_transaction
async def test_what_the_broker_delivers_again_has_one_effect(world: World, record: str) -> None:
    """A worker that dies between commit and settle leaves repeats and nothing else."""
    await send(world.transport, *(event(world.clock, n) for n in range(5)))
    await dies_before_settling(world, world.note, record=record)

    another = await world.consumer(world.note, record=record)
    await another.drain()

    assert sorted(await world.effects()) == [0, 1, 2, 3, 4]
    assert another.counts.repeated >= 1
    assert (another.counts.retried, another.counts.parked) == (0, 0)


@pytest.mark.parametrize("record", [*IN_TRANSACTION, "lease"])
async def test_what_was_applied_is_not_parked_for_the_deaths_after_it(
    world: World, record: str
) -> None:
    """Its workers died of something else, again and again, before the broker heard of it."""
    told = []

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        told.append(event.data["n"])
        if record != "lease":
            await world.note(event, tx)

    options: dict[str, Any] = {"record": record, "max_attempts": 2}
    options |= {"guard": MemoryGuard()} if record == "lease" else {}
    await send(world.transport, event(world.clock, 1))
    for _ in range(5):
        await dies_before_settling(world, handler, **options)

    last = await world.consumer(handler, **options)
    await last.drain()

    assert (set(told), await world.ledger.letters()) == ({1}, [])
    assert (last.counts.repeated, last.counts.parked) == (1, 0)


@in_every_transaction
async def test_a_message_that_cannot_succeed_costs_no_other(world: World, record: str) -> None:
    """It is tried as often as was said, parked, and all others have their effect."""
    runs = []

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if event.data["n"] == 3:
            runs.append(event)
            raise ValueError("three is bad")
        await world.note(event, tx)

    consumer = await world.consumer(handler, record=record, max_attempts=3)
    await send(world.transport, *(event(world.clock, n, key="k") for n in range(6)))

    await steps(world, consumer)

    assert await world.effects() == [0, 1, 2, 4, 5]
    assert [letter["attempts"] for letter in await world.ledger.letters()] == [3]
    assert len(runs) == 1 + 3  # once among the others, then alone


@in_every_transaction
async def test_a_replay_of_a_dead_letter_counts_once(world: World, record: str) -> None:
    """Also where no row says which events were applied."""
    failing = [True]

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if failing:
            raise ValueError("not yet")
        await world.note(event, tx)

    consumer = await world.consumer(handler, record=record, max_attempts=1)
    await send(world.transport, event(world.clock, 1))
    await steps(world, consumer, 3)
    failing.clear()
    (letter,) = await world.ledger.letters()
    now = world.clock.now()
    await world.ledger.move([letter["id"]], to="asked", note="mended", now=now)

    await consumer.replay_asked()
    await consumer.replay_asked()

    assert await world.effects() == [1]
    assert [letter["state"] for letter in await world.ledger.letters()] == ["replayed"]


class LosesAnswers:
    """A unit of work whose next commit is applied, or not, and its answer lost."""

    def __init__(self, inner: UnitOfWork, *, applied: bool) -> None:
        self._inner, self._applied, self._left = inner, applied, 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """See `UnitOfWork`."""
        self._left -= 1
        loses = self._left >= 0
        async with self._inner.begin() as tx:
            yield tx
            if loses and not self._applied:
                raise CommitUnknown("no answer")
        if loses:
            raise CommitUnknown("no answer")


@in_every_transaction
@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not applied"])
async def test_a_lost_answer_to_a_commit_is_never_guessed(
    world: World, record: str, *, applied: bool
) -> None:
    """The record itself is asked: the effect is there once, whatever became of the commit."""
    consumer = await world.consumer(world.note, record=record)
    losing: Any = LosesAnswers(world.uow, applied=applied)
    consumer._record._uow = losing
    await send(world.transport, event(world.clock, 1))

    await consumer.drain()

    assert await world.effects() == [1]
    assert (consumer.counts.commits_unknown, consumer.counts.parked) == (1, 0)


# -- optimistic -----------------------------------------------------------------------------


async def test_a_repeat_that_fails_because_its_effect_is_there_is_a_repeat(world: World) -> None:
    """Run before it is known for a repeat; its failure is neither counted nor parked."""
    one = event(world.clock, 1)
    consumer = await world.consumer(world.note, record="optimistic")
    await send(world.transport, one)
    await consumer.drain()

    await send(world.transport, one, event(world.clock, 2))
    await consumer.drain()

    assert sorted(await world.effects()) == [1, 2]
    assert (consumer.counts.applied, consumer.counts.repeated) == (2, 1)
    assert (consumer.counts.retried, consumer.counts.parked) == (0, 0)


async def test_a_repeat_that_would_succeed_leaves_nothing(world: World) -> None:
    """Its effect and what it published are rolled back with the claim that failed."""

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        await tx.publish("u", {"of": event.data["n"]})

    one = event(world.clock, 1)
    consumer = await world.consumer(handler, record="optimistic")
    await send(world.transport, one, one)
    await consumer.drain()

    assert await published(world) == 1


# -- watermark ------------------------------------------------------------------------------


async def test_a_failing_message_holds_up_its_partition(world: World) -> None:
    """A mark that moved past it would take it for applied after a restart."""
    world.transport.create("orders.placed", 1)

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if event.data["n"] == 1:
            raise ValueError("not yet")
        await world.note(event, tx)

    first = await world.consumer(handler, record="watermark", max_attempts=99)
    await send(world.transport, *(event(world.clock, n, key=str(n)) for n in range(4)))
    await steps(world, first, 3)
    before = await world.effects()
    await first._subscription.close()

    another = await world.consumer(world.note, record="watermark")
    await another.drain()

    assert before == [0]
    assert await world.effects() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "verdict", [FailureAction.PARK, FailureAction.DROP], ids=["parked", "dropped"]
)
async def test_what_is_given_up_moves_the_mark(world: World, verdict: FailureAction) -> None:
    """A restarted worker neither applies it nor stops at it."""
    world.transport.create("orders.placed", 1)

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        raise ValueError

    await send(world.transport, event(world.clock, 0))
    options: dict[str, Any] = {"record": "watermark", "policy": lambda *_: verdict}
    await dies_before_settling(world, handler, **options)

    another = await world.consumer(world.note, record="watermark")
    await another.drain()

    assert await world.effects() == []
    assert another.counts.repeated == 1


class ForgetsWhatIsParked(AtWatermark):
    """Twin: a message that is parked leaves the mark where it was."""

    async def give_up(self, tx: Transaction, delivery: Delivery) -> bool:
        return True


async def test_a_mark_that_stays_before_what_is_parked_is_caught(world: World) -> None:
    """After a restart the dead letter has its effect as well, and again when it is replayed."""

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        raise ValueError

    await send(world.transport, event(world.clock, 0))
    twin = ForgetsWhatIsParked
    await dies_before_settling(world, handler, twin, record="watermark", max_attempts=1)

    another = await world.consumer(world.note, record="watermark")
    await another.drain()

    assert (await world.effects(), len(await world.ledger.letters())) == ([0], 1)


async def test_undecodable_bytes_move_the_mark_too(world: World) -> None:
    """They are parked once, and what follows is applied."""
    world.transport.create("orders.placed", 1)
    await world.transport.publish([Outgoing(topic="orders.placed", key=None, value=b"\xff{")])
    await send(world.transport, event(world.clock, 1))
    await dies_before_settling(world, world.note, record="watermark")

    await (await world.consumer(world.note, record="watermark")).drain()

    assert await world.effects() == [1]
    assert len(await world.ledger.letters()) == 1


async def test_a_producers_repeat_is_not_noticed(world: World) -> None:
    """The limit of the mode, as its docs say: two positions, two effects."""
    ran = []

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        ran.append(event.id)

    one = event(world.clock, 1)
    await send(world.transport, one, one)

    await (await world.consumer(handler, record="watermark")).drain()

    assert ran == [one.id, one.id]


class Same:
    """A subscription that gives one member's messages to a worker that lost them: a zombie's."""

    features = FEATURES

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    async def receive(self, *, max_messages: int, wait_s: float) -> list[Message]:
        taken, self._messages = self._messages, []
        return taken

    async def settle(self, messages: Collection[Message]) -> Collection[Message]:
        return messages

    async def lost(self) -> Collection[tuple[Partition, int]]:
        return ()


class Blind(SqlWatermarks):
    """Twin: moves the mark whatever it is by now."""

    async def advance(self, tx: Transaction, *args: Any, seen: int | None, **named: Any) -> bool:
        if not await super().advance(tx, *args, seen=seen, **named):
            held = await self.held(tx, args[0], [args[1]])
            return await super().advance(tx, *args, seen=held[args[1]], **named)
        return True


async def two_workers_on_one_partition(
    world: World, watermarks: SqlWatermarks
) -> Mapping[str, int]:
    """Both have message 0 in their hands; how often each applied it."""
    running, go_on = asyncio.Event(), asyncio.Event()

    def handler(name: str) -> Any:
        async def run(event: Event, tx: HandlerTransaction) -> None:
            await tx.execute(insert(effects).values(number=ord(name), position=0))
            running.set()
            await go_on.wait()

        return run

    world.transport.create("orders.placed", 1)
    world.watermarks = watermarks
    await send(world.transport, event(world.clock, 0))
    workers = {name: await world.consumer(handler(name), record="watermark") for name in "ab"}
    (message,) = world.transport.log(Partition("orders.placed", 0))
    for worker in workers.values():
        worker._subscription = Same([message])  # type: ignore[assignment]
    a = asyncio.create_task(workers["a"].step())
    await running.wait()
    b = asyncio.create_task(workers["b"].step())
    await somebody_waits_for_a_lock(world)
    go_on.set()
    await asyncio.gather(a, b)
    return {name: worker.counts.applied for name, worker in workers.items()}


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_two_workers_cannot_both_advance(world: World) -> None:
    """On a rebalance that one of them did not notice: one effect, and the other is REPEATED."""
    assert await two_workers_on_one_partition(world, SqlWatermarks()) == {"a": 1, "b": 0}
    assert await world.effects() == [ord("a")]


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_a_mark_that_is_moved_blindly_is_caught(world: World) -> None:
    """Without the condition both commit."""
    assert await two_workers_on_one_partition(world, Blind()) == {"a": 1, "b": 1}
    assert sorted(await world.effects()) == [ord("a"), ord("b")]
