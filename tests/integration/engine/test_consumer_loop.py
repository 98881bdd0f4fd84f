"""A consumer inside a server: it begins again, longer each time, and tells how it is."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.integration.engine.test_consumer import event, send, surroundings

from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.transport import MemorySubscription, MemoryTransport
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.core.envelope import Event
from onefold.engine.consumer import ConsumerSpec
from onefold.engine.consumer_loop import STALLED, ConsumerLoop
from onefold.engine.delivery import HandlerTransaction
from onefold.errors import StoreUnavailable
from onefold.ports.transport import Partition
from onefold.testing.clock import ManualClock

_STALLED_S = STALLED.total_seconds()


class Moody(MemoryTransport):
    """A broker that refuses the first *bad* members."""

    def __init__(self, bad: int) -> None:
        super().__init__(partitions=2)
        self.bad, self.asked, self.over = bad, 0, asyncio.Event()

    async def subscribe(self, group: str, topics: Collection[str]) -> MemorySubscription:
        self.asked += 1
        if self.asked <= self.bad:
            raise StoreUnavailable(f"no broker yet, {self.asked}")
        self.over.set()
        return await super().subscribe(group, topics)


class Kitchen:
    """A feed over memory whose handler notes what it got."""

    def __init__(self, clock: ManualClock, transport: Moody) -> None:
        self.seen: list[int] = []
        self.news = asyncio.Event()
        self.clock, self.transport, self.uow = clock, transport, MemoryUnitOfWork()
        spec = ConsumerSpec(name="c", topics=("orders.placed",), handler=self._handled)
        self.feed = ConsumerLoop(
            spec,
            uow=self.uow,
            ledger=MemoryLedger(self.uow),
            transport=transport,
            env=surroundings(clock),
            poll_s=0.01,
        )

    async def _handled(self, got: Event, tx: HandlerTransaction) -> None:
        await self.handle(got, tx)

    async def handle(self, got: Event, _: HandlerTransaction) -> None:
        self.seen.append(got.data["n"])
        self.news.set()


async def test_a_feed_that_works_tells_what_it_holds(clock: ManualClock) -> None:
    """Running, its partitions with their lag, nothing wrong; after the stop, not running."""
    kitchen = Kitchen(clock, Moody(bad=0))
    kitchen.transport.create("orders.placed", 2)
    kitchen.feed.start()
    await send(kitchen.transport, event(clock, 1))
    await asyncio.wait_for(kitchen.news.wait(), 5)

    while (state := kitchen.feed.state()).lag:  # noqa: ASYNC110 (nothing else tells)
        await asyncio.sleep(0)
    await kitchen.feed.stop()
    await kitchen.feed.stop()

    assert (state.running, state.alive, state.last_error, state.restarts) == (True, True, None, 0)
    assert set(state.partitions) == {Partition("orders.placed", n) for n in (0, 1)}
    assert kitchen.seen == [1]
    stopped = kitchen.feed.state()
    assert (stopped.running, stopped.alive, stopped.partitions) == (False, False, {})


async def test_a_feed_begins_again_with_longer_pauses(clock: ManualClock) -> None:
    """The broker comes back: what waited is handled, and the error is forgotten."""
    began = clock.now()
    kitchen = Kitchen(clock, Moody(bad=6))
    kitchen.feed.start()
    await asyncio.wait_for(kitchen.transport.over.wait(), 5)
    await send(kitchen.transport, event(clock, 7))
    await asyncio.wait_for(kitchen.news.wait(), 5)
    while kitchen.feed.state().last_error:  # noqa: ASYNC110 (nothing else tells)
        await asyncio.sleep(0)
    state = kitchen.feed.state()
    await kitchen.feed.stop()

    assert (state.restarts, state.running) == (6, True)
    assert clock.now() - began > timedelta(seconds=1)
    assert kitchen.seen == [7]


async def test_a_feed_without_progress_is_dead(clock: ManualClock) -> None:
    """It still runs and tries; whoever asks is told that it gets nowhere, and why."""
    kitchen = Kitchen(clock, Moody(bad=10_000))
    kitchen.feed.start()
    async with asyncio.timeout(5):
        while (state := kitchen.feed.state()).since_progress_s < _STALLED_S:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await kitchen.feed.stop()

    assert (state.running, state.alive) == (True, False)
    assert "no broker yet" in str(state.last_error)


@pytest.mark.parametrize("moments", [0, 3])
async def test_a_feed_stops_at_any_moment(clock: ManualClock, moments: int) -> None:
    """Before its first step, and in the middle of one."""
    kitchen = Kitchen(clock, Moody(bad=0))
    kitchen.feed.start()
    for _ in range(moments):
        await asyncio.sleep(0)

    await kitchen.feed.stop()

    assert not kitchen.feed.state().running


async def test_a_drain_finishes_the_message_under_way(clock: ManualClock) -> None:
    """It is applied and settled: no other member gets it again."""
    kitchen, began, release = Kitchen(clock, Moody(bad=0)), asyncio.Event(), asyncio.Event()
    kitchen.transport.create("orders.placed", 2)

    async def held(got: Event, _: HandlerTransaction) -> None:
        began.set()
        await release.wait()
        kitchen.seen.append(got.data["n"])

    kitchen.handle = held  # type: ignore[method-assign]
    kitchen.feed.start()
    await send(kitchen.transport, event(clock, 1))
    async with asyncio.timeout(5):
        await began.wait()
        draining = asyncio.create_task(kitchen.feed.drain())
        await asyncio.sleep(0)
        release.set()
        await draining

    assert kitchen.seen == [1]
    assert kitchen.feed.counts.applied == 1
    settled = await kitchen.transport.settled_to("c", ["orders.placed"])
    assert settled is not None
    assert sum(settled.values()) == 1


async def test_a_drain_does_not_wait_for_a_backoff(clock: ManualClock) -> None:
    """A broker that is down keeps no process from ending."""
    kitchen, asleep = Kitchen(clock, Moody(bad=10_000)), asyncio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    kitchen.feed._env = replace(kitchen.feed._env, sleep=sleep)
    kitchen.feed.start()
    async with asyncio.timeout(5):
        await asleep.wait()
        await kitchen.feed.drain()

    assert not kitchen.feed.state().running
