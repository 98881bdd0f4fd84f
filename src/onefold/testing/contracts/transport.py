"""The promises of `ports.transport`, as tests that any transport can be put through."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Protocol

from onefold.errors import IllegalTransition
from onefold.ports.transport import Message, Outgoing, Partition, Subscription, Transport
from onefold.testing.contracts.stores import raises

GROUP = "reserve-stock"
ALL_PARTITIONS = 4


class MortalSubscription(Subscription, Protocol):
    """A subscription that can be made to die."""

    async def kill(self) -> None:
        """Die as by SIGKILL: no goodbye, no commit, nothing given back."""
        ...


class BrokerUnderTest(Protocol):
    """One broker, as the processes of a test see it."""

    async def open(self) -> Transport:
        """A transport as another process would open it; closed with the broker."""
        ...

    async def topic(self, partitions: int) -> str:
        """A fresh topic with so many partitions."""
        ...


def messages(topic: str, count: int, *, keys: int = 1, first: int = 0) -> list[Outgoing]:
    """Messages whose value is their number, spread over so many keys."""
    return [
        Outgoing(topic=topic, key=b"key-%d" % (n % keys), value=b"%d" % n)
        for n in range(first, first + count)
    ]


def values(received: Iterable[Message]) -> list[int]:
    """The numbers of what was received, in order."""
    return [int(message.value or b"-1") for message in received]


def by_key(received: Iterable[Message]) -> dict[bytes | None, list[int]]:
    """The numbers of what was received, in order, for each key."""
    numbers: dict[bytes | None, list[int]] = defaultdict(list)
    for message in received:
        numbers[message.key].append(int(message.value or b"-1"))
    return numbers


def rising(numbers: Sequence[int]) -> bool:
    """Nothing out of order; repeats of what came before count as out of order too."""
    return all(a < b for a, b in pairwise(numbers))


class TransportContract:
    """The promises of `ports.transport`. Subclass, name a broker, and pytest does the rest."""

    __test__ = False  # only subclasses are collected

    patience_s = 15.0  # within it, whatever is to arrive has arrived
    silence_s = 0.3  # how long nothing may come, to believe that nothing comes

    def broker(self) -> AbstractAsyncContextManager[BrokerUnderTest]:
        """A broker with no topic in it that this test has named."""
        raise NotImplementedError

    async def kill(self, subscription: Subscription) -> None:
        """Make a member die."""
        await subscription.kill()  # type: ignore[attr-defined]

    # What tests do with a subscription.

    async def get(
        self, subscription: Subscription, count: int, *, most: int = 100
    ) -> list[Message]:
        """Receive until there are *count*."""
        received: list[Message] = []
        async with asyncio.timeout(self.patience_s):
            while len(received) < count:
                room = min(most, count - len(received))
                received += await subscription.receive(max_messages=room, wait_s=1.0)
        return received

    async def quiet(self, subscription: Subscription) -> bool:
        """Whether nothing comes any more."""
        return not await subscription.receive(max_messages=100, wait_s=self.silence_s)

    async def send(self, transport: Transport, outgoing: Sequence[Outgoing]) -> None:
        """Publish; all of it must be durable."""
        assert list(await transport.publish(outgoing)) == [None] * len(outgoing)

    async def sharing(
        self, transport: Transport, topic: str, first: Subscription, second: Subscription
    ) -> dict[Subscription, list[Message]]:
        """
        Send and settle until each member receives from half of the partitions, its own.

        Returns what each received in the last round, not settled.
        """
        number = 0
        async with asyncio.timeout(self.patience_s):
            while True:
                await self.send(transport, messages(topic, 32, keys=32, first=number))
                sent = set(range(number, number + 32))
                number += 32
                got = {member: await self._drain(member) for member in (first, second)}
                one, two = [{message.partition for message in got[m]} for m in (first, second)]
                # A busy broker may have been silent before it had given them all.
                came = sent <= set(values([*got[first], *got[second]]))
                if came and len(one) == len(two) == ALL_PARTITIONS // 2 and not one & two:
                    return got
                for member, received in got.items():
                    await member.settle(received)
                    await member.lost()

    async def _drain(self, member: Subscription) -> list[Message]:
        received: list[Message] = []
        while more := await member.receive(max_messages=100, wait_s=self.silence_s):
            received += more
        return received

    async def test_a_member_tells_what_it_holds(self) -> None:
        """Its partitions, and where that is known what is left: nothing once all is settled."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(2), await broker.open()
            await self.send(transport, messages(topic, 8, keys=8))
            subscription = await transport.subscribe(GROUP, [topic])

            await subscription.settle(await self.get(subscription, 8))

            async with asyncio.timeout(self.patience_s):
                while any((held := subscription.standing()).values()):
                    await subscription.receive(max_messages=1, wait_s=self.silence_s)
            assert held.keys() == {Partition(topic, 0), Partition(topic, 1)}

    # Order and content.

    async def test_messages_of_a_key_arrive_in_order(self) -> None:
        """What was sent first for a key is received first."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(ALL_PARTITIONS), await broker.open()
            await self.send(transport, messages(topic, 200, keys=7))
            subscription = await transport.subscribe(GROUP, [topic])

            received = await self.get(subscription, 200)

            assert sorted(values(received)) == list(range(200))
            assert all(rising(numbers) for numbers in by_key(received).values())

    async def test_positions_rise_within_a_partition(self) -> None:
        """A later message of a partition has a higher position."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(2), await broker.open()
            await self.send(transport, messages(topic, 20, keys=5))
            subscription = await transport.subscribe(GROUP, [topic])

            received = await self.get(subscription, 20)

            positions = defaultdict(list)
            for message in received:
                positions[message.partition].append(message.position)
            assert all(rising(numbers) for numbers in positions.values())

    async def test_several_calls_keep_a_keys_order(self) -> None:
        """Order holds across publish calls, not only within one."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(2), await broker.open()
            for n in range(5):
                await self.send(transport, messages(topic, 4, keys=2, first=4 * n))
            subscription = await transport.subscribe(GROUP, [topic])

            received = await self.get(subscription, 20)

            assert all(rising(numbers) for numbers in by_key(received).values())

    async def test_content_arrives_as_it_was_sent(self) -> None:
        """Bytes of every kind, header names that come twice, no key, no value."""
        every_byte = bytes(range(256))
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            sent = [
                Outgoing(
                    topic=topic,
                    key=every_byte,
                    value=every_byte,
                    headers=[("id", b"1"), ("raw", every_byte), ("id", b"2"), ("empty", b"")],
                ),
                Outgoing(topic=topic, key=b"gone", value=None),
                Outgoing(topic=topic, key=b"", value=b""),
                Outgoing(topic=topic, key=None, value="Übung".encode(), headers=[("ключ", b"v")]),
            ]
            await self.send(transport, sent)
            subscription = await transport.subscribe(GROUP, [topic])

            received = await self.get(subscription, 4)

            assert [(m.key, m.value, list(m.headers)) for m in received] == [
                (m.key, m.value, list(m.headers)) for m in sent
            ]
            assert {m.partition for m in received} == {Partition(topic, 0)}

    async def test_large_messages_arrive_whole(self) -> None:
        """900 kB travel as they are."""
        large = bytes(range(250)) * 3600
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            await self.send(transport, [Outgoing(topic=topic, key=b"k", value=large)] * 3)
            subscription = await transport.subscribe(GROUP, [topic])

            received = await self.get(subscription, 3)

            assert [m.value == large for m in received] == [True] * 3

    async def test_never_more_than_asked_for(self) -> None:
        """`max_messages` is a bound."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(2), await broker.open()
            await self.send(transport, messages(topic, 10, keys=5))
            subscription = await transport.subscribe(GROUP, [topic])

            async with asyncio.timeout(self.patience_s):
                sizes: list[int] = []
                while sum(sizes) < 10:
                    sizes.append(len(await subscription.receive(max_messages=3, wait_s=1.0)))

            assert max(sizes) <= 3
            assert sum(sizes) == 10

    async def test_one_subscription_reads_several_topics(self) -> None:
        """A member receives from every topic it named, and from no other."""
        async with self.broker() as broker:
            transport = await broker.open()
            one, two, other = [await broker.topic(2) for _ in range(3)]
            for topic in (one, two, other):
                await self.send(transport, messages(topic, 4, keys=4))
            subscription = await transport.subscribe(GROUP, [one, two])

            received = await self.get(subscription, 8)

            assert {m.partition.topic for m in received} == {one, two}
            assert await self.quiet(subscription)

    # Waiting.

    async def test_an_empty_topic_gives_nothing(self) -> None:
        """`receive` comes back with nothing when its time is over."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            subscription = await transport.subscribe(GROUP, [topic])

            assert await subscription.receive(max_messages=10, wait_s=0.05) == []

    async def test_receive_wakes_for_a_message(self) -> None:
        """A member that waits gets what is sent meanwhile, without asking again."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            subscription = await transport.subscribe(GROUP, [topic])
            await self.send(transport, messages(topic, 1))
            await subscription.settle(await self.get(subscription, 1))

            waiting = asyncio.create_task(
                subscription.receive(max_messages=10, wait_s=self.patience_s)
            )
            await self.send(transport, messages(topic, 1, first=1))

            assert values(await waiting) == [1]

    async def test_a_cancelled_receive_loses_nothing(self) -> None:
        """What arrives while nobody waits any more is received by the next call."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            subscription = await transport.subscribe(GROUP, [topic])
            waiting = asyncio.create_task(subscription.receive(max_messages=10, wait_s=60))
            await self.quiet_loop()

            waiting.cancel()
            await asyncio.wait([waiting])
            await self.send(transport, messages(topic, 3))

            assert values(await self.get(subscription, 3)) == [0, 1, 2]

    async def quiet_loop(self) -> None:
        """Let every other task run until it waits."""
        for _ in range(5):
            await asyncio.sleep(0)

    # Settling.

    async def test_a_new_group_starts_at_the_earliest_message(self) -> None:
        """What was sent before the first member came is not skipped (B21)."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            await self.send(transport, messages(topic, 3))

            subscription = await transport.subscribe("late", [topic])

            assert values(await self.get(subscription, 3)) == [0, 1, 2]

    async def test_groups_do_not_take_from_each_other(self) -> None:
        """Each group gets every message, whatever another has settled (B22)."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            one = await transport.subscribe("one", [topic])
            two = await transport.subscribe("two", [topic])
            await self.send(transport, messages(topic, 3))

            of_one = await self.get(one, 3)
            await one.settle(of_one)

            assert values(of_one) == values(await self.get(two, 3)) == [0, 1, 2]

    async def test_what_is_settled_does_not_come_again(self) -> None:
        """After a restart, a group goes on behind what it has settled."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            await self.send(transport, messages(topic, 5))
            before = await transport.subscribe(GROUP, [topic])
            received = await self.get(before, 5)
            assert await before.settle(received[:3]) == []
            await self.kill(before)

            restarted = await broker.open()
            after = await restarted.subscribe(GROUP, [topic])

            assert values(await self.get(after, 2)) == [3, 4]
            assert await self.quiet(after)

    async def test_what_is_not_settled_comes_again(self) -> None:
        """A member that leaves with work undone leaves it to the next, in order."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            await self.send(transport, messages(topic, 3))
            before = await transport.subscribe(GROUP, [topic])
            await self.get(before, 3)
            await before.close()

            after = await transport.subscribe(GROUP, [topic])

            assert values(await self.get(after, 3)) == [0, 1, 2]

    async def test_a_gap_is_not_jumped_over(self) -> None:
        """A message that was not settled comes again although a later one was (B6, B7)."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            await self.send(transport, messages(topic, 4))
            before = await transport.subscribe(GROUP, [topic])
            received = await self.get(before, 4)
            await before.settle([received[3], received[1], received[0]])
            await self.kill(before)

            after = await transport.subscribe(GROUP, [topic])
            again = await self.get(after, 1 if transport.features.settles_singly else 2)

            assert values(again) == ([2] if transport.features.settles_singly else [2, 3])
            assert await self.quiet(after)

    async def test_settling_twice_is_harmless(self) -> None:
        """Reporting again what was reported changes nothing and is not refused."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            await self.send(transport, messages(topic, 3))
            subscription = await transport.subscribe(GROUP, [topic])
            received = await self.get(subscription, 3)
            await subscription.settle(received[:2])

            assert await subscription.settle(received[:2]) == []
            assert await subscription.settle(received[1:]) == []
            assert await subscription.settle([]) == []

    async def test_settled_messages_can_be_replayed(self) -> None:
        """A group that comes later reads from the start what others have settled."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            if not transport.features.replays:
                return
            await self.send(transport, messages(topic, 3))
            first = await transport.subscribe("first", [topic])
            await first.settle(await self.get(first, 3))

            later = await transport.subscribe("later", [topic])

            assert values(await self.get(later, 3)) == [0, 1, 2]

    # Members.

    async def test_members_share_the_partitions(self) -> None:
        """Two members of a group hold different partitions, and together all of them."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(ALL_PARTITIONS), await broker.open()
            one = await transport.subscribe(GROUP, [topic])
            two = await (await broker.open()).subscribe(GROUP, [topic])

            got = await self.sharing(transport, topic, one, two)

            held = [{message.partition for message in got[member]} for member in (one, two)]
            assert held[0] | held[1] == {Partition(topic, n) for n in range(ALL_PARTITIONS)}
            assert not held[0] & held[1]

    async def test_the_dead_leave_their_work_to_the_living(self) -> None:
        """When a member dies, another receives all that it had not settled, in order."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(ALL_PARTITIONS), await broker.open()
            victim = await (await broker.open()).subscribe(GROUP, [topic])
            heir = await transport.subscribe(GROUP, [topic])
            got = await self.sharing(transport, topic, victim, heir)
            await heir.settle(got[heir])

            await self.kill(victim)

            left = by_key(got[victim])
            again = by_key(await self.get(heir, len(got[victim])))
            assert again == left

    async def test_a_lost_partition_cannot_be_settled(self) -> None:
        """Who lost a partition to another member learns it, and settles nothing there (B20)."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(ALL_PARTITIONS), await broker.open()
            one = await transport.subscribe(GROUP, [topic])
            await self.send(transport, messages(topic, 32, keys=32))
            received = await self.get(one, 32)
            assert list(await one.lost()) == []

            two = await (await broker.open()).subscribe(GROUP, [topic])
            lost = await self._until_lost(one)
            gone = [m for m in received if (m.partition, m.epoch) in lost]
            refused = await one.settle(received)

            assert gone
            assert {(m.partition, m.position) for m in refused} == {
                (m.partition, m.position) for m in gone
            }
            assert list(await one.lost()) == []
            assert by_key(await self.get(two, len(gone))) == by_key(gone)

    async def _until_lost(self, member: Subscription) -> Collection[tuple[Partition, int]]:
        async with asyncio.timeout(self.patience_s):
            while not (lost := await member.lost()):
                assert not await member.receive(max_messages=100, wait_s=1.0)
        return lost

    # Pausing and closing.

    async def test_a_paused_partition_rests(self) -> None:
        """Nothing comes from it until it is resumed, and then everything, in order."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(2), await broker.open()
            subscription = await transport.subscribe(GROUP, [topic])
            await self.send(transport, messages(topic, 20, keys=20))
            received = await self.get(subscription, 20)
            paused_until, awake = Partition(topic, 0), Partition(topic, 1)
            assert {m.partition for m in received} == {paused_until, awake}

            await subscription.pause([paused_until])
            await self.send(transport, messages(topic, 20, keys=20, first=20))
            expected = [m for m in received if m.partition == awake]
            meanwhile = await self.get(subscription, len(expected))
            assert {m.partition for m in meanwhile} == {awake}
            assert await self.quiet(subscription)
            await subscription.resume([paused_until])
            afterwards = await self.get(subscription, 20 - len(meanwhile))

            assert {m.partition for m in afterwards} == {paused_until}
            assert rising(values(afterwards))
            assert await subscription.settle(received + meanwhile + afterwards) == []

    async def test_pausing_holds_back_what_was_fetched(self) -> None:
        """A pause takes effect at once, also for messages that wait on this side."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            await self.send(transport, messages(topic, 50))
            subscription = await transport.subscribe(GROUP, [topic])
            first = await self.get(subscription, 1)

            await subscription.pause([Partition(topic, 0)])
            assert await self.quiet(subscription)
            await subscription.resume([Partition(topic, 0)])
            rest = await self.get(subscription, 49)

            assert values(first + rest) == list(range(50))

    async def test_closing_ends_a_receive(self) -> None:
        """A member that waits for messages stops waiting when it is closed."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            subscription = await transport.subscribe(GROUP, [topic])
            waiting = asyncio.create_task(subscription.receive(max_messages=10, wait_s=600))
            await self.quiet_loop()

            await subscription.close()

            async with asyncio.timeout(self.patience_s):
                assert list(await waiting) == []

    async def test_closed_is_closed(self) -> None:
        """Closing twice is safe; a closed member receives and settles nothing."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            await self.send(transport, messages(topic, 2))
            subscription = await transport.subscribe(GROUP, [topic])
            received = await self.get(subscription, 2)

            await subscription.close()
            await subscription.close()

            assert list(await subscription.settle(received)) == received
            with raises(IllegalTransition):
                await subscription.receive(max_messages=1, wait_s=0.1)

    async def test_a_closed_transport_sends_nothing(self) -> None:
        """Closing twice is safe; publishing afterwards is refused."""
        async with self.broker() as broker:
            topic, transport = await broker.topic(1), await broker.open()
            await self.send(transport, messages(topic, 1))

            await transport.aclose()
            await transport.aclose()

            with raises(IllegalTransition):
                await transport.publish(messages(topic, 1))
