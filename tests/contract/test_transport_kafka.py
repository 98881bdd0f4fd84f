"""The Kafka transport on a real Apache Kafka, put through the contract: both protocols."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar
from uuid import uuid4

import pytest
from tests.support_kafka import FAST_GROUPS

from onefold.adapters.kafka.options import Options
from onefold.adapters.kafka.transport import KafkaTransport
from onefold.ports.transport import Transport
from onefold.testing.contracts.transport import BrokerUnderTest, TransportContract

# One broker serves all of this file's tests: under xdist they stay together.
pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(90)]


class RealBroker:
    """A broker that other tests use too, and the transports that were opened to it."""

    def __init__(self, bootstrap: str, options: Options) -> None:
        self._bootstrap, self._options = bootstrap, options
        self.opened: list[KafkaTransport] = []

    async def open(self) -> Transport:
        return self._open()

    async def topic(self, partitions: int) -> str:
        name = f"onefold-test-{uuid4()}"
        await self._open().create(name, partitions=partitions)
        return name

    def _open(self) -> KafkaTransport:
        self.opened.append(KafkaTransport(self._bootstrap, options=self._options))
        return self.opened[-1]


class TestKafkaTransport(TransportContract):
    __test__ = True
    patience_s, silence_s = 40.0, 0.7
    options: ClassVar[Options] = FAST_GROUPS

    @pytest.fixture(autouse=True)
    def _kafka(self, kafka: str) -> None:
        self._bootstrap = kafka

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[BrokerUnderTest]:
        broker = RealBroker(self._bootstrap, self.options)
        try:
            yield broker
        finally:
            for transport in broker.opened:
                await transport.aclose()


class TestKafkaTransportOnTheConsumerProtocol(TestKafkaTransport):
    """KIP-848: the broker assigns partitions and says how long a member may be silent."""

    options: ClassVar[Options] = {"group.protocol": "consumer", "log_level": 2}
