"""The SQL transport over SQLite, put through the contract of `ports.transport`."""

import pytest
from tests.contract.leased import LeasedTransportContract, SqlBroker


class TestSqliteTransport(LeasedTransportContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _store(self, sqlite_url: str) -> None:
        self.store = SqlBroker(sqlite_url)
