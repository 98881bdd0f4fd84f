"""Driver errors become ours at this border; a test walks the drivers' classes."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from onefold.errors import (
    CommitUnknown,
    ConstraintViolated,
    OnefoldError,
    SchemaOutdated,
    StoreContended,
    StoreFailed,
    StoreUnavailable,
)

# PostgreSQL's SQLSTATE, by code and then by class (its manual, Appendix A).
_BY_SQLSTATE: dict[str, type[OnefoldError]] = {
    "55P03": StoreContended,  # lock_not_available
    "57014": StoreUnavailable,  # query_canceled: a statement timeout
    "42P01": SchemaOutdated,  # undefined_table
    "42703": SchemaOutdated,  # undefined_column
    "25006": StoreUnavailable,  # read_only_sql_transaction: a standby took the connection
    "22P05": StoreFailed,
}
_BY_SQLSTATE_CLASS: dict[str, type[OnefoldError]] = {
    "08": StoreUnavailable,  # connection exception
    "23": ConstraintViolated,
    "40": StoreContended,  # transaction rollback: deadlock, serialisation failure
    "53": StoreUnavailable,  # insufficient resources
    "57": StoreUnavailable,  # operator intervention: shutdown, crash of another backend
    "58": StoreUnavailable,  # system error
}
# SQLite's primary result codes (its manual, "Result and Error Codes").
_BY_SQLITE_CODE: dict[int, type[OnefoldError]] = {
    5: StoreContended,  # SQLITE_BUSY
    6: StoreContended,  # SQLITE_LOCKED
    7: StoreUnavailable,  # SQLITE_NOMEM
    8: StoreUnavailable,  # SQLITE_READONLY
    9: StoreUnavailable,  # SQLITE_INTERRUPT
    10: StoreUnavailable,  # SQLITE_IOERR
    13: StoreUnavailable,  # SQLITE_FULL
    14: StoreUnavailable,  # SQLITE_CANTOPEN
    19: ConstraintViolated,
}


def _sqlite_verdict(error: BaseException) -> type[OnefoldError] | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    if code & 0xFF == 1 and str(error).startswith("no such "):
        return SchemaOutdated
    return _BY_SQLITE_CODE.get(code & 0xFF, StoreFailed)


def _driver_errors(error: BaseException) -> Iterator[BaseException]:
    """The error and what stands behind it, outermost first, each once."""
    seen: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or any(current is known for known in seen):
            continue
        seen.append(current)
        yield current
        queue += [getattr(current, "orig", None), current.__cause__]


def verdict(error: BaseException) -> type[OnefoldError]:
    """Which of our errors *error* means, judged by its code and never by its text alone."""
    for layer in _driver_errors(error):
        sqlstate = getattr(layer, "sqlstate", None)
        if sqlstate:
            by_class = _BY_SQLSTATE_CLASS.get(sqlstate[:2], StoreFailed)
            return _BY_SQLSTATE.get(sqlstate, by_class)
        sqlite = _sqlite_verdict(layer)
        if sqlite:
            return sqlite
        if isinstance(layer, exc.DBAPIError) and layer.connection_invalidated:
            return StoreUnavailable
        if isinstance(layer, OSError | TimeoutError | exc.TimeoutError):
            return StoreUnavailable
        if type(layer).__name__ in _CONNECTION_ERRORS:
            return StoreUnavailable
    return StoreFailed


# Drivers are optional, so these are known by name: asyncpg's and SQLAlchemy's words for a
# connection that is gone.
_CONNECTION_ERRORS = frozenset(
    {
        "ConnectionDoesNotExistError",
        "InterfaceError",
        "AsyncAdapt_asyncpg_dbapi.InterfaceError",
        "InternalClientError",
        "ConnectionFailureError",
    }
)


def translate(error: BaseException) -> OnefoldError:
    """Our error for the driver's *error*; a reason that names no bound value."""
    driver = list(_driver_errors(error))[-1]
    lines = str(driver).splitlines() or [type(driver).__name__]
    return verdict(error)(lines[0])


try:  # an extra of its own: `onefold[sql]` alone speaks to SQLite
    from asyncpg import InterfaceError, InternalClientError, PostgresError
except ImportError:  # pragma: no cover (the development environment has every extra)
    _ASYNCPG: tuple[type[Exception], ...] = ()
else:
    _ASYNCPG = (PostgresError, InterfaceError, InternalClientError)

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    exc.SQLAlchemyError,
    sqlite3.Error,
    OSError,
    TimeoutError,
    *_ASYNCPG,
)


@contextmanager
def at_the_border() -> Iterator[None]:
    """Let no driver error pass; errors of the block's own code pass unchanged."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error) from error


@contextmanager
def at_the_commit() -> Iterator[None]:
    """As `at_the_border`, but a lost answer is its own error: it may have been recorded."""
    try:
        yield
    except DRIVER_ERRORS as error:
        ours = translate(error)
        if isinstance(ours, StoreUnavailable):
            raise CommitUnknown(ours.reason) from error
        raise ours from error
