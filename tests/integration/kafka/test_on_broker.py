"""What only a real Kafka has: retention, limits of its own, a death and a life after it."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from tests.integration.kafka.test_on_mock import _get, _sent
from tests.support_kafka import FAST_GROUPS, kafka_server

from onefold.adapters.kafka.transport import KafkaTransport
from onefold.errors import StoreUnavailable
from onefold.ports.transport import Outgoing
from onefold.testing.contracts.transport import messages, values

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(180)]


@pytest.fixture
async def transport(kafka: str) -> AsyncIterator[KafkaTransport]:
    transport = KafkaTransport(kafka, options=FAST_GROUPS)
    yield transport
    await transport.aclose()


def _create(bootstrap: str, **config: str) -> str:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    name = f"onefold-test-{uuid4()}"
    admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result()
    resource = ConfigResource(ResourceType.TOPIC, name)
    for _ in range(100):  # the broker knows its own topics a moment after it made them
        try:
            admin.describe_configs([resource])[resource].result()
        except KafkaException:
            continue
        return name
    raise AssertionError(name)


async def test_retention_is_read(kafka: str, transport: KafkaTransport) -> None:
    """A guard can ask how long a message may come again."""
    hour = _create(kafka, **{"retention.ms": "3600000"})
    ever = _create(kafka, **{"retention.ms": "-1"})
    compacted = _create(kafka, **{"cleanup.policy": "compact"})

    assert await transport.retention_s(hour) == 3600
    assert await transport.retention_s(ever) == math.inf
    assert await transport.retention_s(compacted) == math.inf


async def test_retention_of_an_unknown_topic(transport: KafkaTransport) -> None:
    """It is not guessed."""
    with pytest.raises(StoreUnavailable):
        await transport.retention_s("onefold-test-no-such-topic")


async def test_a_batch_too_large_for_the_broker_leaves_no_gap(
    kafka: str, transport: KafkaTransport
) -> None:
    """The broker's own limit is met in the middle of a key: what it holds has no hole."""
    topic = _create(kafka, **{"max.message.bytes": "20000"})
    sizes = [10] * 100 + [50_000] + [10] * 100
    sent = [
        Outgoing(topic=topic, key=b"k", value=b"%d" % n + bytes(size))
        for n, size in enumerate(sizes)
    ]

    outcomes = _sent(await transport.publish(sent))
    held = outcomes.index(False)
    again = _sent(await transport.publish(sent[:100]))
    received = await _get(await transport.subscribe("g", [topic]), held + 100)

    assert held <= 100
    assert not any(outcomes[held:])
    assert all(again)
    numbers = [int((m.value or b"").rstrip(b"\0")) for m in received]
    assert numbers[-100:] == list(range(100))
    assert numbers[:-100] == list(range(len(numbers) - 100))


async def test_a_killed_broker_comes_back(tmp_path: Path) -> None:
    """What was acknowledged survives SIGKILL of the broker, and members go on by themselves."""
    with kafka_server(tmp_path / "kafka") as server:
        transport = KafkaTransport(server.bootstrap, options=FAST_GROUPS, send_timeout_s=60)
        await transport.create("orders", partitions=2)
        subscription = await transport.subscribe("g", ["orders"])
        assert all(_sent(await transport.publish(messages("orders", 100, keys=10))))
        before = await _get(subscription, 40)
        await subscription.settle(before)

        server.kill()
        server.start()
        assert all(_sent(await transport.publish(messages("orders", 20, keys=10, first=100))))
        seen = set(values(before))
        async with asyncio.timeout(60):
            while len(seen) < 120:
                try:
                    seen.update(values(await subscription.receive(max_messages=50, wait_s=1)))
                except StoreUnavailable:
                    continue

        assert seen == set(range(120))
        await transport.aclose()
