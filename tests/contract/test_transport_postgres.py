"""The SQL transport over PostgreSQL, put through the contract of `ports.transport`."""

import pytest
from tests.contract.leased import LeasedTransportContract, SqlBroker


class TestPostgresTransport(LeasedTransportContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _store(self, postgres_url: str) -> None:
        self.store = SqlBroker(postgres_url)
