"""
How fast the test kit searches: `python -m benchmarks.testing [--once]`.

Deaths of a relay with three events on SQLite; schedules of two workers over one store in
memory, with ten events, with our guard, and with the whole consumer. Wall and CPU seconds,
since the machine is shared.
"""

import argparse
import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from tests.crash.deep import migrated
from tests.crash.stores import Fresh, relay_scenario
from tests.crash.test_consumer_deaths import World

from onefold.adapters.memory.guard import MemoryGuard
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Lease
from onefold.testing import Schedule, explore, explore_schedules, racing

LEASE = timedelta(seconds=30)


class Inbox:
    """Claims in a set."""

    def __init__(self) -> None:
        self.claimed: set[int] = set()

    async def claim(self, event: int) -> bool:
        first = event not in self.claimed
        self.claimed.add(event)
        return first


async def ten_events(schedule: Schedule) -> None:
    """Two workers, each offered the same ten events."""
    inbox = schedule.port(Inbox(), "inbox")

    async def worker() -> int:
        return sum([await inbox.claim(event) for event in range(10)])

    assert sum(await schedule.together(worker(), worker())) == 10


async def guarded(schedule: Schedule) -> None:
    """Two workers, one event, our guard: claim, work, confirm."""
    guard, applied = schedule.port(MemoryGuard(), "guard"), []
    claim = Claim(ClaimKey("c", "", "e"), bytes(32))

    async def worker(name: str) -> None:
        now = schedule.clock.now()
        (verdict,) = await guard.claim([claim], owner=name, now=now, lease=LEASE)
        if isinstance(verdict, Lease):
            applied.append(name)
            await guard.confirm([Confirmation(verdict)], now=now, keep=LEASE)

    await schedule.together(worker("a"), worker("b"))
    assert len(applied) == 1


def measured(what: str, count: Callable[[], int]) -> None:
    """One line: how many, in how many seconds, by the clock and by the processor."""
    wall, cpu = perf_counter(), process_time()
    number = count()
    wall, cpu = perf_counter() - wall, process_time() - cpu
    print(f"{what:<44} {number:>7} {wall:>8.2f} {cpu:>8.2f} {number / cpu:>10.0f}")


def schedules(scenario: Any, runs: int) -> int:
    """How many were run; none of them may fail."""
    found = explore_schedules(scenario, runs=runs)
    found.verify()
    return found.runs


def deaths() -> int:
    """How many deaths of the relay were died; none of them may lose."""

    async def died() -> int:
        with TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'relay.db'}"
            await migrated(url)
            fresh = Fresh(url)
            found = await explore(partial(relay_scenario, fresh, 3))
            await fresh.aclose()
        found.verify()
        return len(found.deaths)

    return asyncio.run(died())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="does it work?")
    share = 100 if parser.parse_args().once else 1
    print(f"{'what':<44} {'number':>7} {'wall s':>8} {'CPU s':>8} {'per CPU s':>10}")
    measured("deaths: relay, 3 events, SQLite", deaths)
    measured("schedules: 2 workers, 10 events", lambda: schedules(ten_events, 20_000 // share))
    measured("schedules: 2 workers, our guard", lambda: schedules(guarded, 20_000 // share))
    whole = racing(lambda: World(max_batch=2).scenario())
    measured("schedules: 2 of our consumers, 7 messages", lambda: schedules(whole, 1_000 // share))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    main()
