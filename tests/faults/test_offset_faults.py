"""
The numbered faults of offsets: B6, B7, B8, B20, B21, in the loops that had them and in ours.

A scenario tells what happened to the effects; None when each record had exactly one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any, Protocol

import pytest
from tests.integration.engine.test_consumer import surroundings
from tests.twins.naive_loop import Handler, NaiveBroker, NaiveLoop

from onefold.adapters.kafka.options import checked, for_consumer
from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.core.envelope import Event
from onefold.core.partitions import partition_of
from onefold.core.wire import encode_native
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.delivery import HandlerTransaction
from onefold.errors import InvalidSetting
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock
from onefold.testing.crash.points import Crash

NOTE = "idempotency"

KEYS = [next(k for k in map(str, range(99)) if partition_of(k.encode(), 2) == p) for p in (0, 1)]


class Process(Protocol):
    """A worker that has joined."""

    async def run(self) -> None:
        """Handle what is there, once; a retry is not due yet."""
        ...


class Side(Protocol):
    """A design under the scenario: a broker of two partitions, and committed effects."""

    async def send(self, partition: int, *records: str) -> None:
        """Append to a partition."""
        ...

    async def process(self, before: Handler) -> Process:
        """A new member of the group; *before* runs ahead of each record's effect."""
        ...

    def effects(self) -> list[str]:
        """What was committed, in its order."""
        ...


class NaiveSide:
    """The loops that are replaced."""

    def __init__(self, **loop: Any) -> None:
        self.broker, self._loop = NaiveBroker(), loop
        self._effects: list[str] = []

    async def send(self, partition: int, *records: str) -> None:
        self.broker.logs[partition] += records

    async def process(self, before: Handler) -> Process:
        async def handler(record: str) -> None:
            await before(record)
            self._effects.append(record)

        loop = NaiveLoop(self.broker, handler, **self._loop)
        loop.join()
        return loop

    def effects(self) -> list[str]:
        return self._effects


class OnefoldSide:
    """Ours, over the reference adapters."""

    def __init__(self) -> None:
        self.clock, self.uow = ManualClock(), MemoryUnitOfWork()
        self.ledger = MemoryLedger(self.uow)
        self.transport = MemoryTransport(partitions=2)
        self._joined: list[Any] = []

    async def send(self, partition: int, *records: str) -> None:
        facts: dict[str, Any] = {"source": "s", "key": KEYS[partition], "now": self.clock.now()}
        events = [Event.new("t", r, random=Random(r).randbytes, **facts) for r in records]
        key = KEYS[partition].encode()
        await self.transport.publish(
            [Outgoing(topic="t", key=key, value=encode_native(event)) for event in events]
        )

    async def process(self, before: Handler) -> Process:
        async def handler(event: Event, tx: HandlerTransaction) -> None:
            await before(event.data)
            tx.tx.records.setdefault("effects", []).append(event.data)  # type: ignore[attr-defined]

        # The one that came before, if it is still there, is not told to stop.
        subscription = await self.transport.subscribe("c", ["t"])
        consumer = Consumer(
            ConsumerSpec(name="c", topics=("t",), handler=handler, max_batch=10),
            subscription=subscription,
            uow=self.uow,
            ledger=self.ledger,
            env=surroundings(self.clock, seed=len(self._joined)),
            poll_s=0,
        )
        self._joined.append(subscription)
        return _OurProcess(consumer, subscription)

    def effects(self) -> list[str]:
        found: list[str] = self.uow.committed.records.get("effects", [])
        return found


class _OurProcess:
    def __init__(self, consumer: Consumer, subscription: Any) -> None:
        self._consumer, self._subscription = consumer, subscription

    async def run(self) -> None:
        """Then it is gone, whatever it had in its hands; its goodbye is not awaited."""
        try:
            await self._consumer.drain()
        finally:
            await self._subscription.kill()


async def nothing(_: str) -> None:
    """Go on."""


