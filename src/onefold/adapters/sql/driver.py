"""
The driver's own connection under SQLAlchemy's, for our fixed statements.

SQLAlchemy's execution layer costs four times what the driver does for a BEGIN and a COMMIT
(202 against 55 µs of CPU, 2026-11-21), and more than both together for one row. What it does
besides, is ours to do: errors pass `errors.at_the_border`, and a connection that fails a
rollback is thrown away, because SQLAlchemy never hears of a driver that lost its server.
"""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from onefold.errors import StoreUnavailable

__all__ = ["driver_of"]


def driver_of(connection: AsyncConnection) -> Any:
    """
    The driver's connection that holds the transaction. No round trip.

    Raises:
        StoreUnavailable: it was thrown away, and the transaction with it.
    """
    if connection.closed or connection.invalidated:
        raise StoreUnavailable("the connection was lost")
    return connection.sync_connection.connection.driver_connection  # type: ignore[union-attr]
