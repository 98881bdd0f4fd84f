"""
Plain updates: many rows of one table found by their keys, told apart from every other.

As `ports.inserts` for what is written again: an `executemany` is a statement a row, and a
row's columns are cheaper as arrays, one statement whatever their number. Anything that is
not plain beyond doubt is left to SQLAlchemy.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    Executable,
    Float,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    Update,
    Uuid,
)
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.sql.operators import eq

from onefold.ports.tables import Instant, Json

__all__ = ["PlainUpdate", "plain_update"]

# What a statement knows that is a table and its condition, or that it remembers of having run;
# whatever else is set makes it more.
_PLAIN = frozenset(
    {"table", "_where_criteria", "dialect_options", "_generate_cache_key", "_memoized_keys"}
)
_TYPES = frozenset(
    {BigInteger, Boolean, Float, Instant, Integer, LargeBinary, SmallInteger, String, Text}
)


class PlainUpdate(NamedTuple):
    """Rows of one table to be found by *keys* (column to the name in a row) and changed."""

    table: Table
    keys: Mapping[str, str]
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]


def plain_update(
    statement: Executable, parameters: Sequence[Mapping[str, Any]] | None
) -> PlainUpdate | None:
    """
    The rows that *statement* changes, if it is `update(t).where(t.c.key == bindparam(…))`.

    Of a key that comes twice only the order of the rows says what is left; that is not plain.
    """
    if not parameters or len(parameters) < 2 or not _is_simple(statement):
        return None
    keys = _keys(statement)  # type: ignore[arg-type]
    given = parameters[0].keys()
    columns = tuple(name for name in given if name not in keys.values())
    table: Any = statement.table  # type: ignore[attr-defined]
    if not keys or not columns or not set(keys.values()) <= given:
        return None
    if not _takes(table, (*keys, *columns)) or any(row.keys() != given for row in parameters):
        return None
    if len({tuple(row[name] for name in keys.values()) for row in parameters}) < len(parameters):
        return None
    return PlainUpdate(table, keys, columns, parameters)


def _is_simple(statement: Executable) -> bool:
    """Whether *statement* is an update of a table under a condition, and nothing besides."""
    return (
        type(statement) is Update
        and statement.__dict__.keys() <= _PLAIN
        and not any(statement.dialect_options.values())
        and type(statement.table) is Table
        and statement.table.schema is None
    )


def _keys(statement: Update) -> dict[str, str]:
    """Which column is which parameter; nothing when a condition is more than that."""
    keys: dict[str, str] = {}
    for condition in statement._where_criteria:  # noqa: SLF001 (no public way to ask)
        if type(condition) is not BinaryExpression or condition.operator is not eq:
            return {}
        left, right = condition.left, condition.right
        if type(left) is not Column or left.table is not statement.table:
            return {}
        if type(right) is not BindParameter or not right.required:
            return {}
        keys[left.name] = right.key
    return keys


@lru_cache(maxsize=512)
def _takes(table: Any, columns: tuple[str, ...]) -> bool:
    """Whether values of these columns go to the driver as they are, and no others change."""
    return set(columns) <= set(table.c.keys()) and all(
        _is_plain(column) if column.key in columns else column.onupdate is None
        for column in table.c
    )


def _is_plain(column: Any) -> bool:
    kind = column.type
    if isinstance(kind, TypeDecorator) and type(kind) is not Instant:
        # What it makes of a value must be what the driver takes.
        own = type(kind).load_dialect_impl is not TypeDecorator.load_dialect_impl
        return type(kind.impl_instance) in _TYPES and not own and column.key == column.name
    plain = type(kind) in _TYPES or kind is Json or (type(kind) is Uuid and kind.as_uuid)
    return plain and column.key == column.name
