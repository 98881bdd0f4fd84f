"""The Kafka transport on librdkafka's mock cluster, put through the contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from tests.support_kafka import FAST_GROUPS

from onefold.adapters.kafka.mock import MockCluster
from onefold.adapters.kafka.transport import KafkaTransport
from onefold.ports.transport import Transport
from onefold.testing.contracts.transport import BrokerUnderTest, TransportContract

pytestmark = pytest.mark.timeout(60)  # a group takes seconds to miss a member, more under load


class MockBroker:
    """A mock cluster and the transports that were opened to it."""

    def __init__(self, cluster: MockCluster) -> None:
        self._cluster, self._numbers = cluster, count(1)
        self.opened: list[KafkaTransport] = []

    async def open(self) -> Transport:
        transport = KafkaTransport(self._cluster.bootstrap, options=FAST_GROUPS)
        self.opened.append(transport)
        return transport

    async def topic(self, partitions: int) -> str:
        name = f"topic-{next(self._numbers)}"
        self._cluster.create(name, partitions)
        return name


class TestKafkaTransportOnMock(TransportContract):
    __test__ = True
    patience_s, silence_s = 40.0, 0.5

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[BrokerUnderTest]:
        with MockCluster() as cluster:
            broker = MockBroker(cluster)
            try:
                yield broker
            finally:
                for transport in broker.opened:
                    await transport.aclose()
