"""What leases promise beyond the contract: members that wake too late, logs that are trimmed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.contract.leased import SqlBroker, ValkeyBroker
from tests.support_valkey import Valkey

from onefold.adapters.leased import LeasedSubscription, LeaseStore
from onefold.adapters.valkey.connection import script
from onefold.errors import ConstraintViolated, InvalidSetting
from onefold.ports.retention import BrokerRetention
from onefold.ports.transport import Message, Partition, Subscription
from onefold.testing.contracts.transport import messages, values


@pytest.fixture
async def sql(sqlite_url: str) -> AsyncIterator[SqlBroker]:
    broker = SqlBroker(sqlite_url)
    yield broker
    await broker.aclose()


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[SqlBroker]:
    broker = SqlBroker(postgres_url)
    yield broker
    await broker.aclose()


@pytest.fixture
async def streams(valkey: Valkey) -> AsyncIterator[ValkeyBroker]:
    broker = ValkeyBroker(valkey)
    yield broker
    await broker.aclose()


@pytest.fixture(params=["sql", "postgres", "streams"])
def broker(request: pytest.FixtureRequest) -> SqlBroker | ValkeyBroker:
    found: SqlBroker | ValkeyBroker = request.getfixturevalue(request.param)
    return found


async def _get(subscription: Subscription, count: int) -> list[Message]:
    received: list[Message] = []
    async with asyncio.timeout(15):
        while len(received) < count:
            received += await subscription.receive(max_messages=100, wait_s=1.0)
    return received


async def test_who_wakes_too_late_has_lost(broker: SqlBroker | ValkeyBroker) -> None:
    """A member that slept beyond its lease neither settles nor reads on, and learns it."""
    topic, transport = await broker.topic(1), broker.opens()
    await transport.publish(messages(topic, 3))
    sleeper: LeasedSubscription = await transport.subscribe("g", [topic])
    received = await _get(sleeper, 3)
    assert sleeper._beating is not None
    sleeper._beating.cancel()  # as SIGSTOP would, while its code here goes on

    heir = await broker.opens().subscribe("g", [topic])
    again = await _get(heir, 3)
    await transport.publish(messages(topic, 1, first=3))
    refused = await sleeper.settle(received[:1])
    more = await sleeper.receive(max_messages=10, wait_s=0.1)

    assert list(refused) == received[:1]
    assert list(more) == []
    assert [partition for partition, _ in await sleeper.lost()] == [received[0].partition]
    assert values(again) == [0, 1, 2]
    assert again[0].epoch > received[0].epoch
    assert await heir.settle(again) == []
    assert values(await _get(heir, 1)) == [3]


async def test_trimming_keeps_what_is_not_settled(sql: SqlBroker) -> None:
    """However old a message is, it stays until every group has settled it."""
    topic, transport = await sql.topic(1), sql.opens()
    await transport.publish(messages(topic, 6))
    assert await _trim(transport, topic, hours=1) == 0  # nobody has come yet
    fast, slow = [await transport.subscribe(group, [topic]) for group in ("fast", "slow")]
    await fast.settle(await _get(fast, 6))
    received = await _get(slow, 6)
    await slow.settle([received[0], received[1], received[4]])

    removed = await _trim(transport, topic, hours=1)
    await slow.close()

    assert removed == 2
    assert values(await _get(await transport.subscribe("slow", [topic]), 4)) == [2, 3, 4, 5]
    assert await _trim(transport, topic, hours=-24) == 0


async def _trim(transport: BrokerRetention, topic: str, *, hours: int, unread: int = -24) -> int:
    """Remove what was sent up to *hours* from now and is settled, or *unread* if nobody reads."""
    now = datetime.now(UTC)
    ages = {"before": now + timedelta(hours=hours), "unread": now + timedelta(hours=unread)}
    return await transport.trim([topic], **ages, limit=100)


async def test_what_nobody_reads_goes_after_its_own_time(broker: SqlBroker | ValkeyBroker) -> None:
    """A topic without a group keeps its messages for whoever comes, but not for ever."""
    topic, transport = await broker.topic(1), broker.opens()
    await transport.publish(messages(topic, 3))

    removed = [await _trim(transport, topic, hours=1, unread=age) for age in (-1, 1)]

    assert removed == [0, 3]


async def test_a_broker_tells_since_when_it_owes_a_group(broker: SqlBroker | ValkeyBroker) -> None:
    """The instant of the oldest message that may still come: received is not settled."""
    topic, transport = await broker.topic(1), broker.opens()
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert await transport.unsettled_since("g", [topic]) is None
    await transport.publish(messages(topic, 2))
    unread = await transport.unsettled_since("g", [topic])
    subscription = await transport.subscribe("g", [topic])
    received = await _get(subscription, 2)

    begun = await transport.unsettled_since("g", [topic])
    await subscription.settle(received)
    settled = await transport.settled_to("g", [topic])
    await subscription.close()

    assert unread is not None
    assert unread >= before
    assert begun == unread
    assert settled in ({Partition(topic, 0): 2}, None)
    assert await transport.unsettled_since("g", [topic]) is None


async def test_trimming_streams_keeps_what_is_pending(streams: ValkeyBroker) -> None:
    """A stream is trimmed up to the first entry that a group has not settled."""
    topic, transport = await streams.topic(1), streams.opens()
    await transport.publish(messages(topic, 6))
    assert await _trim(transport, topic, hours=1) == 0  # nobody has come yet
    subscription = await transport.subscribe("g", [topic])
    received = await _get(subscription, 6)
    await subscription.settle([received[0], received[1], received[4]])

    removed = await _trim(transport, topic, hours=1)
    kept = await _trim(transport, topic, hours=-24)
    await subscription.close()

    assert removed == 2
    assert kept == 0
    assert values(await _get(await transport.subscribe("g", [topic]), 3)) == [2, 3, 5]


async def test_a_lost_reply_loses_no_message(streams: ValkeyBroker) -> None:
    """Reading again behind the same message gives the same ones."""
    topic, transport = await streams.topic(1), streams.opens()
    await transport.publish(messages(topic, 4))
    subscription = await transport.subscribe("g", [topic])
    hold = next(iter(subscription._holds.values()))
    store, member = subscription._store, subscription._member

    lost = await store.read(topic, member, {0: hold.share}, most=2)
    received = await _get(subscription, 4)

    assert values(lost[0] or []) == [0, 1]
    assert values(received) == [0, 1, 2, 3]


class Stalled:
    """A store that does not come back from reading one topic."""

    def __init__(self, store: LeaseStore, topic: str) -> None:
        self._store, self._topic = store, topic
        self.reached = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read(self, topic: str, *args: Any, **how: Any) -> Any:
        if topic == self._topic:
            self.reached.set()
            await asyncio.Event().wait()
        return await self._store.read(topic, *args, **how)


async def test_a_cancelled_receive_loses_no_topic(broker: SqlBroker | ValkeyBroker) -> None:
    """What was read of one topic while another did not answer is not passed over."""
    silent, topic, transport = await broker.topic(1), await broker.topic(1), broker.opens()
    await transport.publish(messages(topic, 3))
    subscription = await transport.subscribe("g", [silent, topic])
    store = subscription._store
    subscription._store = stalled = Stalled(store, silent)

    received: list[Message] = []
    for _ in range(2):  # each topic comes first once
        stalled.reached.clear()
        reading = asyncio.create_task(subscription.receive(max_messages=100, wait_s=15))
        waiting = asyncio.create_task(stalled.reached.wait())
        await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if reading.done():
            received += reading.result()
        reading.cancel()
        await asyncio.wait({reading})
    subscription._store = store

    if not received:
        received = await _get(subscription, 3)
    assert values(received) == [0, 1, 2]


class Mistaken:
    """A store whose member cannot beat: not for want of an answer, but by a mistake."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def beat(self, *_: Any, **__: Any) -> Any:
        raise LookupError("no such beat")


