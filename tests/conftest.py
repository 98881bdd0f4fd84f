"""Fresh databases of either kind, over the servers that Onefold's own plugin starts."""

import asyncio
import gc
import os
import shutil
import time
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.support import School, new_school
from tests.support_fork import ForkHost
from tests.support_kafka import kafka_bootstrap

from onefold.adapters.sql import claim_tables, message_tables  # noqa: F401 (not to be dropped)
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import migrate
from onefold.testing.clock import ManualClock
from onefold.testing.servers import Postgres
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

# Failing asserts of the public suites tell both sides.
pytest.register_assert_rewrite("onefold.testing.contracts")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are looked through for garbage once, not again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()  # what tests leave is found as ever


async def _migrated(url: str) -> None:
    database = Database(url)
    await migrate(database)
    await database.aclose()


@pytest.fixture(scope="session")
def postgres_server(onefold_postgres: Postgres) -> str:
    """The URL of a real PostgreSQL that holds a migrated template database."""
    return onefold_postgres.url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(_migrated(f"sqlite:///{file}"))
    return file


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh migrated SQLite database."""
    file = tmp_path / "onefold.db"
    shutil.copy(sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """
    A migrated PostgreSQL database without rows.

    Emptied for a later test: making one takes ten times as long. A test that changes the
    schema itself, other than by adding tables, makes its own with `empty_postgres_url`.
    """
    return postgres


@pytest.fixture
def empty_postgres_url(onefold_postgres: Postgres) -> Iterator[str]:
    """A PostgreSQL database that nobody has migrated, dropped after the test."""
    url = onefold_postgres.copy()
    yield url
    onefold_postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh migrated database of either kind: the test runs on both."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of either kind that nobody has migrated."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest.fixture(params=["UTC", "America/New_York"])
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """This process in that zone, as an operator's host may be."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.fixture
async def onefold(
    database_url: str, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Installation]:
    """All parts over a fresh database of either kind, under a manual clock."""
    settings = Settings(database_url=SecretStr(database_url), trace_folder=tmp_path)
    built = build(settings, clock=clock)
    yield built
    await built.aclose()


@pytest.fixture
async def school(onefold: Installation) -> School:
    """A fresh school over the test's database."""
    return await new_school(onefold)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkHost]:
    """What starts processes that need not import; see `tests/fork_host.py`."""
    with ForkHost(tmp_path_factory.mktemp("host") / "log") as made:
        yield made


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a real Kafka listens; skipped or failed where there can be none."""
    with kafka_bootstrap(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap
