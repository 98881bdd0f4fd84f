"""Only an insert that is plain beyond doubt goes past SQLAlchemy."""

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Enum,
    Executable,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.dialects import postgresql

from onefold.ports.inserts import plain_insert

tables = MetaData()
kept = Table("kept", tables, Column("id", Integer, primary_key=True), Column("what", String(9)))
made = Table("made", tables, Column("id", Integer), Column("n", Integer, default=lambda: 7))
odd = Table("odd", tables, Column("id", Integer), Column("price", Numeric))
named = Table("named", tables, Column("id", Enum("a", "b", name="letters")))
renamed = Table("renamed", tables, Column("id", Integer, key="number"))
elsewhere = Table("elsewhere", tables, Column("id", Integer), schema="other")


@pytest.mark.parametrize(
    ("statement", "parameters", "rows"),
    [
        (insert(kept).values(id=1, what="a"), None, [{"id": 1, "what": "a"}]),
        (insert(kept).values({kept.c.id: 1}), None, [{"id": 1}]),
        (insert(kept).values(id=1, what=None), None, [{"id": 1, "what": None}]),
        (insert(kept), [{"id": 1}, {"id": 2}], [{"id": 1}, {"id": 2}]),
        (insert(kept), [{"what": "a"}], [{"what": "a"}]),
        (insert(made), [{"id": 1, "n": 2}], [{"id": 1, "n": 2}]),
    ],
    ids=["values", "by column", "null", "rows", "drawn key", "default given"],
)
def test_rows_for_a_table_are_plain(
    statement: Executable, parameters: Any, rows: list[dict[str, Any]]
) -> None:
    """They are told with their columns in the order of the first row."""
    found = plain_insert(statement, parameters)

    assert found is not None
    assert list(found.rows) == rows
    assert found.columns == tuple(rows[0])


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (insert(kept).values(id=func.abs(-1)), None),
        (insert(kept).values(id=literal(1) + 1), None),
        (insert(kept).values(id=bindparam("n")), [{"n": 1}]),
        (insert(kept).values(what="a"), None),
        (insert(kept).values(id=1).returning(kept.c.id), None),
        (insert(kept).values([{"id": 1}, {"id": 2}]), None),
        (insert(kept).from_select(["id"], select(made.c.id)), None),
        (insert(kept).values(id=1).prefix_with("OR IGNORE"), None),
        (insert(kept).values(id=1).execution_options(isolation="x"), None),
        (postgresql.insert(kept).values(id=1).on_conflict_do_nothing(), None),
        (insert(kept), None),
        (insert(kept), []),
        (insert(kept), [{"id": 1}, {"id": 2, "what": "a"}]),
        (insert(kept), [{"id": 1, "unknown": 2}]),
        (insert(made), [{"id": 1}]),
        (insert(odd), [{"id": 1, "price": 2}]),
        (insert(named), [{"id": "a"}]),
        (insert(renamed), [{"number": 1}]),
        (insert(elsewhere), [{"id": 1}]),
        (delete(kept), None),
        (select(kept), None),
        (text("INSERT INTO kept VALUES (1)"), None),
    ],
)
def test_whatever_is_more_is_left_to_sqlalchemy(statement: Executable, parameters: Any) -> None:
    """An expression, a default, RETURNING, a type that may need care: not plain."""
    assert plain_insert(statement, parameters) is None
