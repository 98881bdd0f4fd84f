"""The guard that keeps its claims in SQLite or PostgreSQL."""

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.dialects.claims_postgres import PostgresGuard
from onefold.adapters.sql.dialects.claims_sqlite import SqliteGuard

__all__ = ["SqlGuard", "sql_guard"]

SqlGuard = PostgresGuard | SqliteGuard


def sql_guard(database: Database) -> SqlGuard:
    """
    The guard over *database*, which stays the caller's to close; see `ports.guard.Guard`.

    Records stay until `forget` is called. `confirm_in` confirms in the caller's own
    transaction.
    """
    if database.dialect.FEATURES.name == "postgresql":
        return PostgresGuard(database)
    return SqliteGuard(database)