def wrong(side: Side, *records: str) -> str | None:
    """What is wrong with the effects."""
    found = sorted(side.effects())
    return None if found == sorted(records) else f"effects {found} instead of {sorted(records)}"


def once(record: str, error: BaseException) -> Handler:
    """Raises *error* at the first run of *record*."""
    left = [error]

    async def before(this: str) -> None:
        if this == record and left:
            raise left.pop()

    return before


async def b06_a_commit_elsewhere_does_not_pass_a_failed_record(side: Side) -> str | None:
    """p0 failed, p1 succeeded, and the commit after p1 stored the position of both."""
    await side.send(0, "a")
    await side.send(1, "b")
    await (await side.process(once("a", ValueError()))).run()
    await (await side.process(nothing)).run()
    return wrong(side, "a", "b")


async def b06_a_later_commit_does_not_pass_a_failed_record(side: Side) -> str | None:
    """The explicit offset of the next record jumped over the earlier failure."""
    await side.send(0, "a", "b")
    await (await side.process(once("a", ValueError()))).run()
    await (await side.process(nothing)).run()
    return wrong(side, "a", "b")


async def b07_a_commit_covers_what_was_done_and_no_more(side: Side) -> str | None:
    """A hundred were fetched, and committed after the first; a kill at the second lost 99."""
    records = [f"r{n:02}" for n in range(50)]
    await side.send(0, *records)
    with suppress(Crash):
        await (await side.process(once("r01", Crash()))).run()
    await (await side.process(nothing)).run()
    return wrong(side, *records)


async def b08_an_error_is_not_committed(side: Side) -> str | None:
    """A time-out of the database was logged, and the offset moved."""
    await side.send(0, "a")
    await (await side.process(once("a", TimeoutError()))).run()
    await (await side.process(nothing)).run()
    return wrong(side, "a")


async def b20_a_revoked_worker_confirms_nothing(side: Side) -> str | None:
    """Its partition went to another while its handler ran; both had their effect."""
    running, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: str) -> None:
        running.set()
        await go_on.wait()

    await side.send(1, "a")  # the second of two members gets the second partition
    revoked = asyncio.create_task((await side.process(slow)).run())
    await running.wait()
    another = asyncio.create_task((await side.process(nothing)).run())
    for _ in range(20):
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(revoked, another)
    await (await side.process(nothing)).run()
    return wrong(side, "a")


async def b21_the_first_start_is_at_the_beginning(side: Side) -> str | None:
    """What was sent before the group's first start was dropped without a word."""
    await side.send(0, "a")
    await (await side.process(nothing)).run()
    return wrong(side, "a")


Scenario = Callable[[Side], Awaitable[str | None]]

# Each with the loop that had it.
SCENARIOS: dict[Scenario, dict[str, Any]] = {
    b06_a_commit_elsewhere_does_not_pass_a_failed_record: {"commit": "bare"},
    b06_a_later_commit_does_not_pass_a_failed_record: {"commit": "next"},
    b07_a_commit_covers_what_was_done_and_no_more: {"commit": "bare", "fetch": 100},
    b08_an_error_is_not_committed: {"commit": "always", "fetch": 10},
    b20_a_revoked_worker_confirms_nothing: {"commit": "next"},
    b21_the_first_start_is_at_the_beginning: {"reset": "latest"},
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_the_fault_is_closed(scenario: Scenario) -> None:
    """Each record has exactly one effect, whatever happens on the way."""
    assert await scenario(OnefoldSide()) is None


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_the_twin_is_caught(scenario: Scenario) -> None:
    """The loop that had the fault shows it in this very scenario."""
    assert await scenario(NaiveSide(**SCENARIOS[scenario])) is not None


def test_b21_kafka_starts_at_the_beginning_and_cannot_be_told_otherwise() -> None:
    """On the real broker too: the option is ours."""
    assert for_consumer("b", "g", {})["auto.offset.reset"] == "earliest"
    with pytest.raises(InvalidSetting, match="carries a promise"):
        checked({"auto.offset.reset": "latest"})
