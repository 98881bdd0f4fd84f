"""A message that was applied is never given up for what its workers died of."""

from contextlib import suppress

from tests.integration.engine.test_consumer import World, event, send

from onefold.core.envelope import Event
from onefold.engine.delivery import HandlerTransaction
from onefold.testing.crash.points import Crash, Mortal, Reaper

ATTEMPTS = 3


async def _dies_before_settling(world: World, handler: object) -> None:
    consumer = await world.consumer(handler, max_attempts=ATTEMPTS)
    subscription = consumer._subscription
    reaper = Reaper(fatal="subscription.settle#1:before")
    consumer._subscription = Mortal(subscription, reaper, "subscription")
    with suppress(Crash):
        await consumer.drain()
    await subscription.kill()  # type: ignore[attr-defined]


async def test_a_message_whose_workers_die_after_it_was_applied_is_not_parked(
    world: World,
) -> None:
    """It killed nobody: more deaths than it has attempts leave it applied once, and settled."""
    await send(world.transport, event(world.clock, 1))
    for _ in range(ATTEMPTS + 2):
        await _dies_before_settling(world, world.note)

    consumer = await world.consumer(world.note, max_attempts=ATTEMPTS)
    await consumer.drain()

    assert await world.ledger.letters() == []
    assert (await world.effects(), consumer.counts.repeated) == ([1], 1)


async def test_a_message_that_kills_its_workers_is_still_parked(world: World) -> None:
    """What never ends is given up after its attempts, whatever came before."""

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        raise Crash("the handler took its process with it")

    await send(world.transport, event(world.clock, 1))
    for _ in range(ATTEMPTS + 2):
        await _dies_before_settling(world, handler)

    (letter,) = await world.ledger.letters()

    assert letter["reason"] == "killed_its_worker"