async def test_a_member_that_cannot_beat_is_loud(
    broker: SqlBroker | ValkeyBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Its next receives raise what ended the beating, and leaving frees its partitions at once."""
    topic, transport = await broker.topic(1), broker.opens()
    await transport.publish(messages(topic, 2))
    subscription = await transport.subscribe("g", [topic])
    received = await _get(subscription, 2)
    subscription._store = Mistaken(subscription._store)

    for _ in range(2):
        with pytest.raises(LookupError, match="no such beat"):
            await subscription.receive(max_messages=10, wait_s=15)
    refused = await subscription.settle(received[:1])
    await subscription.close()
    heir = await broker.opens().subscribe("g", [topic])

    assert "does not renew its leases any more" in caplog.text
    assert list(refused) == []
    assert values(await _get(heir, 1)) == [1]


async def test_a_lost_take_frees_the_partition(broker: SqlBroker | ValkeyBroker) -> None:
    """A lease whose reply was lost ends by itself, however long its owner lives."""
    topic, transport = await broker.topic(2), broker.opens()
    await transport.publish(messages(topic, 8))
    subscription = await transport.subscribe("g", [topic])
    lost = Partition(topic, 1)
    del subscription._holds[lost]  # as if the reply to `take` had not come

    async with asyncio.timeout(15):
        while lost not in subscription._holds:
            subscription._news.clear()
            await subscription._news.wait()

    assert len(await _get(subscription, 8)) == 8


async def test_a_topic_that_cannot_be_costs_itself_alone(broker: SqlBroker | ValkeyBroker) -> None:
    """Its messages are refused one by one; what goes elsewhere in the same call is sent."""
    topic, transport = await broker.topic(1), broker.opens()
    impossible = "{no topic}" * 100  # a brace for Valkey, too long for PostgreSQL

    outcomes = await transport.publish([*messages(impossible, 1), *messages(topic, 2)])

    assert outcomes[1:] == [None, None]
    if outcomes[0] is not None:  # SQLite takes any name
        assert isinstance(outcomes[0], InvalidSetting | ConstraintViolated)
    subscription = await transport.subscribe("g", [topic])
    assert values(await _get(subscription, 2)) == [0, 1]


async def test_foreign_and_deleted_entries(streams: ValkeyBroker) -> None:
    """What another program of the group left pending is read; what was deleted is let go."""
    topic, transport = await streams.topic(1), streams.opens()
    await transport.publish(messages(topic, 4))
    stream = transport.keys(topic).stream(0)
    foreign = script("stream_topic")  # any script: what runs is the text below
    foreign.text = (
        b"redis.call('XGROUP', 'CREATE', KEYS[1], 'g', '0') "
        b"local r = redis.call('XREADGROUP', 'GROUP', 'g', 'other', 'COUNT', 2, "
        b"'STREAMS', KEYS[1], '>') "
        b"return redis.call('XDEL', KEYS[1], r[1][2][1][1])"
    )
    foreign.sha = b"0" * 40
    await transport.server.run(foreign, [stream], [])

    subscription = await transport.subscribe("g", [topic])

    assert values(await _get(subscription, 3)) == [1, 2, 3]


async def test_a_call_of_many_messages(streams: ValkeyBroker) -> None:
    """More than a script can take at once goes in portions, in order."""
    topic, transport = await streams.topic(2), streams.opens()

    assert not any(await transport.publish(messages(topic, 5000, keys=2)))
    received = await _get(await transport.subscribe("g", [topic]), 5000)

    for key in (b"key-0", b"key-1"):
        numbers = values(m for m in received if m.key == key)
        assert numbers == sorted(numbers)
    assert len(received) == 5000
