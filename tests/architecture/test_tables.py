"""What holds people's data belongs to a school, and cannot point into another one."""

import pytest
from sqlalchemy import ForeignKeyConstraint, Table

import onefold_server.installation  # noqa: F401 (every table of the product is declared by importing these)
from onefold.ports.tables import metadata

# Tables without a school, each with its reason.
WITHOUT_SCHOOL = {
    "schools": "it is the school",
    "classroom_courses": "what is taught, the same everywhere",
    "onefold_inbox": "names of consumers and ids of events, nothing of a person",
    "onefold_outbox": "events on their way out; each names its school in its data",
    "onefold_deadlines": "what is due next; each names its school in its payload",
    "onefold_health": "heartbeats of our own processes",
    "onefold_claims": "names of consumers and ids of events, nothing of a person",
    "onefold_unprotected": "names of consumers and ids of events, nothing of a person",
    "onefold_spans": "positions of messages",
    "onefold_starts": "positions of messages",
    "onefold_watermarks": "positions of messages",
    "onefold_relay_shards": "who sends which part of the outbox",
    "onefold_dead_letters": "messages as a broker delivered them; each says whose it is",
    "onefold_messages": "messages on their way; each says whose it is",
    "onefold_partitions": "how far a topic's log has grown",
    "onefold_shares": "who reads which partition",
    "onefold_members": "our own processes",
    "trace_rounds": "how far our own reconciler has come",
}
TABLES = sorted(metadata.tables.values(), key=lambda table: table.name)
OF_SCHOOLS = [table for table in TABLES if table.name not in WITHOUT_SCHOOL]


def _name(table: Table) -> str:
    return table.name


def test_the_list_of_exceptions_is_true() -> None:
    """None of them has a school, and each exists."""
    assert {t.name for t in TABLES if "school_id" not in t.columns} == set(WITHOUT_SCHOOL)


@pytest.mark.parametrize("table", OF_SCHOOLS, ids=_name)
def test_every_row_of_a_person_says_its_school(table: Table) -> None:
    """The column cannot be empty, and there is an index or a key that begins with it."""
    leads = [list(table.primary_key.columns), *(list(index.columns) for index in table.indexes)]

    assert not table.c.school_id.nullable
    assert any(columns[0] is table.c.school_id for columns in leads)


@pytest.mark.parametrize("table", OF_SCHOOLS, ids=_name)
def test_a_school_is_one_that_exists(table: Table) -> None:
    """Through its own foreign key, or through the row it belongs to."""
    assert any(fk.columns.contains_column(table.c.school_id) for fk in _references(table))


@pytest.mark.parametrize("table", OF_SCHOOLS, ids=_name)
def test_no_row_points_into_another_school(table: Table) -> None:
    """A reference to a row of a school carries the school: the database would refuse another."""
    wrong = [
        fk.name
        for fk in _references(table)
        if "school_id" in fk.referred_table.columns
        and (table.c.school_id, fk.referred_table.c.school_id)
        not in [(element.parent, element.column) for element in fk.elements]
    ]

    assert wrong == []


def _references(table: Table) -> list[ForeignKeyConstraint]:
    return [one for one in table.constraints if isinstance(one, ForeignKeyConstraint)]
