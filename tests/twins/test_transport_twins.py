"""Transports with the numbered faults in them: the contract must catch each, by name."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from inspect import getmembers, iscoroutinefunction
from itertools import count

import pytest

from onefold.adapters.memory.transport import MemorySubscription, MemoryTransport
from onefold.ports.transport import (
    Message,
    Outgoing,
    Partition,
    Subscription,
    Transport,
    TransportFeatures,
)
from onefold.testing.contracts.transport import BrokerUnderTest, TransportContract


class Honest:
    """A memory subscription, unchanged; the twins change one thing each."""

    def __init__(self, inner: MemorySubscription) -> None:
        self._inner = inner

    @property
    def features(self) -> TransportFeatures:
        return self._inner.features

    async def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Message]:
        return await self._inner.receive(max_messages=max_messages, wait_s=wait_s)

    async def settle(self, messages: Sequence[Message]) -> Sequence[Message]:
        return await self._inner.settle(messages)

    async def lost(self) -> Collection[tuple[Partition, int]]:
        return await self._inner.lost()

    def standing(self) -> Mapping[Partition, int | None]:
        return self._inner.standing()

    async def pause(self, partitions: Collection[Partition]) -> None:
        await self._inner.pause(partitions)

    async def resume(self, partitions: Collection[Partition]) -> None:
        await self._inner.resume(partitions)

    async def close(self) -> None:
        await self._inner.close()

    async def kill(self) -> None:
        await self._inner.kill()


class CommitsWhatWasPolled(Honest):
    """A bare `commit()`: the position of everything handed out, done or not (B6, B7)."""

    def __init__(self, inner: MemorySubscription) -> None:
        super().__init__(inner)
        self._polled: list[Message] = []

    async def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Message]:
        received = await super().receive(max_messages=max_messages, wait_s=wait_s)
        self._polled += received
        return received

    async def settle(self, messages: Sequence[Message]) -> Sequence[Message]:
        refused = await super().settle(messages)
        await super().settle(self._polled)
        return refused


class SettlesOnReceipt(Honest):
    """Auto-commit: what is handed out counts as done."""

    async def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Message]:
        received = await super().receive(max_messages=max_messages, wait_s=wait_s)
        await super().settle(received)
        return received


class CommitsAfterRevocation(Honest):
    """No rebalance listener: what another member holds by now is committed all the same (B20)."""

    async def settle(self, messages: Sequence[Message]) -> Sequence[Message]:
        for message in await super().settle(messages):
            self._inner._group.settled[message.partition] = message.position + 1
        return []


class StartsAtTheLatest(Honest):
    """`auto.offset.reset=latest`: what came before the first member is nobody's (B21)."""

    def __init__(self, inner: MemorySubscription) -> None:
        super().__init__(inner)
        for partition, hold in inner._holds.items():
            if partition not in inner._group.settled:
                hold.cursor = len(inner._broker.log(partition))


class ForgetsOnPause(Honest):
    """A pause that throws away what comes meanwhile."""

    async def resume(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            self._inner._holds[partition].cursor = len(self._inner._broker.log(partition))
        await super().resume(partitions)


class HandsOutBackwards(Honest):
    """Messages of a partition in any order but theirs."""

    async def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Message]:
        received = await super().receive(max_messages=max_messages, wait_s=wait_s)
        return list(reversed(received))


class TwinTransport:
    """A memory transport whose members are twins."""

    def __init__(self, twin: Callable[[MemorySubscription], Subscription]) -> None:
        self.inner, self._twin = MemoryTransport(), twin

    @property
    def features(self) -> TransportFeatures:
        return self.inner.features

    async def subscribe(self, group: str, topics: Collection[str]) -> Subscription:
        return self._twin(await self.inner.subscribe(group, topics))

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[BaseException | None]:
        return await self.inner.publish(messages)

    async def aclose(self) -> None:
        await self.inner.aclose()


class TwinBroker:
    def __init__(self, twin: Callable[[MemorySubscription], Subscription]) -> None:
        self._transport, self._numbers = TwinTransport(twin), count(1)

    async def open(self) -> Transport:
        return self._transport

    async def topic(self, partitions: int) -> str:
        name = f"topic-{next(self._numbers)}"
        self._transport.inner.create(name, partitions)
        return name


class OnTwin(TransportContract):
    patience_s, silence_s = 0.3, 0.001

    def __init__(self, twin: Callable[[MemorySubscription], Subscription]) -> None:
        self._twin = twin

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[BrokerUnderTest]:
        yield TwinBroker(self._twin)


async def failing(twin: Callable[[MemorySubscription], Subscription]) -> set[str]:
    """The names of the contract's tests that the twin fails."""
    contract, failed = OnTwin(twin), set()
    for name, test in getmembers(contract, iscoroutinefunction):
        if name.startswith("test_"):
            try:
                async with asyncio.timeout(5):
                    await test()
            except (AssertionError, TimeoutError):
                failed.add(name)
    return failed


async def test_the_honest_one_passes() -> None:
    """What the twins are made of has none of their faults."""
    assert await failing(Honest) == set()


@pytest.mark.parametrize(
    ("twin", "caught_by"),
    [
        (CommitsWhatWasPolled, "test_a_gap_is_not_jumped_over"),
        (CommitsWhatWasPolled, "test_what_is_settled_does_not_come_again"),
        (SettlesOnReceipt, "test_what_is_not_settled_comes_again"),
        (SettlesOnReceipt, "test_the_dead_leave_their_work_to_the_living"),
        (CommitsAfterRevocation, "test_a_lost_partition_cannot_be_settled"),
        (StartsAtTheLatest, "test_a_new_group_starts_at_the_earliest_message"),
        (ForgetsOnPause, "test_a_paused_partition_rests"),
        (HandsOutBackwards, "test_messages_of_a_key_arrive_in_order"),
    ],
)
async def test_the_twin_is_caught(
    twin: Callable[[MemorySubscription], Subscription], caught_by: str
) -> None:
    """The fault has a test of the contract that fails on it."""
    assert caught_by in await failing(twin)
