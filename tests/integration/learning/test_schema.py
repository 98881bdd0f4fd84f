"""The migration makes what the tables say, and the search's indexes beside them."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from onefold.adapters.sql.connection import Database
from onefold.ports.tables import metadata


def _differences(connection: Connection) -> list[Any]:
    def is_ours(object_: Any, name: str | None, *_: Any) -> bool:
        # The full-text indexes are made by hand: no metadata can tell of them.
        return not (name or "").startswith(
            ("learning_content_search", "ix_learning_content_search")
        )

    context = MigrationContext.configure(
        connection, opts={"include_object": is_ours, "compare_type": False}
    )
    return [d for d in compare_metadata(context, metadata) if "learning_" in str(d)]


async def test_learning_tables_are_what_the_migration_makes(database_url: str) -> None:
    """Tables, columns, keys and indexes are equal on both databases."""
    database = Database(database_url)
    async with database.reader.connect() as connection:
        assert await connection.run_sync(_differences) == []
    await database.aclose()
