"""`make explore`: our own relay and consumer under every death and many schedules."""

import argparse
import asyncio
import logging
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from tests.crash.brokers import on_kafka, on_valkey
from tests.crash.stores import Fresh, consumer_scenario, relay_scenario
from tests.crash.test_consumer_deaths import World
from tests.crash.test_relay_deaths import World as RelayWorld

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import migrate
from onefold.testing.crash.explorer import Explored, Make, explore
from onefold.testing.schedule.explorer import explore_schedules, racing
from onefold.testing.servers import Missing, postgres, valkey

SHORT, DEEP = 300, 100_000


async def migrated(url: str) -> None:
    database = Database(url)
    await migrate(database)
    await database.aclose()


class Tally:
    """What was explored so far, and what was found."""

    def __init__(self) -> None:
        self.deaths = self.schedules = 0
        self.promises = {"lost": 0, "doubled": 0}
        self.failures: list[str] = []

    async def die(self, name: str, make: Make, **how: int) -> None:
        """Explore the deaths of one scenario."""
        start = perf_counter()
        found: Explored = await explore(make, **how)  # type: ignore[arg-type]
        self.deaths += len(found.deaths)
        for failure in found.broken.values():
            self._broke(str(failure), {broken.promise for broken in failure.broken})
        self._say(name, f"{len(found.deaths)} deaths", perf_counter() - start)

    def race(self, name: str, make: Make, *, runs: int, seed: str) -> None:
        """Explore schedules of two processes of one scenario."""
        start = perf_counter()
        found = explore_schedules(racing(make), runs=runs, seed=seed)
        self.schedules += found.runs
        if found.failure is not None:
            text = str(found.failure)
            self._broke(text, {promise for promise in self.promises if promise in text})
        self._say(name, f"{found.runs} schedules", perf_counter() - start)

    def _broke(self, report: str, promises: set[str]) -> None:
        self.failures.append(report)
        for promise in promises & self.promises.keys():
            self.promises[promise] += 1

    @staticmethod
    def _say(name: str, what: str, seconds: float) -> None:
        print(f"{name:<34} {what:>18} {seconds:>8.1f} s", flush=True)  # noqa: T201 (a program)


async def _on_databases(tally: Tally, folder: Path, *, postgres_too: bool) -> None:
    template = f"sqlite:///{folder / 'template.db'}"
    await migrated(template)
    stores = {"SQLite": template}
    if not postgres_too:
        await _each(tally, stores)
        return
    try:
        with postgres(migrated) as server:
            await _each(tally, stores | {"PostgreSQL": server.lend()})
    except Missing as missing:
        print(f"without PostgreSQL: {missing}")  # noqa: T201
        await _each(tally, stores)


async def _on_brokers(tally: Tally, *, kafka_too: bool) -> None:
    try:
        with valkey() as url:
            await tally.die("chain, Valkey streams", on_valkey(url, "deep"))
    except Missing as missing:
        print(f"without Valkey: {missing}")  # noqa: T201
    if kafka_too:
        await tally.die("chain, Kafka (mock)", on_kafka, at_once=16)


async def _each(tally: Tally, stores: dict[str, str]) -> None:
    for name, url in stores.items():
        fresh = Fresh(url)
        await tally.die(f"relay, {name}", partial(relay_scenario, fresh, 3))
        await tally.die(f"consumer, {name}", partial(consumer_scenario, fresh, 3))
        await fresh.aclose()


def main() -> int:
    """Explore, and print the tally."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--deep", action="store_true", help="two deaths, PostgreSQL, Kafka, 10⁵ schedules"
    )
    parser.add_argument("--seed", default="0", help="of the schedules")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    tally, deaths = Tally(), 2 if options.deep else 1

    async def die() -> None:
        await tally.die("relay, memory", lambda: RelayWorld().scenario(), deaths=deaths)
        await tally.die("consumer, memory", lambda: World(max_batch=3).scenario(), deaths=deaths)
        isolated = partial(World, max_batch=3, isolated=True)
        await tally.die("isolated, memory", lambda: isolated().scenario())
        with TemporaryDirectory() as folder:
            await _on_databases(tally, Path(folder), postgres_too=options.deep)
        await _on_brokers(tally, kafka_too=options.deep)

    asyncio.run(die())
    runs = DEEP if options.deep else SHORT
    race = partial(tally.race, runs=runs // 2, seed=options.seed)
    race("two consumers, memory", lambda: World(max_batch=2).scenario())
    race("two isolated, memory", lambda: World(max_batch=3, isolated=True).scenario())
    for failure in tally.failures:
        print(failure)  # noqa: T201
    lost, doubled = tally.promises.values()
    print(  # noqa: T201
        f"explored: {tally.deaths} deaths, {tally.schedules} schedules, "
        f"{lost} lost, {doubled} doubled"
    )
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
