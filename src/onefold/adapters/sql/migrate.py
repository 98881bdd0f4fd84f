"""Brings a database to this version's schema, and tells whether it is."""

from pathlib import Path

from sqlalchemy import Connection, String, column, inspect, select, table

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.errors import at_the_border, at_the_commit
from onefold.errors import SchemaOutdated

MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = 0x0E_F01D  # any number that other users of advisory locks do not take
_VERSION = table("alembic_version", column("version_num", String))


def revisions(scripts: Path = MIGRATIONS) -> list[str]:
    """The revisions of a schema, oldest first: each file of *scripts* is named for its own."""
    return sorted(file.name.partition("_")[0] for file in (scripts / "versions").glob("*_*.py"))


def head() -> str:
    """The revision of this version's schema."""
    return revisions()[-1]


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
            await connection.run_sync(_upgrade, scripts)


def _upgrade(connection: Connection, scripts: Path) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's BEGIN has excluded others
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    known, found = revisions(scripts), _current(connection)
    if found is not None and found not in known:
        reason = f"the database is at {found}, which this version of Onefold does not know"
        raise SchemaOutdated(f"{reason}; install the version that migrated it")
    if found != known[-1]:
        _run(connection, scripts)


def _run(connection: Connection, scripts: Path) -> None:
    # Only here: it takes as long to import as all else that `onefold worker` starts with.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


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
    """What Alembic wrote down when it was here last."""
    if not inspect(connection).has_table(_VERSION.name):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar_one_or_none()
