"""
The reference broker: a log per partition, groups that rebalance at once, no time in it.

It is also the fake that tests use, and passes the very same contract as real brokers. As
with Kafka, what is durable of a group is one position a partition: the done prefix.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from msgspec.structs import replace

from onefold.core.clock import Clock, SystemClock
from onefold.core.offsets import DonePrefix
from onefold.core.partitions import partition_of, quota
from onefold.errors import IllegalTransition
from onefold.ports.transport import Message, Outgoing, Partition, TransportFeatures

FEATURES = TransportFeatures(
    name="memory", order="key", settles_singly=False, survives_process=False, replays=True
)


@dataclass(kw_only=True)
class _Hold:
    """One member's hold on one partition, from getting it to losing it."""

    epoch: int
    cursor: int  # the next position to hand out
    prefix: DonePrefix = field(default_factory=DonePrefix)


class _Group:
    """Who reads, and up to where each partition is settled."""

    def __init__(self) -> None:
        self.members: dict[str, MemorySubscription] = {}
        self.settled: dict[Partition, int] = {}
        self.names = count(1)
        self.epochs = count(1)

    def rebalance(self, topic: str, partitions: int) -> None:
        """Bring every member to its quota; what it may keep, it keeps."""
        readers = {name: m for name, m in self.members.items() if topic in m.topics}
        free = {Partition(topic, number) for number in range(partitions)}
        for name, member in readers.items():
            held = member.holding(topic)
            for partition in held[quota(name, readers, topic, partitions) :]:
                member.lose(partition)
            free.difference_update(member.holding(topic))
        for name, member in readers.items():
            missing = quota(name, readers, topic, partitions) - len(member.holding(topic))
            for partition in sorted(free)[:missing]:
                free.discard(partition)
                start = self.settled.get(partition, 0)
                member.gain(partition, _Hold(epoch=next(self.epochs), cursor=start))


class MemorySubscription:
    """See `ports.transport.Subscription`."""

    def __init__(
        self, broker: "MemoryTransport", group: _Group, name: str, topics: Collection[str]
    ) -> None:
        self.topics = frozenset(topics)
        self._broker, self._group, self._name = broker, group, name
        self._holds: dict[Partition, _Hold] = {}
        self._lost: list[tuple[Partition, int]] = []
        self._paused: set[Partition] = set()
        self._turn = 0  # which partition is asked first: none may starve the others
        self._news = asyncio.Event()
        self._loss_unseen = False
        self._closed = False

    @property
    def features(self) -> TransportFeatures:
        return FEATURES

    async def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Message]:
        if self._closed:
            raise IllegalTransition("closed", "receive")
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not self._deliverable() and not self._loss_unseen and not self._closed:
                    self._news.clear()
                    await self._news.wait()
        self._loss_unseen = False
        return self._take(max_messages)

    async def settle(self, messages: Sequence[Message]) -> Sequence[Message]:
        refused = []
        for message in messages:
            hold = self._holds.get(message.partition)
            if hold is None or hold.epoch != message.epoch:
                refused.append(message)
                continue
            hold.prefix.done(message.position)
            safe = hold.prefix.committable()
            if safe is not None:
                self._group.settled[message.partition] = safe
        return refused

    async def lost(self) -> Collection[tuple[Partition, int]]:
        lost, self._lost = self._lost, []
        return lost

    def standing(self) -> Mapping[Partition, int | None]:
        return {
            partition: len(self._broker.log(partition)) - hold.cursor + hold.prefix.unfinished
            for partition, hold in self._holds.items()
        }

    async def pause(self, partitions: Collection[Partition]) -> None:
        self._paused.update(partitions)

    async def resume(self, partitions: Collection[Partition]) -> None:
        self._paused.difference_update(partitions)
        self._news.set()

    async def close(self) -> None:
        self._leave()

    async def kill(self) -> None:
        """Die without a goodbye, the group's time-out included: for tests."""
        self._leave()

    def _leave(self) -> None:
        if self._closed:
            return
        self._closed = True
        for partition in list(self._holds):
            self.lose(partition)
        self._broker.left(self._group, self._name)
        self._news.set()

    def holding(self, topic: str) -> list[Partition]:
        """What this member holds of *topic*, in order."""
        return sorted(partition for partition in self._holds if partition.topic == topic)

    def gain(self, partition: Partition, hold: _Hold) -> None:
        """The group gives this member a partition."""
        self._holds[partition] = hold
        self._news.set()

    def lose(self, partition: Partition) -> None:
        """The group takes a partition away."""
        self._lost.append((partition, self._holds.pop(partition).epoch))
        self._paused.discard(partition)
        self._loss_unseen = True
        self._news.set()

    def wake(self) -> None:
        """There may be something to receive."""
        self._news.set()

    def _deliverable(self) -> bool:
        return any(True for _ in self._ready())

    def _ready(self) -> Iterator[tuple[_Hold, list[Message]]]:
        for partition in sorted(self._holds.keys() - self._paused):
            hold, log = self._holds[partition], self._broker.log(partition)
            if hold.cursor < len(log):
                yield hold, log

    def _take(self, most: int) -> list[Message]:
        taken: list[Message] = []
        ready = list(self._ready())
        self._turn += 1
        first = self._turn % max(1, len(ready))
        for hold, log in ready[first:] + ready[:first]:
            for message in log[hold.cursor : hold.cursor + most - len(taken)]:
                hold.prefix.received(message.position)
                hold.cursor = message.position + 1
                taken.append(replace(message, epoch=hold.epoch))
        return taken


