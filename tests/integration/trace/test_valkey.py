"""Couriers that learn from Valkey what is due: the records stay in the database."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import redis
from pydantic import SecretStr
from tests.support import School, another_server, new_school
from tests.support_trace import BUSY, MINUTE, OK, Scripted, World
from tests.support_valkey import Valkey

from onefold.testing.clock import ManualClock
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings


@pytest.fixture
async def onefold(
    database_url: str, valkey: Valkey, clock: ManualClock
) -> AsyncIterator[Installation]:
    """All parts, with what is due in Valkey."""
    settings = Settings(
        database_url=SecretStr(database_url),
        trace_valkey_url=SecretStr(valkey.url),
        trace_valkey_prefix=valkey.prefix,
    )
    built = build(settings, clock=clock)
    yield built
    await built.aclose()


@pytest.fixture
async def school(onefold: Installation) -> School:
    """A fresh school."""
    return await new_school(onefold)


async def _fed(world: World, after: timedelta) -> dict[str, int]:
    world.onefold.clock.advance(after)  # type: ignore[attr-defined]
    await world.onefold.trace.feed()
    return await world.work_off()


async def test_what_a_close_scheduled_is_delivered_through_valkey(world: World) -> None:
    """Fed from the database, claimed in Valkey, recorded in the database."""
    there = await world.destination()
    await world.subscribe()
    await world.closed()

    assert await _fed(world, MINUTE * 5 - timedelta(seconds=1)) == {}
    assert await _fed(world, timedelta(seconds=1)) == {"delivered": 1}
    assert (len(there.got), (await world.only())["state"]) == (1, "delivered")


async def test_a_valkey_that_lost_everything_loses_no_delivery(
    world: World, valkey: Valkey
) -> None:
    """The reconciler arms again what is overdue."""
    there = await world.destination()
    await world.subscribe()
    await world.closed()
    await _fed(world, MINUTE * 4)
    _lose_all(valkey)

    assert await _fed(world, MINUTE * 20) == {}
    await world.service.reconcile()
    assert await _fed(world, MINUTE) == {"delivered": 1}
    assert len(there.got) == 1


def _lose_all(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url.replace("valkey:", "redis:")) as client:
        for name in client.keys(f"{valkey.prefix}:*"):
            client.delete(name)


@pytest.mark.parametrize("count", [1, 6], ids=["failing", "resting"])
async def test_a_valkey_that_lost_what_a_failing_destination_waits_for(
    world: World, valkey: Valkey, count: int
) -> None:
    """It is armed again too, once its rest is long over: nothing else would try it ever again."""
    there = await world.destination(sink=Scripted([BUSY]))
    await world.subscribe()
    for n in range(count):
        await world.closed(entry_price=f"1.{n}")
    await _fed(world, MINUTE * 5)
    assert {row["state"] for row in await world.deliveries()} == {"pending"}
    _lose_all(valkey)

    there.script = [OK]
    await _fed(world, MINUTE * 20)
    await world.service.reconcile()
    assert (await _fed(world, MINUTE * 10))["delivered"] == count


async def test_what_is_done_is_not_done_again_though_valkey_says_so(
    world: World, valkey: Valkey
) -> None:
    """A deadline that came back finds a delivery that is over."""
    there = await world.destination()
    await world.subscribe()
    await world.closed()
    await _fed(world, MINUTE * 5)
    done = await world.only()
    from onefold.ports.deadlines import Deadline
    from onefold_server.domains.trades.service import kind_of

    again = Deadline(
        kind=kind_of(done["destination_id"]), key=str(done["id"]), due_at=world.now, payload={}
    )
    await world.onefold.trace.deadlines.arm([again])

    assert await world.work_off() == {"skipped": 1}
    assert len(there.got) == 1
    async with another_server(world.onefold) as other, world.courier(onefold=other) as courier:
        assert await courier.work_off() == {}
