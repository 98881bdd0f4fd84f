"""The memory broker tells what it owes, as the others do (`tests/integration/leased`)."""

from datetime import timedelta

from onefold.adapters.memory.transport import MemoryTransport
from onefold.ports.transport import Outgoing, Partition
from onefold.testing.clock import ManualClock


async def test_the_memory_broker_tells_what_it_owes(clock: ManualClock) -> None:
    """Since when, up to where, and nothing once all is settled."""
    broker, began = MemoryTransport(partitions=1, clock=clock), clock.now()
    assert await broker.unsettled_since("g", ["t"]) is None
    for number in range(2):
        sent = Outgoing(topic="t", key=None, value=b"%d" % number)
        assert list(await broker.publish([sent])) == [None]
        clock.advance(timedelta(minutes=1))
    subscription = await broker.subscribe("g", ["t"])
    first, second = await subscription.receive(max_messages=9, wait_s=1)

    owed = [await broker.unsettled_since("g", ["t"])]
    for message in (first, second):
        await subscription.settle([message])
        owed.append(await broker.unsettled_since("g", ["t"]))

    assert owed == [began, began + timedelta(minutes=1), None]
    assert await broker.settled_to("g", ["t"]) == {Partition("t", 0): 2}
    assert await broker.settled_to("g", ["other"]) == {}
    assert await broker.retention_s("t") == 0
    ages = {"before": clock.now(), "unread": clock.now()}
    assert await broker.trim(["t"], **ages, limit=9) == 0
    await broker.aclose()
