"""The memory transport, put through the contract of `ports.transport`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from onefold.adapters.memory.transport import MemoryTransport
from onefold.ports.transport import Transport
from onefold.testing.contracts.transport import BrokerUnderTest, TransportContract


class MemoryBroker:
    """One broker in this process: whoever opens it gets the same."""

    def __init__(self) -> None:
        self._transport, self._numbers = MemoryTransport(), count(1)

    async def open(self) -> Transport:
        return self._transport

    async def topic(self, partitions: int) -> str:
        name = f"topic-{next(self._numbers)}"
        self._transport.create(name, partitions)
        return name


class TestMemoryTransport(TransportContract):
    __test__ = True
    patience_s, silence_s = 1.0, 0.001

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[BrokerUnderTest]:
        yield MemoryBroker()
