"""Our consumer behind a network that loses, cuts, repeats and reorders: each effect once."""

import pytest
from tests.crash.test_consumer_deaths import ForgetsClaims, World, _effect
from tests.integration.engine.test_consumer import surroundings

from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.errors import StoreUnavailable
from onefold.testing.faults import Faults
from onefold.testing.marks import collected, sometimes


async def _drained(seed: int, build: type[Consumer] = Consumer) -> World:
    """A world whose messages were all consumed over such a network."""
    world = World()
    await world._send()
    faults = Faults(seed=seed, lose=0.1, cut=0.2, repeat=0.4, reorder=0.4, most=20)
    while not await _worked(world, faults, seed, build):
        sometimes("joined again")
    for fault in faults.done:
        sometimes(fault.rpartition(":")[2])
    return world


async def _worked(world: World, faults: Faults, seed: int, build: type[Consumer]) -> bool:
    """One membership, as a worker's: one that fails is left, and its messages come again."""
    subscription = await world.transport.subscribe("c", ["t"])
    consumer = build(
        ConsumerSpec(name="c", topics=("t",), handler=_effect, max_batch=3),
        subscription=faults.around(subscription, "subscription"),
        uow=world.uow,
        # Only lost: a count whose answer is lost counts again, and parks what never ran.
        ledger=Faults(seed=seed, lose=0.2, most=5).around(world.ledger, "ledger"),
        env=surroundings(world.clock, seed=hash((seed, len(faults.done)))),
        poll_s=0,
    )
    try:
        await consumer.drain()
    except StoreUnavailable:
        return False
    else:
        return True
    finally:
        await subscription.kill()


async def test_each_effect_happens_once_on_a_bad_network() -> None:
    """For twenty seeds, and every kind of fault did happen."""
    with collected() as marks:
        for seed in range(20):
            await (await _drained(seed)).check()

    assert {"lost", "cut", "repeated", "reordered", "joined again"} <= marks.keys()


async def test_a_consumer_without_an_inbox_is_caught_by_the_network_too() -> None:
    """The twin applies what comes again, again."""
    world = await _drained(1, ForgetsClaims)

    with pytest.raises(AssertionError):
        await world.check()
