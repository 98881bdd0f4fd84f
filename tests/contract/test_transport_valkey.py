"""The Valkey transport, put through the contract of `ports.transport`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from tests.support_valkey import Valkey

from onefold.adapters.valkey.connection import Server, connect
from onefold.adapters.valkey.transport import ValkeyTransport
from onefold.ports.transport import Transport
from onefold.testing.contracts.transport import Broker, TransportContract


class ValkeyBroker:
    """A server under a prefix of its own, and the transports that were opened to it."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey, self._numbers = valkey, count(1)
        self.opened: list[ValkeyTransport] = []
        self.servers: list[Server] = []

    async def open(self) -> Transport:
        return self.opens()

    async def topic(self, partitions: int) -> str:
        name = f"topic-{next(self._numbers)}"
        await self.opens().create(name, partitions=partitions)
        return name

    async def aclose(self) -> None:
        for transport in self.opened:
            await transport.aclose()
        for server in self.servers:
            await server.aclose()

    def opens(self) -> ValkeyTransport:
        """As `open`, and as what it is."""
        self.servers.append(connect(self._valkey.url))
        transport = ValkeyTransport(self.servers[-1], prefix=self._valkey.prefix, lease_s=1.0)
        self.opened.append(transport)
        return transport


class TestValkeyTransport(TransportContract):
    __test__ = True
    silence_s = 0.4

    @pytest.fixture(autouse=True)
    def _server(self, valkey: Valkey) -> None:
        self._valkey = valkey

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Broker]:
        broker = ValkeyBroker(self._valkey)
        try:
            yield broker
        finally:
            await broker.aclose()
