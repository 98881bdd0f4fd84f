"""
Plain inserts: rows for one table, told apart from every other statement.

Nearly all that handlers write is `insert(table)` with values. Such a statement needs none of
what SQLAlchemy's execution layer does for the others, which costs several times what the
driver does for a row; and many of one table travel as one. Anything that is not plain beyond
doubt is left to SQLAlchemy.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Executable,
    Insert,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
)

from onefold.ports.tables import Instant, Json

__all__ = ["Inserted", "PlainInsert", "plain_insert"]

_PLAIN_TYPES = frozenset(
    {BigInteger, Boolean, Instant, Integer, LargeBinary, SmallInteger, String, Text}
)
# What a statement knows that is a table and perhaps one row; whatever else is set makes it more.
_PLAIN = frozenset({"table", "_values"})


class PlainInsert(NamedTuple):
    """Rows for one table; all have the same columns."""

    table: Table
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]


class Inserted:
    """The result of a plain insert: how many rows were written, and none to read."""

    returns_rows = False

    def __init__(self, rowcount: int) -> None:
        self.rowcount = rowcount


def plain_insert(
    statement: Executable, parameters: Sequence[Mapping[str, Any]] | None
) -> PlainInsert | None:
    """
    The rows that *statement* inserts, if that is all it does; None if it may do more.

    A default of Python's, an expression among the values, RETURNING, a key that the
    database is to draw: each makes it more.
    """
    if type(statement) is not Insert or not statement.__dict__.keys() <= _PLAIN:
        return None
    rows = _own_row(statement) if parameters is None else _given_rows(statement, parameters)
    if not rows:
        return None
    columns = tuple(rows[0])
    if not _takes(statement.table, columns, draws_key=parameters is None):
        return None
    return PlainInsert(statement.table, columns, rows)  # type: ignore[arg-type]


def _own_row(statement: Insert) -> list[Mapping[str, Any]]:
    """The row of `insert(table).values(…)`; none when a value is more than a value."""
    row: dict[str, Any] = {}
    for column, bind in (statement._values or {}).items():  # noqa: SLF001 (no public way to ask)
        if type(bind) is not BindParameter or bind.callable or not bind.unique:
            return []
        row[str(getattr(column, "key", column))] = bind.value
    return [row]


def _given_rows(
    statement: Insert, parameters: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """The rows handed over, unless they differ in their columns."""
    if statement._values or not parameters:  # noqa: SLF001
        return []
    columns = parameters[0].keys()
    return parameters if all(row.keys() == columns for row in parameters) else []


@lru_cache(maxsize=512)
def _takes(table: Any, columns: tuple[str, ...], *, draws_key: bool) -> bool:
    """Whether rows of these columns go into *table* as they are."""
    if type(table) is not Table or table.schema is not None or not columns:
        return False
    given = set(columns)
    return given <= set(table.c.keys()) and all(
        _is_plain(column) if column.key in given else not _must_be_made(column, draws_key=draws_key)
        for column in table.c
    )


def _is_plain(column: Any) -> bool:
    plain = type(column.type) in _PLAIN_TYPES or column.type is Json
    return plain and column.key == column.name


def _must_be_made(column: Any, *, draws_key: bool) -> bool:
    """Whether a column that is not given is filled in by SQLAlchemy, or asked for afterwards."""
    return column.default is not None or (draws_key and column.primary_key)
