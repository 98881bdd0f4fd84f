"""
The pytest plugin: `pip install onefold` registers it, `-p no:onefold` leaves it out.

Importing it costs nothing: what a fixture needs is imported when a test names it. Servers
are started once a run, when the first test names one, and every test has a database or a
prefix to itself.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from onefold.adapters.memory.transport import MemoryTransport
    from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
    from onefold.testing.clock import ManualClock
    from onefold.testing.crash.explorer import Explored, Make
    from onefold.testing.schedule.explorer import Run, Schedules
    from onefold.testing.servers import Kafka, Postgres, Prepare, Valkey

_numbers = count(1)
_run = token_hex(4)  # in a container every run has the same process id, and a server may be older


def _prefix() -> str:
    """No other test's, of this run or of one before it on the same server."""
    return f"test-{_run}-{next(_numbers)}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--onefold-seed`, `--onefold-exhaustive` and `--onefold-replay`."""
    group = parser.getgroup("onefold", "exploring deaths and schedules")
    group.addoption("--onefold-seed", default="0", help="of schedules chosen by chance")
    group.addoption(
        "--onefold-exhaustive",
        action="store_true",
        help="two deaths in a row, and all schedules instead of some",
    )
    group.addoption("--onefold-replay", help="only this death or schedule, as a report named it")


class _Explorer:
    """What the fixtures `crash` and `schedule` have in common: the options, and the test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        option = request.config.getoption
        self.exhaustive: bool = option("--onefold-exhaustive")
        self.seed: str = option("--onefold-seed")
        self._replay: dict[str, Any] = {"replay": option("--onefold-replay")}
        line = f"pytest '{request.node.nodeid}' --onefold-replay={{!r}}"
        self._replay["replay_line"] = line


class CrashFixture(_Explorer):
    """The fixture `crash`: dies everywhere, and fails with a report."""

    async def __call__(
        self, make: "Make", *, deaths: int = 1, messages: int | None = None, at_once: int = 1
    ) -> "Explored":
        """`crash.explorer.explore`, then `verify`; with `--onefold-exhaustive` two deaths."""
        from onefold.testing.crash.explorer import explore  # noqa: PLC0415 (only when used)

        deaths = max(deaths, 2) if self.exhaustive else deaths
        how = {"messages": messages, "at_once": at_once, **self._replay}
        found = await explore(make, deaths=deaths, **how)
        found.verify()
        return found


class ScheduleFixture(_Explorer):
    """The fixture `schedule`: runs many schedules, and fails with a report."""

    def __call__(self, scenario: "Run", **how: Any) -> "Schedules":
        """`schedule.explorer.explore_schedules`, then `verify`."""
        from onefold.testing.schedule.explorer import (  # noqa: PLC0415 (only when used)
            explore_schedules,
        )

        if self.exhaustive:
            how |= {"exhaustive": True, "runs": 10**9}
        found = explore_schedules(scenario, **({"seed": self.seed} | how | self._replay))
        found.verify()
        return found


@pytest.fixture
def crash(request: pytest.FixtureRequest) -> CrashFixture:
    """Explores the deaths of a scenario: `await crash(make)`."""
    return CrashFixture(request)


@pytest.fixture
def schedule(request: pytest.FixtureRequest) -> ScheduleFixture:
    """Explores the schedules of a scenario: `schedule(scenario)`."""
    return ScheduleFixture(request)


@pytest.fixture
def clock() -> "ManualClock":
    """The time of the test."""
    from onefold.testing.clock import ManualClock  # noqa: PLC0415 (only when used)

    return ManualClock()


@pytest.fixture
def uow() -> "MemoryUnitOfWork":
    """A unit of work in memory: real transactions, one writer at a time."""
    from onefold.adapters.memory.unit_of_work import (  # noqa: PLC0415 (only when used)
        MemoryUnitOfWork,
    )

    return MemoryUnitOfWork()


@pytest.fixture
def transport(clock: "ManualClock") -> "MemoryTransport":
    """A broker in memory, under the test's clock."""
    from onefold.adapters.memory.transport import MemoryTransport  # noqa: PLC0415 (only when used)

    return MemoryTransport(clock=clock)


@pytest.fixture(scope="session")
def postgres_template() -> "Prepare":
    """What a database is before a test: Onefold's tables. Override it for tables of your own."""

    async def migrated(url: str) -> None:
        from onefold.adapters.sql.connection import Database  # noqa: PLC0415 (only when used)
        from onefold.adapters.sql.migrate import migrate  # noqa: PLC0415 (only when used)

        database = Database(url)
        await migrate(database)
        await database.aclose()

    return migrated


@pytest.fixture(scope="session")
def onefold_postgres(postgres_template: "Prepare") -> "Iterator[Postgres]":
    """The PostgreSQL server of this run."""
    from onefold.testing.servers import postgres  # noqa: PLC0415 (only when used)

    with ExitStack() as stack:
        yield _started(stack, postgres(postgres_template))


@pytest.fixture
def postgres(onefold_postgres: "Postgres") -> Iterator[str]:
    """The URL of a PostgreSQL database as `postgres_template` leaves it, this test's alone."""
    url = onefold_postgres.lend()
    yield url
    onefold_postgres.give_back(url)


@pytest.fixture(scope="session")
def onefold_valkey() -> Iterator[str]:
    """The URL of the Valkey server of this run."""
    from onefold.testing.servers import valkey  # noqa: PLC0415 (only when used)

    with ExitStack() as stack:
        yield _started(stack, valkey())


@pytest.fixture
def valkey(onefold_valkey: str) -> "Valkey":
    """A real Valkey server, and a prefix for this test's keys."""
    from onefold.testing.servers import Valkey  # noqa: PLC0415 (only when used)

    return Valkey(onefold_valkey, _prefix())


@pytest.fixture(scope="session")
def onefold_kafka() -> Iterator[str]:
    """Where the Kafka broker of this run listens; see `servers.kafka`."""
    from onefold.testing.servers import kafka  # noqa: PLC0415 (only when used)

    with ExitStack() as stack:
        yield _started(stack, kafka())


@pytest.fixture
def kafka(onefold_kafka: str) -> "Kafka":
    """A real Kafka, and a prefix for this test's topics and groups."""
    from onefold.testing.servers import Kafka  # noqa: PLC0415 (only when used)

    return Kafka(onefold_kafka, _prefix())


def _started(stack: ExitStack, start: AbstractContextManager[Any]) -> Any:
    """What *start* opens; where there is no server a laptop may go without, CI may not."""
    from onefold.testing.servers import Missing  # noqa: PLC0415 (only when used)

    try:
        return stack.enter_context(start)
    except Missing as missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no server: {missing}")
