"""A clock that stands still until it is told to move."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Any


class ManualClock:
    """A `core.clock.Clock` whose time only `advance`, `set` and `jumping` change."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = start
        self._asleep: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._sleepers = count()

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move by *by*, which may be negative, as real clocks are set back too."""
        self._now += by
        self._wake()
        return self._now

    def set(self, now: datetime) -> None:
        """Jump to *now*, which must be aware."""
        if now.tzinfo is None:
            raise ValueError(f"an instant needs a time zone: {now!r}")
        self._now = now
        self._wake()

    async def sleep(self, seconds: float) -> None:
        """What sleeps by this clock: lets others run once, and that much time has passed."""
        await asyncio.sleep(0)
        self.advance(timedelta(seconds=seconds))

    async def wait(self, seconds: float) -> None:
        """Sleep until somebody else has moved the clock that far."""
        waking = asyncio.get_running_loop().create_future()
        due = self._now + timedelta(seconds=seconds)
        if due > self._now:
            heappush(self._asleep, (due, next(self._sleepers), waking))
            await waking
        else:
            await asyncio.sleep(0)

    @asynccontextmanager
    async def jumping(self) -> AsyncIterator[None]:
        """
        In the block, jump to the next who sleeps in `wait` whenever every task waits.

        Limit: a task that waits for an answer from outside the process counts as waiting;
        use it where all parts are in memory.
        """
        jumps = asyncio.create_task(self._jump_when_idle(), name="ManualClock.jumping")
        try:
            yield
        finally:
            jumps.cancel()
            await asyncio.wait((jumps,))

    def node(self, skew: timedelta) -> "SkewedClock":
        """The clock of another machine, wrong by *skew*."""
        return SkewedClock(self, skew)

    def _wake(self) -> None:
        while self._asleep and self._asleep[0][0] <= self._now:
            waking = heappop(self._asleep)[2]
            if not waking.done():
                waking.set_result(None)

    async def _jump_when_idle(self) -> None:
        loop: Any = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)
            while self._asleep and self._asleep[0][2].done():
                heappop(self._asleep)
            # Nothing but this task could run in this pass of the loop.
            if not loop._ready and self._asleep:  # noqa: SLF001 (asyncio says it nowhere else)
                self.set(self._asleep[0][0])


class SkewedClock:
    """A `core.clock.Clock` that goes with another one and is wrong by `skew`."""

    def __init__(self, base: ManualClock, skew: timedelta) -> None:
        self._base, self.skew = base, skew

    def now(self) -> datetime:
        return self._base.now() + self.skew
