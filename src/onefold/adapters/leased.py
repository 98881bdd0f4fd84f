"""
One member of a consumer group over a store that knows leases: for SQL and Valkey.

Theory. Each partition has one lease for each group: an owner, an end, and a fence that goes
up with every owner. A member *beats*: it says that it lives, prolongs what it holds, and
learns who else lives. From that it knows its quota (`core.partitions`): it gives up what is
above it and takes what is free. Nobody deals out partitions, and a dead member's leases
end by themselves. Reading and settling name the fence; the store refuses an old one. So a
member that was paused beyond its lease can neither read on nor settle, and learns it.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol
from uuid import uuid4

from onefold.core.offsets import DonePrefix
from onefold.core.partitions import quota
from onefold.errors import IllegalTransition, OnefoldError, Unavailable
from onefold.ports.transport import Message, Partition, TransportFeatures

_log = logging.getLogger("onefold.leased")

_BEATS_PER_LEASE = 3
_IDLE_S = 0.02  # asking for messages: at once after some came, then ever more seldom to this


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a member learns of one topic: who lives, what it still holds, what is free."""

    members: Collection[str]
    kept: Collection[int]
    free: Sequence[int]
    partitions: int


@dataclass(frozen=True, kw_only=True)
class PartitionLease:
    """A partition was taken: under that fence, to be read behind that token."""

    fence: int
    after: str


@dataclass(frozen=True, kw_only=True)
class SettledPrefix:
    """What is dealt with in one partition: each token, and the unbroken prefix's end."""

    fence: int
    tokens: Sequence[str]
    done_to: int | None


class LeaseStore(Protocol):
    """What a store does for one group. Every call may be repeated after StoreUnavailable."""

    async def beat(
        self, topic: str, member: str, held: Mapping[int, int], *, lease_s: float
    ) -> Beat:
        """Say that *member* lives and prolong the leases it holds under those fences."""
        ...

    async def take(
        self, topic: str, member: str, numbers: Collection[int], *, lease_s: float
    ) -> Mapping[int, PartitionLease]:
        """Take those leases that are free; the others are missing from the answer."""
        ...

    async def read(
        self, topic: str, member: str, shares: Mapping[int, PartitionLease], *, most: int
    ) -> Mapping[int, Sequence[Message] | None]:
        """The next messages of each, in order; None for one that was lost."""
        ...

    async def settle(
        self, topic: str, member: str, settled: Mapping[int, SettledPrefix]
    ) -> Collection[int]:
        """Make it durable; which partitions were lost, and nothing was settled there."""
        ...

    async def give_back(
        self, topic: str, member: str, held: Mapping[int, int], *, leave: bool
    ) -> None:
        """Give leases back; with *leave*, be a member no longer."""
        ...


@dataclass(kw_only=True)
class _Hold:
    share: PartitionLease
    until: float  # by our own clock: no answer of the store's may prolong it unseen
    prefix: DonePrefix = field(default_factory=DonePrefix)
    done_to: int | None = None


