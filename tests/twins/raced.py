"""Twins for the schedule explorer: each is right unless another worker comes between."""

import asyncio
from datetime import timedelta
from typing import Any

from tests.twins.gallery import gallery

from onefold.adapters.memory.guard import MemoryGuard
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Lease
from onefold.testing.schedule.explorer import Schedule


class Store:
    """A key-value store: each call is one step."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.done: list[Any] = []
        self.closed = 0

    async def get(self, key: str) -> Any:
        return self.values.get(key)

    async def put(self, key: str, value: Any) -> None:
        self.values[key] = value

    async def put_new(self, key: str, value: Any) -> bool:
        return self.values.setdefault(key, value) is value

    async def add(self, key: str, by: int) -> int:
        self.values[key] = self.values.get(key, 0) + by
        return int(self.values[key])

    async def insert(self, key: str) -> None:
        if key in self.values:
            raise KeyError(f"duplicate key {key}")
        self.values[key] = True

    async def close(self) -> None:
        self.closed += 1


async def _two(schedule: Schedule, work: Any, store: Store) -> None:
    shared = schedule.port(store, "store")
    await schedule.together(work(shared, object()), work(shared, object()))


@gallery.races("a guard that asks, then sets", says="handled twice")
async def get_then_set(schedule: Schedule) -> None:
    store = Store()

    async def work(shared: Any, me: object) -> None:
        if await shared.get("claim") is None:
            await shared.put("claim", me)
            store.done.append(me)

    await _two(schedule, work, store)
    assert len(store.done) == 1, "handled twice"


@gallery.races("a guard that sets if absent, in one step")
async def set_if_absent(schedule: Schedule) -> None:
    store = Store()

    async def work(shared: Any, me: object) -> None:
        if await shared.put_new("claim", me):
            store.done.append(me)

    await _two(schedule, work, store)
    assert len(store.done) == 1


@gallery.races("a row is looked for, then inserted", says="duplicate key")
async def check_then_insert(schedule: Schedule) -> None:
    async def work(shared: Any, _: object) -> None:
        if await shared.get("row") is None:
            await shared.insert("row")

    await _two(schedule, work, Store())


@gallery.races("read, add, write", says="1 of 2")
async def lost_update(schedule: Schedule) -> None:
    store = Store()

    async def work(shared: Any, _: object) -> None:
        await shared.put("count", (await shared.get("count") or 0) + 1)

    await _two(schedule, work, store)
    assert store.values["count"] == 2, f"{store.values['count']} of 2"


@gallery.races("the store adds")
async def added_by_the_store(schedule: Schedule) -> None:
    store = Store()

    async def work(shared: Any, _: object) -> None:
        await shared.add("count", 1)

    await _two(schedule, work, store)
    assert store.values["count"] == 2


@gallery.races("closed again while it is being closed", says="closed 2 times")
async def double_close(schedule: Schedule) -> None:
    store = Store()

    async def work(shared: Any, _: object) -> None:
        if await shared.get("closed") is None:
            await shared.get("flushed")
            await shared.put("closed", True)
            await shared.close()

    await _two(schedule, work, store)
    assert store.closed == 1, f"closed {store.closed} times"


@gallery.races("closed by who first said so")
async def closed_once(schedule: Schedule) -> None:
    store = Store()

    async def work(shared: Any, me: object) -> None:
        if await shared.put_new("closed", me):
            await shared.close()

    await _two(schedule, work, store)
    assert store.closed == 1


@gallery.races("two locks in two orders", says="nothing can go on")
async def locks_in_two_orders(schedule: Schedule) -> None:
    a, b = asyncio.Lock(), asyncio.Lock()

    async def transfer(first: asyncio.Lock, second: asyncio.Lock) -> None:
        async with first:
            await schedule.meet("account")
            async with second:
                await schedule.meet("account")

    await schedule.together(transfer(a, b), transfer(b, a))


@gallery.races("two locks in one order")
async def locks_in_one_order(schedule: Schedule) -> None:
    a, b = asyncio.Lock(), asyncio.Lock()

    async def transfer() -> None:
        async with a:
            await schedule.meet("account")
            async with b:
                await schedule.meet("account")

    await schedule.together(transfer(), transfer())


@gallery.races("looks whether there is work, then forgets that it was woken", says="can go on")
async def lost_wakeup(schedule: Schedule) -> None:
    waiting: list[int] = []
    news = asyncio.Event()

    async def take() -> None:
        await schedule.meet("waiting")
        if not waiting:
            await schedule.meet("waiting")
            news.clear()
            await news.wait()

    async def give() -> None:
        await schedule.meet("waiting")
        waiting.append(1)
        news.set()

    await schedule.together(take(), give())


@gallery.races("a failing message is sought again at once, for ever", says="for ever")
async def seek_loop_without_backoff(schedule: Schedule) -> None:
    store = Store()
    shared = schedule.port(store, "broker")

    async def consume() -> None:
        while await shared.get("applied") is None:
            pass  # its handler fails: seek back, poll again

    await schedule.together(consume())


@gallery.races("a failing message is tried again after a pause")
async def seek_loop_with_backoff(schedule: Schedule) -> None:
    store = Store()
    shared = schedule.port(store, "broker")

    async def consume() -> None:
        pause_s = 1.0
        while await shared.get("applied") is None:
            await schedule.wait(pause_s)
            pause_s *= 2

    async def repair() -> None:
        await schedule.wait(60)
        await shared.put("applied", True)

    await schedule.together(consume(), repair())


_KEY = ClaimKey("c", "", "e")
_LEASE = timedelta(seconds=10)


async def _leased(schedule: Schedule, *, skew_s: float = 0.0, renews: bool) -> list[str]:
    """Two workers of 25 seconds' work under a lease of ten; who did it."""
    guard, done = MemoryGuard(), []
    shared = schedule.port(guard, "guard")

    async def work(name: str, skew: timedelta) -> None:
        def now() -> Any:
            return schedule.clock.now() + skew

        claim = Claim(_KEY, bytes(32))
        (verdict,) = await shared.claim([claim], owner=name, now=now(), lease=_LEASE)
        if not isinstance(verdict, Lease):
            return
        for _ in range(5):
            await schedule.wait(5)
            if renews:
                await shared.renew([verdict], now=now(), lease=_LEASE)
        done.append(name)
        await shared.confirm([Confirmation(verdict)], now=now(), keep=_LEASE)

    async def later() -> None:
        await schedule.wait(12)
        await work("second", timedelta(seconds=skew_s))

    await schedule.together(work("first", timedelta()), later())
    return done


@gallery.races("a claim is taken for stale by its age, while its work is alive", says="twice")
async def stale_recovery_runs_live_work(schedule: Schedule) -> None:
    done = await _leased(schedule, renews=False)
    assert len(done) == 1, f"run twice, by {done}"


@gallery.races("a lease is renewed while the work runs")
async def renewed_while_it_runs(schedule: Schedule) -> None:
    done = await _leased(schedule, renews=True)
    assert done == ["first"]


@gallery.races("a node whose clock is an hour fast takes every lease for ended", says="twice")
async def lease_judged_by_a_fast_clock(schedule: Schedule) -> None:
    done = await _leased(schedule, skew_s=3600, renews=True)
    assert len(done) == 1, f"run twice, by {done}"
