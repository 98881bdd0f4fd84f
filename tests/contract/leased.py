"""Brokers over stores that know leases, and the set-up that their contract suites share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Generic, TypeVar

from tests.support_valkey import Valkey

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.transport import SqlTransport
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.transport import ValkeyTransport
from onefold.ports.transport import Transport
from onefold.testing.contracts.transport import BrokerUnderTest, TransportContract

T = TypeVar("T", SqlTransport, ValkeyTransport)
LEASE_S = 1.0


class LeasedBroker(Generic[T]):
    """A store, and the transports that were opened to it, each with connections of its own."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self.opened: list[T] = []

    async def open(self) -> Transport:
        return self.opens()

    async def topic(self, partitions: int) -> str:
        name = f"topic-{next(self._numbers)}"
        await self.opens().create(name, partitions=partitions)
        return name

    def opens(self) -> T:
        """As `open`, and as what it is."""
        self.opened.append(self.make())
        return self.opened[-1]

    async def aclose(self) -> None:
        for transport in self.opened:
            await transport.aclose()
        for transport in self.opened:
            await self.cut(transport)

    def make(self) -> T:
        """One more transport to the store."""
        raise NotImplementedError

    async def cut(self, transport: T) -> None:
        """Close the connections below a closed transport."""
        raise NotImplementedError


class SqlBroker(LeasedBroker[SqlTransport]):
    """A database."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def make(self) -> SqlTransport:
        return SqlTransport(SqlUnitOfWork(Database(self._url)), lease_s=LEASE_S)

    async def cut(self, transport: SqlTransport) -> None:
        await transport.uow.aclose()


class ValkeyBroker(LeasedBroker[ValkeyTransport]):
    """A server, under a prefix of its own."""

    def __init__(self, valkey: Valkey) -> None:
        super().__init__()
        self._valkey = valkey

    def make(self) -> ValkeyTransport:
        server = connect(self._valkey.url)
        return ValkeyTransport(server, prefix=self._valkey.prefix, lease_s=LEASE_S)

    async def cut(self, transport: ValkeyTransport) -> None:
        await transport.server.aclose()


class LeasedTransportContract(TransportContract):
    """The contract over such a broker."""

    silence_s = 0.4
    store: SqlBroker | ValkeyBroker  # set by each suite's fixture

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[BrokerUnderTest]:
        try:
            yield self.store
        finally:
            await self.store.aclose()
