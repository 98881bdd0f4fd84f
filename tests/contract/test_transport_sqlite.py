"""The SQL transport over SQLite, put through the contract of `ports.transport`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.transport import SqlTransport
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.ports.transport import Transport
from onefold.testing.contracts.transport import Broker, TransportContract


class SqlBroker:
    """A database, and the transports that were opened to it, each with connections of its own."""

    def __init__(self, url: str) -> None:
        self._url, self._numbers = url, count(1)
        self.opened: list[SqlTransport] = []

    async def open(self) -> Transport:
        return self.opens()

    async def topic(self, partitions: int) -> str:
        name = f"topic-{next(self._numbers)}"
        await self.opens().create(name, partitions=partitions)
        return name

    async def aclose(self) -> None:
        for transport in self.opened:
            await transport.aclose()
        for transport in self.opened:
            await transport.uow.aclose()

    def opens(self) -> SqlTransport:
        """As `open`, and as what it is."""
        transport = SqlTransport(SqlUnitOfWork(Database(self._url)), lease_s=1.0)
        self.opened.append(transport)
        return transport


class TestSqliteTransport(TransportContract):
    __test__ = True
    silence_s = 0.4

    @pytest.fixture(autouse=True)
    def _database(self, sqlite_url: str) -> None:
        self._url = sqlite_url

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Broker]:
        broker = SqlBroker(self._url)
        try:
            yield broker
        finally:
            await broker.aclose()