class LeasedSubscription:
    """
    See `ports.transport.Subscription`. The epoch of a message is the fence of its lease.

    Args:
        store: Of this group.
        features: The transport's.
        topics: To read.
        lease_s: After which a silent member's partitions go to others.
    """

    def __init__(
        self,
        store: LeaseStore,
        features: TransportFeatures,
        topics: Collection[str],
        *,
        lease_s: float,
    ) -> None:
        self._store, self._features, self._topics = store, features, sorted(topics)
        self._lease_s = lease_s
        self._member = uuid4().hex
        self._holds: dict[Partition, _Hold] = {}
        self._lost: list[tuple[Partition, int]] = []
        self._loss_unseen = False
        self._paused: set[Partition] = set()
        self._news = asyncio.Event()
        self._error: OnefoldError | None = None
        self._broken: BaseException | None = None
        self._beating: asyncio.Task[None] | None = None
        self._turn = 0
        self._closed = False

    async def join(self) -> None:
        """
        Become a member, and beat from now on.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        await self._beat()
        self._beating = asyncio.create_task(self._keep_beating())
        self._beating.add_done_callback(self._beats_no_more)

    @property
    def features(self) -> TransportFeatures:
        return self._features

    async def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Message]:
        if self._closed:
            raise IllegalTransition("closed", "receive")
        if self._broken is not None:
            raise self._broken
        pause_s = 0.001
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not (received := await self._read(max_messages)) and not self._news_came():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await self._news.wait()
                    pause_s = min(_IDLE_S, 2 * pause_s)
                return received
        return []

    async def settle(self, messages: Sequence[Message]) -> Sequence[Message]:
        refused: list[Message] = []
        for topic, of_topic in _by_topic(messages).items():
            settled = self._done(of_topic)
            if settled:
                for number in await self._store.settle(topic, self._member, settled):
                    self._lose(Partition(topic, number), settled[number].fence)
            refused += [m for m in of_topic if not self._holds_still(m)]
        return refused

    async def lost(self) -> Collection[tuple[Partition, int]]:
        lost, self._lost = self._lost, []
        return lost

    def standing(self) -> Mapping[Partition, int | None]:
        return dict.fromkeys(self._holds)  # how long a log has grown is the store's to know

    async def pause(self, partitions: Collection[Partition]) -> None:
        self._paused.update(partitions)

    async def resume(self, partitions: Collection[Partition]) -> None:
        self._paused.difference_update(partitions)
        self.wake()

    async def close(self) -> None:
        if self._closed:
            return
        await self.kill()
        for topic in self._topics:
            with suppress(Unavailable):  # then the leases end by themselves
                await self._store.give_back(topic, self._member, self._fences(topic), leave=True)
        for partition, hold in list(self._holds.items()):
            self._lose(partition, hold.share.fence)

    async def kill(self) -> None:
        """Die without a goodbye: others wait for the end of the leases. For tests."""
        self._closed = True
        self.wake()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])

    def wake(self) -> None:
        """There may be something to receive."""
        self._news.set()

    # Holding.

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / _BEATS_PER_LEASE)
            try:
                await self._beat()
            except Unavailable:  # the next beat may come through; till then leases run down
                self._expire()
            except OnefoldError as error:
                self._error = error
                self.wake()

    def _beats_no_more(self, beating: asyncio.Task[None]) -> None:
        """
        A mistake has ended the beating: say so, and read no more under leases that run out.

        What was received may still be settled: the store refuses it once another has the lease.
        """
        if not beating.cancelled() and (error := beating.exception()) is not None:
            _log.error("member %s does not renew its leases any more", self._member, exc_info=error)
            self._broken = error
            self.wake()

    async def _beat(self) -> None:
        for topic in self._topics:
            began = monotonic()
            held = self._fences(topic)
            beat = await self._store.beat(topic, self._member, held, lease_s=self._lease_s)
            for number, fence in held.items():
                partition = Partition(topic, number)
                if number not in beat.kept:
                    self._lose(partition, fence)
                elif partition in self._holds:
                    self._holds[partition].until = began + self._lease_s
            await self._share_out(topic, beat)

    async def _share_out(self, topic: str, beat: Beat) -> None:
        mine = quota(self._member, beat.members, topic, beat.partitions)
        held = self._fences(topic)
        if len(held) > mine:
            excess = dict(sorted(held.items())[mine:])
            for number, fence in excess.items():
                self._lose(Partition(topic, number), fence)
            await self._store.give_back(topic, self._member, excess, leave=False)
        elif beat.free and len(held) < mine:
            wanted = beat.free[: mine - len(held)]
            began = monotonic()
            taken = await self._store.take(topic, self._member, wanted, lease_s=self._lease_s)
            for number, share in taken.items():
                hold = _Hold(share=share, until=began + self._lease_s)
                self._holds[Partition(topic, number)] = hold
            self.wake()

    def _fences(self, topic: str) -> dict[int, int]:
        return {p.number: h.share.fence for p, h in self._holds.items() if p.topic == topic}

    def _lose(self, partition: Partition, fence: int) -> None:
        hold = self._holds.get(partition)
        if hold is not None and hold.share.fence == fence:
            del self._holds[partition]
            self._paused.discard(partition)
            self._lost.append((partition, fence))
            self._loss_unseen = True
            self.wake()

    def _expire(self) -> None:
        now = monotonic()
        for partition, hold in list(self._holds.items()):
            if hold.until <= now:
                self._lose(partition, hold.share.fence)

    def _holds_still(self, message: Message) -> bool:
        hold = self._holds.get(message.partition)
        return hold is not None and hold.share.fence == message.epoch and not self._closed

    # Reading and settling.

    def _news_came(self) -> bool:
        """Whether `receive` should come back although there are no messages."""
        self._news.clear()
        if self._broken is not None:
            raise self._broken
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        seen, self._loss_unseen = self._loss_unseen, False
        return seen or self._closed

    async def _read(self, most: int) -> list[Message]:
        """
        The next messages of the first topic that has some, another one first at each call.

        Of one, because a call that is cancelled, or fails, at the next topic would have moved
        on behind messages that nobody got (test_a_cancelled_receive_loses_no_topic).
        """
        self._turn += 1
        first = self._turn % len(self._topics)
        for topic in self._topics[first:] + self._topics[:first]:
            shares = {
                p.number: h.share
                for p, h in self._holds.items()
                if p.topic == topic and p not in self._paused
            }
            if shares and not self._closed:
                received = await self._read_topic(topic, shares, most)
                if received:
                    return received
        return []

    async def _read_topic(
        self, topic: str, shares: dict[int, PartitionLease], most: int
    ) -> list[Message]:
        # A cancelled call may have been answered: the cursor did not move, so the next call
        # gets the same.
        ordered = dict(sorted(shares.items(), key=lambda s: (s[0] + self._turn) % len(shares)))
        answer = await self._store.read(topic, self._member, ordered, most=most)
        received: list[Message] = []
        for number, messages in answer.items():
            partition = Partition(topic, number)
            if messages is None:
                self._lose(partition, shares[number].fence)
                continue
            hold = self._holds.get(partition)
            if not messages or hold is None or hold.share != shares[number]:
                continue  # lost, or read by another call, while this one was on its way
            for message in messages:
                hold.prefix.received(message.position)
            hold.share = PartitionLease(fence=hold.share.fence, after=messages[-1].token)
            received += messages
        return received

    def _done(self, messages: Sequence[Message]) -> dict[int, SettledPrefix]:
        tokens: dict[int, list[str]] = defaultdict(list)
        for message in messages:
            if self._holds_still(message):
                self._holds[message.partition].prefix.done(message.position)
                tokens[message.partition.number].append(message.token)
        settled = {}
        for number, of_partition in tokens.items():
            hold = self._holds[Partition(messages[0].partition.topic, number)]
            hold.done_to = hold.prefix.committable() or hold.done_to
            settled[number] = SettledPrefix(
                fence=hold.share.fence, tokens=of_partition, done_to=hold.done_to
            )
        return settled


def _by_topic(messages: Sequence[Message]) -> dict[str, list[Message]]:
    found: dict[str, list[Message]] = defaultdict(list)
    for message in messages:
        found[message.partition.topic].append(message)
    return found
