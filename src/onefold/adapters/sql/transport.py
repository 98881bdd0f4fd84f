"""
A broker in the database: for one machine over SQLite, for a team over PostgreSQL.

Messages are rows of an append-only log in partitions; a key always goes to the same one.
A partition is read by one member of a group at a time, under a lease with a fence; up to
where a group has settled it stands in the same row, so that settling is one conditional
update and an old fence settles nothing.

Time is the members' own: their clocks must agree to within a fraction of the lease. If they
do not, a lease may be taken too early; its fence still keeps the earlier owner from reading
on and from settling.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, delete, func, or_, select, union_all, update

from onefold.adapters.leased import Beat, LeasedSubscription, PartitionLease, SettledPrefix
from onefold.adapters.sql.message_tables import headers_of, members, messages, partitions, shares
from onefold.core.clock import Clock, SystemClock
from onefold.core.partitions import partition_of
from onefold.errors import ConstraintViolated, IllegalTransition, OnefoldError, StoreFailed
from onefold.ports.transport import Message, Outgoing, Partition, TransportFeatures
from onefold.ports.unit_of_work import Transaction, UnitOfWork

__all__ = ["SqlTransport"]

FEATURES = TransportFeatures(
    name="sql", order="key", settles_singly=False, survives_process=True, replays=True
)


class _Group:
    """See `adapters.leased.LeaseStore`."""

    def __init__(self, transport: "SqlTransport", group: str, clock: Clock) -> None:
        self._transport, self._group, self._clock = transport, group, clock
        self._uow = transport.uow

    async def beat(
        self, topic: str, member: str, held: Mapping[int, int], *, lease_s: float
    ) -> Beat:
        await self._transport.partitions(topic)
        now = self._clock.now()
        ends = now + timedelta(seconds=lease_s)
        async with self._uow.begin() as tx:
            await self._live(tx, topic, member, now=now, ends=ends)
            await self._know(tx, topic, now=now)
            if held:
                # Also what has ended: nobody took it, so nobody has begun. Not what is in our
                # name alone: prolonged, a lease whose reply was lost would be nobody's for ever.
                await tx.execute(
                    update(shares).where(self._mine(topic, member, held)).values(until=ends)
                )
            rows = list(await tx.execute(select(shares).where(self._of(topic))))
            alive = select(members.c.member).where(
                members.c.group_name == self._group, members.c.topic == topic
            )
            names = list((await tx.execute(alive)).scalars())
        kept = [r.number for r in rows if r.owner == member and held.get(r.number) == r.fence]
        return Beat(
            members=names,
            kept=kept,
            free=sorted(r.number for r in rows if r.until <= now and r.number not in kept),
            partitions=len(rows),
        )

    async def take(
        self, topic: str, member: str, numbers: Collection[int], *, lease_s: float
    ) -> Mapping[int, PartitionLease]:
        now = self._clock.now()
        free = (
            update(shares)
            .where(self._of(topic), shares.c.number.in_(numbers), shares.c.until <= now)
            .values(
                owner=member,
                fence=shares.c.fence + 1,
                until=now + timedelta(seconds=lease_s),
            )
            .returning(shares.c.number, shares.c.fence, shares.c.settled_to)
        )
        async with self._uow.begin() as tx:
            taken = list(await tx.execute(free))
        return {r.number: PartitionLease(fence=r.fence, after=str(r.settled_to - 1)) for r in taken}

    async def read(
        self, topic: str, member: str, shares_: Mapping[int, PartitionLease], *, most: int
    ) -> Mapping[int, Sequence[Message] | None]:
        async with self._uow.read() as tx:
            owned = select(shares.c.number, shares.c.fence).where(
                self._of(topic), shares.c.owner == member
            )
            fences = {row.number: row.fence for row in await tx.execute(owned)}
            held = {n: s for n, s in shares_.items() if fences.get(n) == s.fence}
            rows = list(await tx.execute(_next(topic, held, most))) if held else []
        read: dict[int, Sequence[Message] | None] = dict.fromkeys(shares_)
        read.update({number: [] for number in held})
        by_number: dict[int, list[Message]] = defaultdict(list)
        for row in rows:
            by_number[row.number].append(_message(row, shares_[row.number].fence))
        for number in held:
            read[number] = by_number[number][:most]
            most -= len(by_number[number][:most])
        return read

    async def settle(
        self, topic: str, member: str, settled: Mapping[int, SettledPrefix]
    ) -> Collection[int]:
        lost = []
        async with self._uow.begin() as tx:
            for number, one in sorted(settled.items()):
                mine = and_(
                    self._of(topic),
                    shares.c.number == number,
                    shares.c.owner == member,
                    shares.c.fence == one.fence,
                )
                to = shares.c.settled_to if one.done_to is None else one.done_to
                done = await tx.execute(update(shares).where(mine).values(settled_to=to))
                if not done.rowcount:
                    lost.append(number)
        return lost

    async def give_back(
        self, topic: str, member: str, held: Mapping[int, int], *, leave: bool
    ) -> None:
        now = self._clock.now()
        async with self._uow.begin() as tx:
            if held:
                mine = self._mine(topic, member, held)
                await tx.execute(update(shares).where(mine).values(owner="", until=now))
            if leave:
                gone = and_(
                    members.c.group_name == self._group,
                    members.c.topic == topic,
                    members.c.member == member,
                )
                await tx.execute(delete(members).where(gone))

    def _of(self, topic: str) -> Any:
        return and_(shares.c.group_name == self._group, shares.c.topic == topic)

    def _mine(self, topic: str, member: str, held: Mapping[int, int]) -> Any:
        """The leases that *member* knows it holds, under those fences."""
        fenced = [and_(shares.c.number == n, shares.c.fence == f) for n, f in held.items()]
        return and_(self._of(topic), shares.c.owner == member, or_(*fenced))

    async def _live(
        self, tx: Transaction, topic: str, member: str, *, now: datetime, ends: datetime
    ) -> None:
        key = {"group_name": self._group, "topic": topic, "member": member}
        if not await tx.insert_new(members, [{**key, "until": ends}]):
            me = and_(*(members.c[name] == value for name, value in key.items()))
            await tx.execute(update(members).where(me).values(until=ends))
        dead = and_(
            members.c.group_name == self._group, members.c.topic == topic, members.c.until <= now
        )
        await tx.execute(delete(members).where(dead))

    async def _know(self, tx: Transaction, topic: str, *, now: datetime) -> None:
        """Make sure that each partition has a lease that can be taken."""
        numbers = range(await self._transport.partitions(topic))
        fresh = {"owner": "", "fence": 0, "until": now, "settled_to": 0}
        key = {"group_name": self._group, "topic": topic}
        await tx.insert_new(shares, [{**key, "number": n, **fresh} for n in numbers])


class SqlTransport:
    """
    See `ports.transport.Transport`.

    Args:
        uow: Of the database; stays the caller's to close.
        partitions: How many a topic gets that is named for the first time.
        lease_s: After which a silent member's partitions go to others. Longer than the
            longest transaction on SQLite, where one that writes makes the beats wait.
        clock: For leases, and to say when a message was sent.
    """

    def __init__(
        self,
        uow: UnitOfWork,
        *,
        partitions: int = 8,
        lease_s: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self.uow = uow
        self._new, self._lease_s = partitions, lease_s
        self._clock = clock or SystemClock()
        self._partitions: dict[str, int] = {}
        self._keyless = count()
        self._subscriptions: list[LeasedSubscription] = []
        self._closed = False

    @property
    def features(self) -> TransportFeatures:
        return FEATURES

    async def subscribe(self, group: str, topics: Collection[str]) -> LeasedSubscription:
        store = _Group(self, group, self._clock)
        subscription = LeasedSubscription(store, FEATURES, topics, lease_s=self._lease_s)
        await subscription.join()
        self._subscriptions.append(subscription)
        return subscription

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[BaseException | None]:
        """One transaction: all are durable, or none is known to be; bad topics cost themselves."""
        if self._closed:
            raise IllegalTransition("closed", "publish")
        if not messages:
            return []
        placed: dict[Partition, list[Outgoing]] = defaultdict(list)
        refused: dict[str, OnefoldError] = {}
        try:
            for topic in {message.topic for message in messages}:
                try:
                    await self.partitions(topic)
                except (
                    ConstraintViolated,
                    StoreFailed,
                ) as error:  # no such topic can be: the others are sent
                    refused[topic] = error
            for message in messages:
                if message.topic not in refused:
                    number = self._number(message, self._partitions[message.topic])
                    placed[Partition(message.topic, number)].append(message)
            async with self.uow.begin() as tx:
                for partition in sorted(placed):  # in one order, or two calls could deadlock
                    await self._append(tx, partition, placed[partition])
        except OnefoldError as error:  # with CommitUnknown, all may have been sent
            return [error] * len(messages)
        for subscription in self._subscriptions:
            subscription.wake()
        return [refused.get(message.topic) for message in messages]

    async def aclose(self) -> None:
        self._closed = True
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()

    async def create(self, topic: str, *, partitions: int) -> int:
        """Make *topic*, unless it is there; how many partitions it has."""
        there = await self._count(topic)
        if not there:
            rows = [{"topic": topic, "number": n, "next_position": 0} for n in range(partitions)]
            async with self.uow.begin() as tx:
                await tx.insert_new(_partitions, rows)
            there = await self._count(topic)
        self._partitions[topic] = there
        return there

    async def trim(
        self, topics: Collection[str], *, before: datetime, unread: datetime, limit: int
    ) -> int:
        """See `ports.retention.BrokerRetention`. Looks at all topics; at most *limit* go."""
        low = (
            select(shares.c.topic, shares.c.number, func.min(shares.c.settled_to).label("low"))
            .group_by(shares.c.topic, shares.c.number)
            .subquery()
        )
        old = (
            select(_messages.c.topic, _messages.c.number, _messages.c.position)
            .outerjoin(
                low, and_(low.c.topic == _messages.c.topic, low.c.number == _messages.c.number)
            )
            .where(
                or_(
                    and_(_messages.c.sent_at < before, _messages.c.position < low.c.low),
                    and_(_messages.c.sent_at < unread, low.c.low.is_(None)),
                )
            )
            .order_by(_messages.c.sent_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=_messages)
        )
        async with self.uow.begin() as tx:
            rows = [dict(row) for row in (await tx.execute(old)).mappings()]
            if rows:
                one = and_(*(_messages.c[name] == bindparam(f"old_{name}") for name in rows[0]))
                keys = [{f"old_{name}": value for name, value in row.items()} for row in rows]
                await tx.execute(delete(_messages).where(one), keys)
        return len(rows)

    async def unsettled_since(self, group: str, topics: Collection[str]) -> datetime | None:
        """See `ports.retention.BrokerRetention`. One round trip."""
        mine = and_(
            shares.c.group_name == group,
            shares.c.topic == _partitions.c.topic,
            shares.c.number == _partitions.c.number,
        )
        # The next one in each partition, by its key; in one that is new to the group, the first.
        next_sent = (
            select(_messages.c.sent_at)
            .where(
                _messages.c.topic == _partitions.c.topic,
                _messages.c.number == _partitions.c.number,
                _messages.c.position >= func.coalesce(shares.c.settled_to, 0),
            )
            .order_by(_messages.c.position)
            .limit(1)
            .scalar_subquery()
        )
        owed = (
            select(next_sent)
            .select_from(_partitions.outerjoin(shares, mine))
            .where(_partitions.c.topic.in_(topics))
        )
        async with self.uow.read() as tx:
            found = [sent_at for sent_at in (await tx.execute(owed)).scalars() if sent_at]
        return min(found, default=None)

    async def settled_to(self, group: str, topics: Collection[str]) -> Mapping[Partition, int]:
        """See `ports.retention.BrokerRetention`. One round trip."""
        mine = select(shares).where(shares.c.group_name == group, shares.c.topic.in_(topics))
        async with self.uow.read() as tx:
            return {
                Partition(row.topic, row.number): row.settled_to for row in await tx.execute(mine)
            }

    async def retention_s(self, topic: str) -> float:
        """None beyond what `unsettled_since` tells: a settled message never comes again."""
        return 0.0

    async def partitions(self, topic: str) -> int:
        """How many *topic* has; a new one gets as many as this transport was told."""
        return self._partitions.get(topic) or await self.create(topic, partitions=self._new)

    async def _count(self, topic: str) -> int:
        counted = select(func.count()).where(_partitions.c.topic == topic)
        async with self.uow.read() as tx:
            return int((await tx.execute(counted)).scalar_one())

    def _number(self, message: Outgoing, partitions_: int) -> int:
        if message.key is None:
            return next(self._keyless) % partitions_
        return partition_of(message.key, partitions_)

    async def _append(
        self, tx: Transaction, partition: Partition, outgoing: Sequence[Outgoing]
    ) -> None:
        topic, number = partition
        here = and_(_partitions.c.topic == topic, _partitions.c.number == number)
        behind = _partitions.c.next_position + len(outgoing)
        moved = (
            update(_partitions)
            .where(here)
            .values(next_position=behind)
            .returning(_partitions.c.next_position)
        )
        first = (await tx.execute(moved)).scalar_one() - len(outgoing)
        now = self._clock.now()
        rows = [
            {
                "topic": topic,
                "number": number,
                "position": position,
                "key": message.key,
                "value": message.value,
                "headers": msgspec.msgpack.encode(message.headers) if message.headers else None,
                "sent_at": now,
            }
            for position, message in enumerate(outgoing, start=first)
        ]
        await tx.insert_new(_messages, rows)


# Under other names where a parameter or a method has the table's.
_messages, _partitions = messages, partitions


def _next(topic: str, held: Mapping[int, PartitionLease], most: int) -> Any:
    # One bounded look into the key's index for each partition: a union of all, sorted, would
    # read the whole backlog each time. What one has too little of another may fill up.
    each = max(most // len(held) + 1, min(most, 50))
    looks: Iterable[Any] = (
        select(
            select(_messages)
            .where(
                _messages.c.topic == topic,
                _messages.c.number == number,
                _messages.c.position > int(share.after),
            )
            .order_by(_messages.c.position)
            .limit(each)
            .subquery()
        )
        for number, share in held.items()
    )
    return union_all(*looks)


def _message(row: Any, fence: int) -> Message:
    return Message(
        partition=Partition(row.topic, row.number),
        position=row.position,
        key=row.key,
        value=row.value,
        headers=headers_of(row.headers),
        sent_at=row.sent_at,
        epoch=fence,
        token=str(row.position),
    )
