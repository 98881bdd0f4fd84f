"""Which of a user's consents counts: the one that was given last, whatever the clock says."""

import asyncio
from datetime import timedelta

from tests.support import another_server, rows
from tests.support_trace import World

from onefold_server.domains.trades.tables import deliveries, subscriptions

MANY = range(300, 308)  # eight delays, so that chance does not find the last


async def _leaves_after(world: World) -> int:
    """How long after its close a trade of now may leave, in seconds."""
    id_ = await world.closed(entry_price=f"1.{await _count(world):05}")
    (planned,) = [r for r in await rows(world.onefold, deliveries) if r["trade_id"] == id_]
    return int((planned["not_before"] - world.now).total_seconds())


async def _count(world: World) -> int:
    return len(await rows(world.onefold, deliveries))


async def test_of_consents_of_one_instant_the_last_counts(world: World) -> None:
    """In the order in which they were given, which no clock is fine enough to tell."""
    await world.destination()
    for delay_s in MANY:
        await world.subscribe(delay_s=delay_s)

    assert await _leaves_after(world) == MANY[-1]
    given = await world.service.subscriptions(world.school.admin, "user-ada")
    assert [one["delay_s"] for one in given] == list(MANY)


async def test_a_consent_given_by_a_clock_that_was_set_back_is_the_last_all_the_same(
    world: World,
) -> None:
    """What was agreed to last counts, not what has the latest date."""
    await world.destination()
    await world.subscribe(delay_s=600)
    world.onefold.clock.advance(timedelta(minutes=-5))  # type: ignore[attr-defined]
    await world.subscribe(delay_s=900)
    world.onefold.clock.advance(timedelta(minutes=10))  # type: ignore[attr-defined]

    assert await _leaves_after(world) == 900


async def test_consents_given_at_once_are_in_one_order(world: World) -> None:
    """By two servers, on connections of their own: each has its place, and the last counts."""
    await world.destination()
    async with another_server(world.onefold) as other:
        await asyncio.gather(
            *(
                server.trace.service.subscribe(
                    world.school.admin,
                    "user-ada",
                    "tracker",
                    profile="full",
                    consent_version="1",
                    delay_s=delay_s,
                )
                for server, delay_s in zip((world.onefold, other) * 4, MANY, strict=True)
            )
        )

    given = sorted(await rows(world.onefold, subscriptions), key=lambda row: row["number"])
    assert [row["number"] for row in given] == list(range(1, 9))
    assert await _leaves_after(world) == given[-1]["delay_s"]
    shown = await world.service.subscriptions(world.school.admin, "user-ada")
    assert [row["id"] for row in shown] == [row["id"] for row in given]


async def test_a_consent_given_again_after_another_is_the_last(world: World) -> None:
    """Who goes back to what they agreed to before has the last word too; said twice it is once."""
    await world.destination()
    for delay_s in (300, 900, 300, 300):
        await world.subscribe(delay_s=delay_s)

    assert await _leaves_after(world) == 300
    assert len(await rows(world.onefold, subscriptions)) == 3