class MemoryTransport:
    """
    See `ports.transport.Transport`.

    Args:
        partitions: How many a topic gets that is named for the first time.
        clock: Says when a message was sent.
    """

    def __init__(self, *, partitions: int = 4, clock: Clock | None = None) -> None:
        self._partitions = partitions
        self._clock = clock or SystemClock()
        self._logs: dict[str, list[list[Message]]] = {}
        self._groups: dict[str, _Group] = {}
        self._keyless: Counter[str] = Counter()
        self._closed = False

    @property
    def features(self) -> TransportFeatures:
        return FEATURES

    async def subscribe(self, group: str, topics: Collection[str]) -> MemorySubscription:
        joined = self._groups.setdefault(group, _Group())
        name = f"member-{next(joined.names):06}"
        member = MemorySubscription(self, joined, name, topics)
        joined.members[name] = member
        self._rebalance(joined, topics)
        return member

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[BaseException | None]:
        if self._closed:
            raise IllegalTransition("closed", "publish")
        for message in messages:
            self._append(message)
        for group in self._groups.values():
            for member in group.members.values():
                member.wake()
        return [None] * len(messages)

    async def aclose(self) -> None:
        self._closed = True
        for group in self._groups.values():
            for member in list(group.members.values()):
                await member.close()

    async def unsettled_since(self, group: str, topics: Collection[str]) -> datetime | None:
        """See `ports.retention.BrokerRetention`."""
        settled = self._groups.setdefault(group, _Group()).settled
        owed = [
            message.sent_at
            for topic in topics
            for number, log in enumerate(self._logs.get(topic, ()))
            for message in log[settled.get(Partition(topic, number), 0) :][:1]
        ]
        return min((sent_at for sent_at in owed if sent_at is not None), default=None)

    async def settled_to(self, group: str, topics: Collection[str]) -> Mapping[Partition, int]:
        """See `ports.retention.BrokerRetention`."""
        settled = self._groups.setdefault(group, _Group()).settled
        return {place: to for place, to in settled.items() if place.topic in topics}

    async def retention_s(self, topic: str) -> float:
        """None beyond what `unsettled_since` tells: a settled message never comes again."""
        return 0.0

    async def trim(
        self, topics: Collection[str], *, before: datetime, unread: datetime, limit: int
    ) -> int:
        """Nothing: the process does not live that long."""
        return 0

    def create(self, topic: str, partitions: int) -> None:
        """Make *topic* with that many partitions, unless it is there."""
        self._logs.setdefault(topic, [[] for _ in range(partitions)])

    def log(self, partition: Partition) -> list[Message]:
        """Everything ever sent to *partition*, in order."""
        self.create(partition.topic, self._partitions)
        return self._logs[partition.topic][partition.number]

    def left(self, group: _Group, name: str) -> None:
        """A member has gone, in whichever way."""
        gone = group.members.pop(name)
        self._rebalance(group, gone.topics)

    def _rebalance(self, group: _Group, topics: Collection[str]) -> None:
        for topic in sorted(topics):
            self.create(topic, self._partitions)
            group.rebalance(topic, len(self._logs[topic]))

    def _append(self, message: Outgoing) -> None:
        self.create(message.topic, self._partitions)
        logs = self._logs[message.topic]
        if message.key is None:
            number = self._keyless[message.topic] % len(logs)
            self._keyless[message.topic] += 1
        else:
            number = partition_of(message.key, len(logs))
        logs[number].append(
            Message(
                partition=Partition(message.topic, number),
                position=len(logs[number]),
                key=message.key,
                value=message.value,
                headers=tuple(message.headers),
                sent_at=self._clock.now(),
            )
        )
