"""What only Kafka has: batches refused, brokers gone, members that are slow; on the mock."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import Message as Record
from tests.support_kafka import FAST_GROUPS

from onefold.adapters.kafka.mock import MockCluster
from onefold.adapters.kafka.subscription import KafkaSubscription
from onefold.adapters.kafka.transport import KafkaTransport
from onefold.errors import OnefoldError, StoreUnavailable, TooLarge
from onefold.ports.transport import Message, Outgoing, Subscription
from onefold.testing.contracts.transport import messages, values

pytestmark = pytest.mark.timeout(60)

PRODUCE = 0  # Kafka's number of that request


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create("orders", 1)
        cluster.create("idle", 1)
        yield cluster


@pytest.fixture
async def transport(cluster: MockCluster) -> AsyncIterator[KafkaTransport]:
    transport = KafkaTransport(
        cluster.bootstrap, options=FAST_GROUPS, wait_s=3.0, send_timeout_s=3.0, buffer=10
    )
    yield transport
    cluster.up()  # nobody leaves a group whose broker is gone
    await transport.aclose()


async def _get(subscription: Subscription, count: int) -> list[Message]:
    received: list[Message] = []
    async with asyncio.timeout(15):
        while len(received) < count:
            received += await subscription.receive(max_messages=5, wait_s=1.0)
    return received


async def _get_and_settle(subscription: Subscription, count: int) -> list[Message]:
    """
    Of *count* messages all that came, the last of each settled.

    A group may deal out anew at any moment: what was lost with its partition comes again.
    """
    received = await _get(subscription, count)
    unsettled: Sequence[Message] = received
    while unsettled := await subscription.settle(unsettled):
        again = await _get(subscription, len(unsettled))
        received, unsettled = received + again, again
    return received


def _sent(outcomes: Sequence[BaseException | None]) -> list[bool]:
    return [outcome is None for outcome in outcomes]


async def test_what_follows_a_refused_one_of_its_key_is_not_sent(
    transport: KafkaTransport,
) -> None:
    """A message that is too large holds back its own key, and no other."""
    large = Outgoing(topic="orders", key=b"a", value=bytes(2_000_000))
    one, two, three = messages("orders", 3)
    a, b, c = (
        Outgoing(topic="orders", key=key, value=m.value)
        for key, m in ((b"a", one), (b"b", two), (b"a", three))
    )

    outcomes = await transport.publish([a, large, b, c])
    received = await _get(await transport.subscribe("g", ["orders"]), 2)

    assert _sent(outcomes) == [True, False, True, False]
    assert isinstance(outcomes[1], TooLarge)
    assert isinstance(outcomes[3], StoreUnavailable)
    assert values(received) == [0, 1]


async def test_a_refused_batch_leaves_no_gap(
    cluster: MockCluster, transport: KafkaTransport
) -> None:
    """What the log holds of a key is what was reported, from its start; the next call works."""
    cluster.refuse(PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])

    outcomes = await transport.publish(messages("orders", 50))
    again = await transport.publish(messages("orders", 50))
    received = values(await _get(await transport.subscribe("g", ["orders"]), 50))

    assert not all(_sent(outcomes))
    assert _sent(outcomes) == sorted(_sent(outcomes), reverse=True)
    assert all(_sent(again))
    assert received[-50:] == list(range(50))
    assert received[:-50] == list(range(len(received) - 50))


async def test_a_passing_refusal_is_not_seen(
    cluster: MockCluster, transport: KafkaTransport
) -> None:
    """What a broker says while a leader is elected is tried again, in order, without repeats."""
    cluster.refuse(PRODUCE, [KafkaError.NOT_LEADER_FOR_PARTITION] * 2)

    outcomes = await transport.publish(messages("orders", 20))
    received = await _get(await transport.subscribe("g", ["orders"]), 20)

    assert all(_sent(outcomes))
    assert values(received) == list(range(20))


async def test_an_absent_broker_is_told(cluster: MockCluster, transport: KafkaTransport) -> None:
    """Sending and joining say so within their time; afterwards they work."""
    await transport.publish(messages("orders", 1))
    cluster.down()

    outcomes = await transport.publish(messages("orders", 3, first=1))
    with pytest.raises(StoreUnavailable, match=f"no Kafka at {cluster.bootstrap}"):
        await transport.subscribe("g", ["orders"])
    cluster.up()
    again = await transport.publish(messages("orders", 3, first=1))
    received = await _get(await transport.subscribe("g", ["orders"]), 4)

    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert all(_sent(again))
    assert values(received)[:1] + values(received)[-3:] == [0, 1, 2, 3]


async def test_a_member_survives_its_broker(
    cluster: MockCluster, transport: KafkaTransport
) -> None:
    """When the broker goes, `receive` says so; when it is back, it goes on."""
    subscription = await transport.subscribe("g", ["orders"])
    await transport.publish(messages("orders", 1))
    await subscription.settle(await _get(subscription, 1))
    cluster.down()
    with pytest.raises(StoreUnavailable):
        await subscription.receive(max_messages=1, wait_s=10)

    cluster.up()
    await transport.publish(messages("orders", 1, first=1))
    async with asyncio.timeout(15):
        received: Sequence[Message] = []
        while not received:
            try:
                received = await subscription.receive(max_messages=1, wait_s=1)
            except StoreUnavailable:
                continue

    assert values(received) == [1]


async def test_what_a_group_has_committed_is_read(transport: KafkaTransport) -> None:
    """Nothing before it settled, then the first position that it has not."""
    await transport.publish([Outgoing(topic="orders", key=b"k", value=b"%d" % n) for n in range(3)])
    before = await transport.settled_to("g", ["orders"])
    subscription = await transport.subscribe("g", ["orders"])
    received = await _get(subscription, 3)
    await subscription.settle(received[:2])
    await subscription.close()  # commits

    after = await transport.settled_to("g", ["orders"])

    partition = received[0].partition
    assert before == {}
    assert after == {partition: received[1].position + 1}
    assert await transport.settled_to("g", ["other"]) == {}


async def test_slow_handlers_are_waited_for(transport: KafkaTransport) -> None:
    """Nothing is fetched beyond the buffer, and the member lives on though it asks for nothing."""
    subscription = await transport.subscribe("g", ["orders"])
    await transport.publish(messages("orders", 2000))
    first = await _get(subscription, 5)
    idle = await transport.subscribe("other", ["idle"])

    # Longer than the session's time-out and the wait before a pause; nobody receives.
    await idle.receive(max_messages=1, wait_s=2.0)
    waiting = subscription._intake._waiting()
    rest = await _get(subscription, 1995)

    assert waiting <= 10 + 500  # the buffer and one batch, of which the last went over it
    assert list(await subscription.lost()) == []
    assert values(first + rest) == list(range(2000))
    assert await subscription.settle(first + rest) == []


async def test_a_client_that_breaks_is_told_and_holds_up_nobody(
    cluster: MockCluster, transport: KafkaTransport
) -> None:
    """`receive` raises, and a settlement is refused at once; its thread does not die in silence."""
    cluster.create("broken", 1)
    await transport.publish([Outgoing(topic="broken", key=b"k", value=b"1")])
    member = await transport.subscribe("g", ["broken"])
    (message,) = await member.receive(max_messages=1, wait_s=20)

    def broken(consumer: Consumer) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL))

    member._fetch = broken  # type: ignore[method-assign]
    with pytest.raises(OnefoldError):
        await member.receive(max_messages=1, wait_s=20)

    assert list(await member.settle([message])) == [message]
    await member.close()


class Patient:
    """The consumer of one fetch, whose `consume` waits until it has so many records."""

    def __init__(self, consumer: Any, records: int, reached: threading.Event) -> None:
        self._consumer, self._records, self._reached = consumer, records, reached

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def consume(self, *_: Any) -> list[Record]:
        self._reached.set()
        found: list[Record] = self._consumer.consume(self._records, 20)
        return found


def _be_patient(member: KafkaSubscription, records: int) -> threading.Event:
    """
    Let the next fetch that finds a record hold on until it has *records* more.

    All of it is librdkafka's own doing; only the time for which it is asked is longer.
    """
    fetch: Any = member._fetch
    reached = threading.Event()

    def patiently(consumer: Any) -> None:
        fetch(consumer if reached.is_set() else Patient(consumer, records, reached))

    member._fetch = patiently  # type: ignore[method-assign]
    return reached


async def _holds(count: int, *members: Subscription) -> None:
    """Until each member has so many partitions."""
    async with asyncio.timeout(20):
        while [len(member.standing()) for member in members] != [count] * len(members):
            for member in members:
                await member.receive(max_messages=1, wait_s=0.1)


async def test_what_is_gained_while_fetching_is_delivered(
    cluster: MockCluster, transport: KafkaTransport
) -> None:
    """A rebalance inside librdkafka's `consume` brings a new partition: nothing of it is lost."""
    cluster.create("two", 2)
    stays, leaves = [await transport.subscribe("g", ["two"]) for _ in range(2)]
    await _holds(1, stays, leaves)
    fetching = _be_patient(stays, 39)
    await transport.publish(messages("two", 40, keys=10))
    assert await asyncio.to_thread(fetching.wait, 20)

    await leaves.close()
    received = await _get_and_settle(stays, 40)

    assert set(values(received)) == set(range(40))
    assert sum((await transport.settled_to("g", ["two"])).values()) == 40


async def test_what_is_lost_and_regained_while_fetching_is_delivered(
    cluster: MockCluster,
) -> None:
    """What was fetched under the old hold comes again under the new one, and is settled there."""
    eager: dict[str, str | int] = {"partition.assignment.strategy": "range"}  # gives all back
    transport = KafkaTransport(cluster.bootstrap, options=FAST_GROUPS | eager)
    member = await transport.subscribe("g", ["orders"])
    await _holds(1, member)
    fetching = _be_patient(member, 10)
    await transport.publish(messages("orders", 1))
    assert await asyncio.to_thread(fetching.wait, 20)

    await transport.subscribe("g", ["idle"])  # the group deals out anew
    await transport.publish(messages("orders", 9, first=1))
    received = await _get_and_settle(member, 10)

    assert set(values(received)) == set(range(10))
    ((partition, before), *_) = await member.lost()
    assert min(m.epoch for m in received) > before
    assert await transport.settled_to("g", ["orders"]) == {partition: 10}
    await transport.aclose()
