"""Driver errors become ours at this border; a test walks the drivers' classes."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

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
    "25006": StoreUnavailable,  # read_only_sql_transaction: a standby took the connection
    "40002": ConstraintViolated,  # transaction_integrity_constraint_violation
    "40003": StoreUnavailable,  # statement_completion_unknown
    "42703": SchemaOutdated,  # undefined_column
    "42P01": SchemaOutdated,  # undefined_table
    "55P03": StoreContended,  # lock_not_available
    "57014": StoreUnavailable,  # query_canceled: a statement timeout
}
_BY_SQLSTATE_CLASS: dict[str, type[OnefoldError]] = {
    "08": StoreUnavailable,  # connection exception
    "22": ConstraintViolated,  # data exception: a value that its column cannot hold
    "23": ConstraintViolated,  # integrity constraint violation
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
    15: StoreContended,  # SQLITE_PROTOCOL: lost the race for the WAL's locks
    18: ConstraintViolated,  # SQLITE_TOOBIG
    19: ConstraintViolated,  # SQLITE_CONSTRAINT
    20: ConstraintViolated,  # SQLITE_MISMATCH
}
# Errors whose code is missing or says too little, by name: asyncpg is optional.
_BY_NAME: dict[str, type[OnefoldError]] = {
    "asyncpg.InvalidCachedStatementError": StoreUnavailable,  # the schema moved; cache dropped
    "asyncpg.OutdatedSchemaCacheError": StoreUnavailable,  # so here
    "asyncpg.TargetServerAttributeNotMatched": StoreUnavailable,  # only standbys answered
    "asyncpg.ClientConfigurationError": StoreFailed,
    "asyncpg.UnsupportedClientFeatureError": StoreFailed,
    "asyncpg.UnsupportedServerFeatureError": StoreFailed,
    "asyncpg.InterfaceError": StoreUnavailable,  # its word for a connection that is gone
    "asyncpg.InternalClientError": StoreUnavailable,
    "asyncpg.ProtocolError": StoreUnavailable,
}
# What drivers without codes say of a connection that is gone, or of one used by two tasks.
_BY_TEXT: dict[str, type[OnefoldError]] = {
    "no active connection": StoreUnavailable,
    "connection closed": StoreUnavailable,
    "cannot operate on a closed database.": StoreUnavailable,
    "cannot perform operation: another operation is in progress": StoreFailed,
}
# A value that the driver does not know how to send.
_NOT_ENCODED = (TypeError, ValueError, OverflowError, sqlite3.InterfaceError)
_BY_TYPE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[OnefoldError]], ...] = (
    (exc.TimeoutError, StoreContended),  # the pool's: nobody gave a connection back in time
    (exc.PendingRollbackError, StoreUnavailable),  # its connection was lost in the middle
    ((OSError, TimeoutError), StoreUnavailable),
    (_NOT_ENCODED, ConstraintViolated),
)


def _by_sqlstate(error: BaseException) -> type[OnefoldError] | None:
    state = getattr(error, "sqlstate", None)
    if not state or _name(error) in _BY_NAME:
        return None
    return _BY_SQLSTATE.get(state) or _BY_SQLSTATE_CLASS.get(state[:2], StoreFailed)


def _by_sqlite_code(error: BaseException) -> type[OnefoldError] | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    if code & 0xFF == 1 and (
        str(error).startswith("no such ") or " has no column named " in str(error)
    ):
        return SchemaOutdated
    return _BY_SQLITE_CODE.get(code & 0xFF, StoreFailed)


def _without_code(error: BaseException) -> type[OnefoldError] | None:
    told = _BY_TEXT.get(str(error).lower())
    if told is not None:
        return told
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return StoreUnavailable
    by_type = next((ours for theirs, ours in _BY_TYPE if isinstance(error, theirs)), None)
    return _BY_NAME.get(_name(error)) or by_type


def _name(error: BaseException) -> str:
    kind = type(error)
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


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
    """Which of our errors *error* means: by a code, wherever it stands, then by its class."""
    layers = list(_driver_errors(error))
    for judge in (_by_sqlstate, _by_sqlite_code, _without_code):
        for layer in reversed(layers):  # the driver's own words before those of its wrappers
            ours = judge(layer)
            if ours is not None:
                return ours
    return StoreFailed


def translate(error: BaseException) -> OnefoldError:
    """Our error for the driver's *error*; a reason that names no bound value."""
    driver = list(_driver_errors(error))[-1]
    ours = verdict(error)
    return ours(_reason(driver, ours))


def _reason(driver: BaseException, ours: type[OnefoldError]) -> str:
    name = type(driver).__name__
    is_data_error = str(getattr(driver, "sqlstate", "")).startswith("22")
    if ours is ConstraintViolated and (is_data_error or isinstance(driver, _NOT_ENCODED)):
        return f"a value that its column cannot hold ({name})"  # their words may repeat it
    reason = (str(driver).splitlines() or [""])[0] or name
    return f"{reason}; run `onefold migrate`" if ours is SchemaOutdated else reason


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
    # A value that the driver cannot encode, and aiosqlite's "Connection closed".
    TypeError,
    ValueError,
    OverflowError,
    *_ASYNCPG,
)


class _Border:
    """A class: a generator's block costs more, at every statement."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, DRIVER_ERRORS):
            raise translate(error) from error


_BORDER = _Border()


def at_the_border() -> AbstractContextManager[None]:
    """Let no driver error pass; errors of the block's own code pass unchanged."""
    return _BORDER


@contextmanager
def at_the_commit() -> Iterator[None]:
    """
    As `at_the_border`, but a lost answer is its own error: it may have been recorded.

    Only a conflict and a broken constraint are answers after which nothing was recorded.
    """
    try:
        yield
    except DRIVER_ERRORS as error:
        ours = translate(error)
        if isinstance(ours, StoreContended | ConstraintViolated):
            raise ours from error
        raise CommitUnknown(str(ours)) from error
