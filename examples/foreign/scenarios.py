"""
What other libraries' documentation shows, as scenarios for the crash explorer.

Our own words and code: each is the order of steps that the page describes, over an honest
queue, cache and world. Nothing of the libraries themselves is run. `python scenarios.py`
prints what is found.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace

from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.testing import Effect, ManualClock, Reaper, Scenario, explore

LOCK_EXPIRES = timedelta(minutes=10)


@dataclass
class Queue:
    """Delivers again what was not acknowledged."""

    messages: list[str] = field(default_factory=lambda: ["a", "b"])

    async def receive(self) -> str | None:
        return self.messages[0] if self.messages else None

    async def acknowledge(self, message: str) -> None:
        if message in self.messages:
            self.messages.remove(message)


@dataclass
class Cache:
    """Adds in one step, and forgets when its time is over."""

    clock: ManualClock
    entries: dict[str, tuple[str, datetime]] = field(default_factory=dict)

    async def get(self, key: str) -> str | None:
        value, until = self.entries.get(key, ("", self.clock.now()))
        return value if until > self.clock.now() else None

    async def add(self, key: str, value: str, expires: timedelta) -> bool:
        if await self.get(key) is not None:
            return False
        await self.put(key, value, expires)
        return True

    async def put(self, key: str, value: str, expires: timedelta) -> None:
        self.entries[key] = (value, self.clock.now() + expires)

    async def delete(self, key: str) -> None:
        self.entries.pop(key, None)


@dataclass
class World:
    """What is outside: a mail that was sent is sent."""

    mails: list[str] = field(default_factory=list)

    async def mail(self, to: str) -> None:
        self.mails.append(to)


Hands = SimpleNamespace  # the parts as one process has them
Task = Callable[[Hands, str], Awaitable[None]]


async def acknowledged_early(my: Hands, message: str) -> None:
    """Celery's default: acknowledged just before it is executed."""
    await my.queue.acknowledge(message)
    await my.world.mail(message)


async def acknowledged_late(my: Hands, message: str) -> None:
    """Celery's `acks_late`: acknowledged after the task has returned."""
    await my.world.mail(message)
    await my.queue.acknowledge(message)


async def one_at_a_time(my: Hands, message: str) -> None:
    """Celery's cookbook: a lock with an expiry around a task; who does not get it, leaves."""
    if await my.cache.add(f"lock {message}", "mine", LOCK_EXPIRES):
        until = my.clock.now() + LOCK_EXPIRES - timedelta(seconds=3)
        await my.world.mail(message)
        if my.clock.now() < until:
            await my.cache.delete(f"lock {message}")
    await my.queue.acknowledge(message)


async def in_progress_record(my: Hands, message: str) -> None:
    """
    Powertools for AWS Lambda: INPROGRESS with an expiry, the function, COMPLETED.

    Found in progress, it raises, and the message is delivered again later.
    """
    if not await my.cache.add(message, "INPROGRESS", LOCK_EXPIRES):
        if await my.cache.get(message) == "INPROGRESS":
            my.clock.advance(LOCK_EXPIRES)
            return
    else:
        await my.world.mail(message)
        await my.cache.put(message, "COMPLETED", timedelta(hours=1))
    await my.queue.acknowledge(message)


async def inbox_in_the_transaction(my: Hands, message: str) -> None:
    """Onefold: the record, and the mail as an outbox row, in one transaction."""
    async with my.uow.begin() as tx:
        if await tx.claim("mailer", message, now=my.clock.now()):
            tx.records.setdefault("mails", []).append(message)
    await my.queue.acknowledge(message)


TASKS: dict[str, Task] = {
    task.__name__: task
    for task in (
        acknowledged_early,
        acknowledged_late,
        one_at_a_time,
        in_progress_record,
        inbox_in_the_transaction,
    )
}


def scenario(task: Task) -> Scenario:
    """Two messages, a worker that may die anywhere, and another that starts in its place."""
    clock, queue, world, uow = ManualClock(), Queue(), World(), MemoryUnitOfWork()
    cache = Cache(clock)

    async def run(process: Reaper) -> None:
        parts = {"queue": queue, "cache": cache, "world": world, "uow": uow}
        my = Hands(clock=clock, **{name: process.mortal(p, name) for name, p in parts.items()})
        while (message := await my.queue.receive()) is not None:
            await task(my, message)

    async def mails() -> list[Effect]:
        return [Effect(to) for to in [*world.mails, *uow.committed.records.get("mails", [])]]

    return Scenario(run=run, expected=[Effect("a"), Effect("b")], effects=mails)


async def found_in(task: Task) -> tuple[int, int, int]:
    """Of how many deaths, how many lose a mail, and how many send one twice."""
    found = await explore(lambda: scenario(task))
    promises = [{one.promise for one in failure.broken} for failure in found.broken.values()]
    lost, doubled = (sum(name in broken for broken in promises) for name in ("lost", "doubled"))
    return len(found.deaths), lost, doubled


def main() -> None:
    """Print what is found."""
    logging.disable(logging.CRITICAL)
    for name, task in TASKS.items():
        deaths, lost, doubled = asyncio.run(found_in(task))
        print(f"| `{name}` | {deaths} | {lost} | {doubled} |")


if __name__ == "__main__":
    main()
