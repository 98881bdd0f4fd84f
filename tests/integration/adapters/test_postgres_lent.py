"""Databases are lent to tests as the template is, whatever the test before did."""

from onefold.testing.servers import Postgres


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
