"""Manual time: it moves when told, jumps when all wait, and differs from node to node."""

import asyncio
from datetime import datetime, timedelta

import pytest

from onefold.testing.clock import ManualClock

HOUR = timedelta(hours=1)


async def test_who_waits_wakes_when_the_clock_has_come_that_far() -> None:
    """Not before, and the longest due first."""
    clock, woken = ManualClock(), []

    async def wait(seconds: float) -> None:
        await clock.wait(seconds)
        woken.append(seconds)

    async with asyncio.TaskGroup() as group:
        for seconds in (30.0, 10.0, 0.0):
            group.create_task(wait(seconds))
        await asyncio.sleep(0)
        clock.advance(timedelta(seconds=9.9))
        await asyncio.sleep(0)
        assert woken == [0.0]
        clock.advance(timedelta(seconds=30))

    assert woken == [0.0, 10.0, 30.0]


async def test_it_jumps_when_every_task_waits() -> None:
    """A day of sleeping takes no time, and each sleeper sees its own instant."""
    clock = ManualClock()
    start, seen = clock.now(), []

    async def sleeper(hours: int) -> None:
        for _ in range(3):
            await clock.wait(hours * 3600)
            seen.append((clock.now() - start) // HOUR)

    async with clock.jumping():
        await asyncio.gather(sleeper(4), sleeper(7))

    assert seen == [4, 7, 8, 12, 14, 21]


async def test_it_does_not_jump_while_a_task_works() -> None:
    """Who has something to do sees no time pass."""
    clock = ManualClock()
    start = clock.now()

    async def work() -> datetime:
        for _ in range(50):
            await asyncio.sleep(0)
        return clock.now()

    async with clock.jumping():
        sleeper = asyncio.create_task(clock.wait(60))
        assert await work() == start
        await sleeper
    assert clock.now() - start == timedelta(minutes=1)


async def test_a_cancelled_sleeper_is_not_jumped_to() -> None:
    """Nobody wakes for who has gone."""
    clock = ManualClock()
    start = clock.now()
    gone = asyncio.create_task(clock.wait(5))
    await asyncio.sleep(0)
    gone.cancel()

    async with clock.jumping():
        await clock.wait(60)

    assert clock.now() - start == timedelta(minutes=1)


def test_a_node_is_wrong_by_its_skew() -> None:
    """It goes with the others, and stays as wrong as it was."""
    clock = ManualClock()
    late = clock.node(-HOUR)

    clock.advance(HOUR)

    assert clock.now() - late.now() == HOUR
    with pytest.raises(ValueError, match="time zone"):
        clock.set(datetime(2026, 1, 1))  # noqa: DTZ001 (that is the fault)
