"""Brings a database to this version's schema, and tells whether it is."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.errors import at_the_border
from onefold.errors import SchemaOutdated

_MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = 0x0E_F01D  # any number that other users of advisory locks do not take


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """The revision of this version's schema."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 (the package carries its migrations)
    return revision


async def migrate(database: Database) -> None:
    """
    Run the migrations that the database has not seen. Safe to run by several at once.

    All of them are one transaction: what fails leaves the schema as it was.

    Raises:
        StoreUnavailable, StoreContended, StoreFailed: nothing was changed; run again.
    """
    with at_the_border():
        async with database.writer.connect() as connection:
            await connection.run_sync(_upgrade, database.dialect.BEGIN)


def _upgrade(connection: Connection, begin: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    connection.exec_driver_sql(begin)
    try:
        if connection.dialect.name == "postgresql":  # SQLite's BEGIN has excluded others
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        command.upgrade(config, "head")
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise


async def require_current(database: Database) -> None:
    """
    Make sure that the schema is this version's.

    Raises:
        SchemaOutdated: it is not; nothing was done.
    """
    with at_the_border():
        async with database.reader.connect() as connection:
            found = await connection.run_sync(_current)
    if found != head():
        raise SchemaOutdated(f"the database is at {found or 'no revision'}, needed is {head()}")


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
