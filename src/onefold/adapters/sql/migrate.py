"""Brings a database to this version's schema, and tells whether it is."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.errors import at_the_border, at_the_commit
from onefold.errors import SchemaOutdated

MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = 0x0E_F01D  # any number that other users of advisory locks do not take


def _config(scripts: Path = MIGRATIONS) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """The revision of this version's schema."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 (the package carries its migrations)
    return revision


async def migrate(database: Database, *, scripts: Path = MIGRATIONS) -> None:
    """
    Run the migrations that the database has not seen. Safe to run by several at once.

    All of them are one transaction: what fails leaves the schema as it was.

    Args:
        database: What to migrate.
        scripts: Where the migrations stand; the package's own by default.

    Raises:
        StoreUnavailable, StoreContended, StoreFailed: nothing was changed; run again.
        CommitUnknown: the answer to the commit was lost; run again.
        SchemaOutdated: the database is of a later version than this; nothing was changed.
    """
    async with database.transaction(
        database.writer, database.dialect.BEGIN, at_the_commit
    ) as connection:
        with at_the_border():
            await connection.run_sync(_upgrade, _config(scripts))


def _upgrade(connection: Connection, config: Config) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's BEGIN has excluded others
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    found = _current(connection)
    if found is not None and found not in _known(config):
        reason = f"the database is at {found}, which this version of Onefold does not know"
        raise SchemaOutdated(f"{reason}; install the version that migrated it")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _known(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


async def require_current(database: Database) -> None:
    """
    Make sure that the schema is this version's.

    Raises:
        SchemaOutdated: it is not; nothing was done.
    """
    async with database.transaction(
        database.reader, database.dialect.BEGIN_READ, at_the_border
    ) as connection:
        with at_the_border():
            found = await connection.run_sync(_current)
    if found != head():
        told = f"the database is at {found or 'no revision'}, needed is {head()}"
        raise SchemaOutdated(f"{told}; run `onefold migrate`")


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
