"""How often the courier's way and a batch of closes speak to the database: not by the row."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event
from tests.support_trace import MINUTE, World, opening, trade

from onefold.errors import Conflict


@contextmanager
def statements(world: World) -> Iterator[list[str]]:
    """What is said in the block, BEGIN and COMMIT too; an executemany is one."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    database = world.onefold.database
    engines = {database.writer.sync_engine, database.reader.sync_engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


async def close_many(world: World, count: int) -> list[UUID]:
    """So many trades, closed in one transaction."""
    many = [(uuid4(), trade(world.now, entry_price=f"1.{n:03}")) for n in range(count)]
    assert all(await world.service.record_many(world.school.service, many))
    return [id_ for id_, _ in many]


@pytest.mark.parametrize("count", [2, 60])
async def test_a_batch_is_delivered_by_a_fixed_number_of_statements(
    world: World, count: int
) -> None:
    """Claim, open, settle, complete: four transactions, whatever the number of deliveries.

    On PostgreSQL the first and the last are a statement each, with no words around it.
    """
    sink = await world.destination(concurrency=100)
    await world.subscribe()
    await close_many(world, count)
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]

    async with world.courier() as courier:
        with statements(world) as seen:
            assert await courier.step()
            await courier.settled()

    assert len(sink.ids) == len(set(sink.ids)) == count
    postgresql = world.onefold.uow.features.name == "postgresql"
    assert len(seen) == (22 if postgresql else 28), "\n".join(seen)
    assert {row["state"] for row in await world.deliveries()} == {"delivered"}
    assert await world.onefold.trace.deadlines.next_due(await world.service.kinds()) == {}


@pytest.mark.parametrize("count", [2, 60])
async def test_many_closes_are_planned_by_a_fixed_number_of_statements(
    world: World, count: int
) -> None:
    """Trades, revisions, deliveries and deadlines: each once for all."""
    await world.destination()
    await world.subscribe()

    with statements(world) as seen:
        await close_many(world, count)

    assert len(seen) == 9, "\n".join(seen)
    assert len(await world.deliveries("pending")) == count


async def test_many_are_recorded_as_one_by_one(world: World) -> None:
    """Those that are there already, those that come twice, open ones and another user's."""
    await world.destination()
    await world.subscribe()
    known, twice, opened, foreign = (uuid4() for _ in range(4))
    await world.service.record(world.school.service, trade(world.now), trade_id=known)
    many = [
        (known, trade(world.now)),
        (twice, trade(world.now)),
        (opened, opening(world.now)),
        (foreign, trade(world.now, user_id="user-grace")),
        (twice, trade(world.now)),
    ]

    assert list(await world.service.record_many(world.school.service, many)) == [
        *(False, True, True, True, False)
    ]

    planned = await world.deliveries()
    assert {row["trade_id"] for row in planned} == {str(known), str(twice)} or {
        row["trade_id"] for row in planned
    } == {known, twice}
    assert len(planned) == 2


async def test_many_with_one_that_differs_record_none(world: World) -> None:
    """The id of another trade refuses all of the call."""
    await world.destination()
    await world.subscribe()
    known = uuid4()
    await world.service.record(world.school.service, trade(world.now), trade_id=known)
    many = [(uuid4(), trade(world.now)), (known, trade(world.now, entry_price="9"))]

    with pytest.raises(Conflict):
        await world.service.record_many(world.school.service, many)

    assert len(await world.deliveries()) == 1


async def test_many_of_a_symbol_get_its_instrument(world: World) -> None:
    """A profit is worked out as it is for one."""
    await world.service.set_instrument(world.school.admin, "EURUSD", "100000", "USD")
    one = await world.service.record(world.school.service, trade(world.now))
    ids = await close_many(world, 2)

    alike = [await world.service.trade(world.school.admin, id_) for id_ in ids]
    assert one["profit_gross"] is not None
    assert all(each["profit_gross"] is not None for each in alike)
