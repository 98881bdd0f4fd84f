"""What the reconciler and a withdrawal read of the database: what they need, not all there is."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import delete, event, select, text, update
from tests.support import another_server, rows
from tests.support_trace import HOUR, MINUTE, World, trade

from onefold_server.domains.trades import store
from onefold_server.domains.trades.tables import deliveries, rounds, subscriptions


@contextmanager
def said(world: World) -> Iterator[list[tuple[str, Any]]]:
    """The statements of the block with their parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        seen.append((statement, values))

    engine = world.onefold.database.writer.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


async def plan_of(world: World, statement: str, values: Any) -> str:
    """How the database would find what *statement* asks for, where there is much of it."""
    async with world.onefold.database.writer.connect() as connection:
        if world.onefold.uow.features.name == "postgresql":
            await connection.execute(text("SET enable_seqscan = off"))
            words = "EXPLAIN "
        else:
            words = "EXPLAIN QUERY PLAN "
        found = await connection.exec_driver_sql(words + statement, values)
        await connection.invalidate()  # and with it what was set
        return "\n".join(str(row[-1]) for row in found)


async def many(world: World, count: int) -> None:
    """So many trades, each recorded at an instant of its own."""
    for n in range(count):
        given = [(uuid4(), trade(world.now, entry_price=f"1.{n:03}"))]
        await world.service.record_many(world.school.service, given)
        world.onefold.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]


async def lose_deliveries(world: World) -> None:
    """As a hand on the database may."""
    async with world.onefold.uow.begin() as tx:
        await tx.execute(delete(deliveries))


async def test_a_round_looks_at_so_many_and_all_rounds_at_all(world: World) -> None:
    """Ten a round, whatever there is; what is missing is found in its turn, again and again."""
    await world.destination()
    await world.subscribe()
    await many(world, 35)
    for _ in range(2):
        await lose_deliveries(world)
        found = [await world.service.reconcile(rows=10) for _ in range(5)]

        assert max(found) <= 10
        assert sum(found) == 35


async def test_what_a_close_missed_is_found_in_the_next_round(world: World) -> None:
    """However many trades are before it: a consent that was committed while it closed."""
    await world.destination()
    await many(world, 30)
    world.onefold.clock.advance(HOUR)  # type: ignore[attr-defined]
    await world.service.reconcile(rows=5)  # from here on it is known what is new
    await world.subscribe()
    late = await world.closed()
    await lose_deliveries(world)  # as if the consent had been committed after the close
    world.onefold.clock.advance(MINUTE)  # type: ignore[attr-defined]

    assert await world.service.reconcile(rows=5) == 1

    assert (await world.only())["trade_id"] == late


async def test_a_round_says_the_same_whatever_there_is(world: World) -> None:
    """Statements and what they read: by an index, from where the last round ended."""
    await world.destination()
    await world.subscribe()
    asked_of = []
    for more in (5, 60):
        await many(world, more)
        await world.service.reconcile()  # whatever the first one has to begin
        with said(world) as seen:
            assert await world.service.reconcile(rows=3) == 0
        asked_of.append(seen)
    assert len(asked_of[0]) == len(asked_of[1])

    asked = [one for one in asked_of[1] if "trace_revisions" in one[0]]
    assert len(asked) == 3  # there is nothing new, so what is new is not looked into
    for statement, values in asked:
        assert "ix_trace_revisions_recorded_at" in await plan_of(world, statement, values)


async def test_a_withdrawal_reads_its_own_deliveries_alone(world: World) -> None:
    """By an index on the consent, and none of the bytes."""
    await world.destination()
    given = await world.subscribe()
    await many(world, 3)
    await world.work_off(HOUR)
    await many(world, 2)
    for n in range(40):
        await world.subscribe(user=f"user-{n}")
        await world.closed(user_id=f"user-{n}")
    async with world.onefold.uow.begin() as tx:
        await tx.execute(text("ANALYZE"))

    with said(world) as seen:
        ended = await world.service.withdraw(world.school.admin, given["id"])

    assert (ended["cancelled"], len(ended["not_recalled"])) == (2, 3)
    looked = [s for s in seen if s[0].startswith("SELECT trace_deliveries")]
    assert len(looked) == 2
    for statement, values in looked:
        assert "trace_deliveries.body," not in statement
        assert "ix_trace_deliveries_subscription_id_school_id" in await plan_of(
            world, statement, values
        )


async def test_what_is_planned_while_a_consent_ends_is_cancelled(world: World) -> None:
    """The withdrawal could not see it; it leaves neither now nor later, and waits for nobody."""
    there = await world.destination()
    await world.subscribe()
    await world.closed()
    async with world.onefold.uow.begin() as tx:  # all that the withdrawal did not see
        await tx.execute(update(subscriptions).values(withdrawn_at=world.now))

    assert await world.work_off(MINUTE * 5) == {"cancelled": 1}
    found = await world.only()
    assert (found["state"], found["reason"], there.got) == ("cancelled", "withdrawn", [])


async def test_a_round_that_another_worker_holds_is_left_to_it(world: World) -> None:
    """Nobody waits for it, and nobody does it twice."""
    await world.destination()
    await world.subscribe()
    await many(world, 3)
    await world.service.reconcile()
    await lose_deliveries(world)

    if world.onefold.uow.features.parallel_writers:  # else there is one writer, and no other
        async with another_server(world.onefold) as other, world.onefold.uow.begin() as tx:
            await tx.execute(select(rounds).with_for_update())
            assert await other.trace.service.reconcile() == 0
    assert await world.service.reconcile() == 3
    names = {row["name"] for row in await rows(world.onefold, rounds)}
    assert names == {"new", "all"}


async def test_a_report_is_as_long_as_its_accounts_and_days(world: World) -> None:
    """However many trades there were: the database counts them, at the day of UTC."""
    await world.destination("one")
    await world.destination("two")
    await world.subscribe("one")
    await world.subscribe("two")
    await many(world, 20)
    await world.closed(account_id="other")
    await world.work_off(MINUTE * 5)
    midnight = (world.now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    world.onefold.clock.set(midnight)  # type: ignore[attr-defined]
    await world.closed(exit_time=midnight - timedelta(microseconds=1))
    await world.closed(exit_time=midnight, entry_price="1.2")

    found = await world.service.coverage(
        world.school.admin, since=world.now - HOUR * 48, until=world.now + HOUR
    )

    of = {(row["account_id"], row["day"]): row for row in found}
    first, second = (str((midnight - HOUR * n).date()) for n in (1, 0))
    assert set(of) == {("account-1", first), ("account-1", second), ("other", first)}
    assert (of["account-1", first]["closed"], of["account-1", first]["delivered"]) == (21, 40)
    assert (of["account-1", first]["pending"], of["account-1", second]["pending"]) == (2, 2)
    async with world.onefold.uow.read() as tx:
        since, until = world.now - HOUR * 48, world.now + HOUR
        rows_ = await store.coverage(tx, world.school.id, since=since, until=until)
    assert len(rows_) == 3
