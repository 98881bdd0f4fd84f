"""The SQL transport over PostgreSQL, put through the contract of `ports.transport`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.contract.test_transport_sqlite import SqlBroker

from onefold.testing.contracts.transport import Broker, TransportContract


class TestPostgresTransport(TransportContract):
    __test__ = True
    silence_s = 0.4

    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self._url = postgres_url

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Broker]:
        broker = SqlBroker(self._url)
        try:
            yield broker
        finally:
            await broker.aclose()
