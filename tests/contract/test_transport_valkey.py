"""The Valkey transport, put through the contract of `ports.transport`."""

import pytest
from tests.contract.leased import LeasedTransportContract, ValkeyBroker
from tests.support_valkey import Valkey


class TestValkeyTransport(LeasedTransportContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _store(self, valkey: Valkey) -> None:
        self.store = ValkeyBroker(valkey)
