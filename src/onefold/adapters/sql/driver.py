"""
The driver's own connection under SQLAlchemy's, for our fixed statements.

SQLAlchemy's execution layer costs four times what the driver does for a BEGIN and a COMMIT
(202 against 55 µs of CPU, 2026-11-21), and more than both together for one row. What it does
besides, is ours to do: errors pass `errors.at_the_border`, and a connection that fails a
rollback is thrown away, because SQLAlchemy never hears of a driver that lost its server.
Who listens to an engine's statements (tracing, `testing.crash`) is told of ours all the same.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Connection
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
    inner: Connection = connection.sync_connection  # type: ignore[assignment]
    driver = inner.connection.driver_connection
    dispatch = inner.engine.dispatch
    listened = dispatch.before_cursor_execute or dispatch.after_cursor_execute
    return _Told(driver, inner) if listened else driver


class _Told:
    """A driver's connection whose statements an engine's listeners hear of."""

    def __init__(self, driver: Any, connection: Connection) -> None:
        self._driver, self._connection = driver, connection

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(statement: str, *values: Any) -> Any:
            said = self._connection, None, statement, values, None, False
            for listener in self._connection.engine.dispatch.before_cursor_execute:
                listener(*said)
            answer = await getattr(self._driver, name)(statement, *values)
            for listener in self._connection.engine.dispatch.after_cursor_execute:
                listener(*said)
            return answer

        return call
