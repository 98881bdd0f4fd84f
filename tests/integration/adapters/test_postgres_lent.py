"""Databases are lent to tests as the template is, whatever the test before did."""

import asyncpg
import pytest

from onefold.testing.servers import Postgres

_DRAW = """
    INSERT INTO onefold_outbox (event_id, event_type, body, published_at, shard)
    VALUES ($1, 't', '', now(), 0) RETURNING position
"""


def test_rows_and_tables_of_a_test_are_gone_for_the_next(onefold_postgres: Postgres) -> None:
    """Emptied, not made anew: the same database comes again."""
    url = onefold_postgres.lend()
    onefold_postgres.sql("CREATE TABLE mine AS SELECT 1 AS n", url)
    onefold_postgres.sql(
        "INSERT INTO onefold_inbox (consumer, event_id, fingerprint, claimed_at) "
        "VALUES ('c', 'e', '', now())",
        url,
    )

    onefold_postgres.give_back(url)
    again = onefold_postgres.lend()

    assert again == url
    (row,) = onefold_postgres.sql(
        "SELECT (SELECT count(*) FROM onefold_inbox), to_regclass('mine')", again
    )
    assert tuple(row) == (0, None)
    onefold_postgres.give_back(again)


async def test_what_a_test_left_open_is_gone_for_the_next(onefold_postgres: Postgres) -> None:
    """A transaction that nobody ended ends there, and numbers count from the start again."""
    url = onefold_postgres.lend()
    left = await asyncpg.connect(url)
    await left.execute("BEGIN")
    assert await left.fetchval(_DRAW, "never committed") == 1

    onefold_postgres.give_back(url)
    again = onefold_postgres.lend()

    assert again == url
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await left.execute("COMMIT")
    fresh = await asyncpg.connect(url)
    assert await fresh.fetchval(_DRAW, "first") == 1
    await fresh.close()
    onefold_postgres.give_back(again)


def test_a_number_that_was_drawn_for_no_row_is_drawn_again(onefold_postgres: Postgres) -> None:
    """The table of it has not a page: what was touched is told from its sequence too."""
    url = onefold_postgres.lend()
    draw = "SELECT nextval(pg_get_serial_sequence('onefold_outbox', 'position'))"
    assert onefold_postgres.sql(draw, url)[0][0] == 1

    onefold_postgres.give_back(url)
    again = onefold_postgres.lend()

    assert (again, onefold_postgres.sql(draw, again)[0][0]) == (url, 1)
    onefold_postgres.give_back(again)


def test_a_database_whose_seed_was_changed_is_thrown_away(onefold_postgres: Postgres) -> None:
    """What the migrations wrote is there again for the next test."""
    url = onefold_postgres.lend()
    onefold_postgres.sql("UPDATE alembic_version SET version_num = 'broken'", url)

    onefold_postgres.give_back(url)
    fresh = onefold_postgres.lend()

    assert fresh != url
    ((version,),) = onefold_postgres.sql("SELECT version_num FROM alembic_version", fresh)
    assert version != "broken"
    onefold_postgres.give_back(fresh)


def test_the_connection_that_empties_may_be_killed(onefold_postgres: Postgres) -> None:
    """It stays open, so that a test that kills whatever it finds kills that one, too."""
    url = onefold_postgres.lend()
    onefold_postgres.give_back(url)
    again = onefold_postgres.lend()
    everybody = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    killed = onefold_postgres.sql(everybody, again)
    onefold_postgres.give_back(again)

    assert len(killed) == 1
    assert onefold_postgres.lend() == again == url
    onefold_postgres.give_back(again)
