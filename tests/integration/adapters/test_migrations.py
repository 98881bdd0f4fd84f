"""Migrations make exactly the schema that the tables declare, whole or not at all."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, select, text
from sqlalchemy.exc import DBAPIError
from tests.support_fork import ForkHost

import onefold_server.installation  # noqa: F401 (every table is declared by importing these)
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import MIGRATIONS, head, migrate, require_current, revisions
from onefold.adapters.sql.schema import inbox
from onefold.errors import OnefoldError, SchemaOutdated
from onefold.ports.tables import metadata
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.tables import schools
from onefold_server.domains.trades.tables import destinations, subscriptions

NOW = ManualClock().now()
SECOND = timedelta(seconds=1)
MIGRATING = "tests.integration.adapters.migrating:main"


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    """A database that nobody has migrated."""
    database = Database(empty_database_url, wait_s=10)
    yield database
    await database.aclose()


async def _ask(database: Database, question: Callable[[Connection], Any]) -> Any:
    async with database.writer.connect() as connection:
        return await connection.run_sync(question)


# Full-text indexes and the counter of fences are made by hand; no metadata tells of them.
_SEARCH = ("learning_content_search", "ix_learning_content_search", "onefold_fences")


def _tables(connection: Connection) -> set[str]:
    found = inspect(connection).get_table_names()
    return {table for table in found if not table.startswith(_SEARCH)}


def _declared(_: object, name: str | None, *__: object) -> bool:
    return not (name or "").startswith(_SEARCH)


def _shape(connection: Connection) -> dict[str, Any]:
    """Everything that the database knows of its tables, in no particular order."""
    look = inspect(connection)
    return {
        table: {
            "columns": [
                (c["name"], repr(c["type"]), c["nullable"], c["default"], c.get("autoincrement"))
                for c in look.get_columns(table)
            ],
            "primary key": look.get_pk_constraint(table),
            "foreign keys": _sorted(look.get_foreign_keys(table)),
            "unique": _sorted(look.get_unique_constraints(table)),
            "checks": _sorted(look.get_check_constraints(table)),
            "indexes": _sorted([i for i in look.get_indexes(table) if _declared(i, i["name"])]),
        }
        for table in _tables(connection)
        if table != "alembic_version"
    }


def _sorted(found: list[Any]) -> list[Any]:
    # PostgreSQL reflects the predicate of a partial index, SQLite as an expression object.
    return sorted((repr({k: _plain(v) for k, v in sorted(one.items())}) for one in found), key=str)


def _plain(value: object) -> object:
    return {k: str(v) for k, v in value.items()} if isinstance(value, dict) else value


async def test_the_migrated_schema_is_the_one_that_is_declared(empty: Database) -> None:
    """Alembic, asked to compare, would generate nothing."""
    await migrate(empty)

    def compare(connection: Connection) -> Any:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_object": _declared,
            },
        )
        return compare_metadata(context, metadata)

    assert await _ask(empty, compare) == []


async def test_migrating_and_creating_come_to_the_same(empty: Database) -> None:
    """Down to constraint names, checks and the conditions of partial indexes."""
    await migrate(empty)
    migrated = await _ask(empty, _shape)

    def create(connection: Connection) -> Any:
        everything = MetaData()
        everything.reflect(connection)
        everything.drop_all(connection)
        metadata.create_all(connection)
        return _shape(connection)

    created = await _ask(empty, create)

    assert migrated.keys() == created.keys() == metadata.tables.keys()
    for table, shape in created.items():
        assert migrated[table] == shape, table


def _before(revision: str, folder: Path) -> Path:
    """The migrations up to *revision*, and not that one."""
    scripts = shutil.copytree(MIGRATIONS, folder / "migrations")
    for one in (scripts / "versions").glob("0*.py"):
        if one.name >= revision:
            one.unlink()
    return scripts


def _place(school: UUID, id_: UUID, sink: str) -> dict[str, Any]:
    """A destination as there were some before."""
    return {
        "school_id": school, "id": id_, "name": str(id_), "sink": sink, "config": {},
        "secrets": {}, "state": "active", "version": 1, "delay_floor_s": 60,
        "schedule": "standard", "concurrency": 4, "created_at": NOW,
    }  # fmt: skip


async def test_what_trace_had_before_is_brought_along(empty: Database, tmp_path: Path) -> None:
    """Consents keep the order they were read in, and Tradervue is sent one at a time."""
    await migrate(empty, scripts=_before("0012", tmp_path))
    school, first, other = (UUID(int=n) for n in (1, 2, 3))
    consent = {
        "school_id": school, "user_id": "ada", "profile": "full", "delay_s": 300,
        "consent_version": "1",
    }  # fmt: skip
    given = [(first, 9, NOW), (first, 7, NOW), (other, 8, NOW), (first, 6, NOW + SECOND)]
    async with empty.writer.begin() as connection:
        await connection.execute(schools.insert().values(id=school, name="s", created_at=NOW))
        for id_, sink in ((first, "webhook"), (other, "tradervue")):
            await connection.execute(destinations.insert().values(_place(school, id_, sink)))
        for to, number, since in given:
            row = consent | {"destination_id": to, "id": UUID(int=number), "since": since}
            await connection.execute(subscriptions.insert().values(row))

    await migrate(empty)

    found = await _ask(empty, lambda c: c.execute(select(subscriptions)).all())
    assert {row.id.int: row.number for row in found} == {7: 1, 9: 2, 6: 3, 8: 1}
    places = await _ask(empty, lambda c: c.execute(select(destinations)).all())
    assert {row.sink: row.concurrency for row in places} == {"webhook": 4, "tradervue": 1}
    assert {row.occupied_by for row in places} == {None}


async def test_a_partial_index_is_partial(empty: Database) -> None:
    """The comparison above sees conditions, or this would be the place to notice."""
    await migrate(empty)

    shape = (await _ask(empty, _shape))["telemetry_sessions"]

    (opened,) = [one for one in shape["indexes"] if "ix_telemetry_sessions_open" in one]
    assert "closed_at IS NULL" in opened
    assert len(shape["checks"]) == 4


async def test_migrating_twice_is_once(empty: Database) -> None:
    """A second run finds nothing to do, and what is stored stays."""
    await migrate(empty)
    async with empty.writer.begin() as connection:
        await connection.execute(inbox.insert().values(consumer="c", event_id="e", claimed_at=NOW))

    await migrate(empty)

    await require_current(empty)
    assert await _ask(empty, lambda c: len(c.execute(inbox.select()).all())) == 1


async def test_many_that_migrate_at_once_do_it_once(empty_database_url: str) -> None:
    """Tasks with connections of their own, all on an empty database."""
    databases = [Database(empty_database_url, wait_s=10) for _ in range(5)]
    try:
        await asyncio.gather(*(migrate(database) for database in databases))
        await asyncio.gather(*(require_current(database) for database in databases))
    finally:
        for database in databases:
            await database.aclose()


@pytest.mark.timeout(60)
async def test_processes_that_migrate_at_once_do_it_once(
    host: ForkHost, empty_database_url: str
) -> None:
    """Servers that are deployed together and find an empty database."""
    runs = [
        host.popen(empty_database_url, call=MIGRATING, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
        for _ in range(2)
    ]
    with runs[0], runs[1]:
        for run in runs:
            assert run.stdout is not None
            assert run.stdout.readline() == b"ready\n"
        for run in runs:
            assert run.stdin is not None
            run.stdin.write(b"\n")
            run.stdin.flush()

        told = [run.stdout.read() for run in runs if run.stdout is not None]

    assert told == [b"", b""]
    assert [run.returncode for run in runs] == [0, 0]
    database = Database(empty_database_url)
    await require_current(database)
    await database.aclose()


async def test_an_empty_database_is_outdated(empty: Database) -> None:
    """And the message says what to do."""
    with pytest.raises(SchemaOutdated, match=r"no revision.*run `onefold migrate`"):
        await require_current(empty)


async def test_a_database_of_a_later_version_is_told(empty: Database) -> None:
    """Neither serving nor migrating touches what this version does not know."""
    await migrate(empty)
    async with empty.writer.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaOutdated, match="9999"):
        await require_current(empty)
    with pytest.raises(SchemaOutdated, match=r"9999.*does not know"):
        await migrate(empty)


async def test_a_failed_migration_leaves_nothing_behind(empty: Database, tmp_path: Path) -> None:
    """Half-way through the second of two, the first is undone too."""
    scripts = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    versions = scripts / "versions"
    (versions / "9998_more.py").write_text(_revision("9998", head(), "CREATE TABLE more (id int)"))
    (versions / "9999_wrong.py").write_text(_revision("9999", "9998", "SELEKT 1"))

    with pytest.raises(OnefoldError):
        await migrate(empty, scripts=scripts)

    assert await _ask(empty, _tables) == set()
    (versions / "9999_wrong.py").unlink()
    await migrate(empty, scripts=scripts)
    assert await _ask(empty, _tables) == {*metadata.tables, "alembic_version", "more"}


def test_the_files_names_tell_what_alembic_knows() -> None:
    """Whether a database is current is told without Alembic, which is slow to import."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    known = ScriptDirectory.from_config(config)

    assert revisions() == [script.revision for script in known.walk_revisions()][::-1]
    assert head() == known.get_current_head()


def _revision(name: str, after: str, statement: str) -> str:
    return f"""
from alembic import op
revision, down_revision = {name!r}, {after!r}

def upgrade():
    op.execute({statement!r})
"""


async def test_a_rule_of_the_schema_holds_in_the_database(database_url: str) -> None:
    """The checks are there and are kept, not only declared."""
    database = Database(database_url)
    nameless = inbox.insert().values(consumer="", event_id="e", claimed_at=NOW)
    try:
        async with database.writer.connect() as connection:
            with pytest.raises(DBAPIError, match=r"(?i)check"):
                await connection.execute(nameless)
    finally:
        await database.aclose()
