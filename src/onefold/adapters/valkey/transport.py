"""
Valkey or Redis streams as a broker that keeps the order of keys.

A topic is a few streams, its partitions; a key always goes to the same one. A partition is
read by one member of a group at a time, under a lease with a fence, so a redelivered message
never comes after a later one of its key. Pending entries are the server's record of what is
not settled. All members use one consumer name: what a dead one left pending is simply read
again by the next, and nothing waits for an idle time to pass.

Keys are `<prefix>:{<topic>}:…`. The braces make a topic live on one node of a cluster, so
that reading all its partitions is one script call. Replication is asynchronous: a failover
may lose the last messages and the last settlements.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate, count, pairwise
from struct import unpack_from

from onefold.adapters.leased import Beat, LeasedSubscription, PartitionLease, SettledPrefix
from onefold.adapters.valkey.connection import Server, connect, script
from onefold.core.partitions import partition_of
from onefold.errors import IllegalTransition, InvalidSetting, OnefoldError, StoreUnavailable
from onefold.ports.transport import Message, Outgoing, Partition, TransportFeatures

__all__ = ["ValkeyTransport"]

FEATURES = TransportFeatures(
    name="valkey", order="key", settles_singly=True, survives_process=True, replays=True
)

_BEAT, _TAKE, _READ, _SETTLE, _LEAVE, _SEND, _TOPIC, _TRIM, _OLDEST = (
    script(f"stream_{name}")
    for name in ("beat", "take", "read", "settle", "leave", "send", "topic", "trim", "oldest")
)
_CONSUMER = b"onefold"
_START = "0-0"
_ANSWER_BYTES = 8 * 1024 * 1024  # a script blocks the server while it answers
_CALL_BYTES = 8 * 1024 * 1024
_CALL_ARGUMENTS = 7000  # Lua's stack, where a script's arguments pass, holds 8000
_SEQUENCE_BITS = 20  # of an entry's id: a million messages in one millisecond


class _Keys:
    """The names of what belongs to one topic."""

    def __init__(self, prefix: str, topic: str) -> None:
        if "{" in topic or "}" in topic:
            raise InvalidSetting("topic", "a brace would decide the cluster's hash slot")
        self._base = f"{prefix}:{{{topic}}}".encode()

    @property
    def partitions(self) -> bytes:
        return self._base + b":partitions"

    def stream(self, number: int) -> bytes:
        return self._base + b":%d" % number

    def lease(self, number: int, group: str) -> bytes:
        return self._base + b":%d:lease:" % number + group.encode()

    def members(self, group: str) -> bytes:
        return self._base + b":members:" + group.encode()


class _Group:
    """See `adapters.leased.LeaseStore`."""

    def __init__(self, transport: "ValkeyTransport", group: str) -> None:
        self._transport, self._group = transport, group
        self._server = transport.server

    async def beat(
        self, topic: str, member: str, held: Mapping[int, int], *, lease_s: float
    ) -> Beat:
        partitions = await self._transport.partitions(topic)
        keys = self._transport.keys(topic)
        leases = [keys.lease(number, self._group) for number in range(partitions)]
        fences = [b"%d" % held[n] if n in held else b"" for n in range(partitions)]
        members, states = await self._server.run(
            _BEAT,
            [keys.members(self._group), *leases],
            [member.encode(), b"%d" % (lease_s * 1000), *fences],
        )
        return Beat(
            members=[name.decode() for name in members],
            kept=[number for number, state in enumerate(states) if state == b"kept"],
            free=[number for number, state in enumerate(states) if state == b"free"],
            partitions=partitions,
        )

    async def take(
        self, topic: str, member: str, numbers: Collection[int], *, lease_s: float
    ) -> Mapping[int, PartitionLease]:
        fences = await self._server.run(
            _TAKE,
            self._pairs(topic, numbers),
            [self._group.encode(), member.encode(), b"%d" % (lease_s * 1000), _CONSUMER],
        )
        taken = zip(numbers, fences, strict=True)
        return {number: PartitionLease(fence=int(f), after=_START) for number, f in taken if int(f)}

    async def read(
        self, topic: str, member: str, shares: Mapping[int, PartitionLease], *, most: int
    ) -> Mapping[int, Sequence[Message] | None]:
        arguments = [self._group.encode(), member.encode(), _CONSUMER]
        arguments += [b"%d" % most, b"%d" % _ANSWER_BYTES]
        for share in shares.values():
            arguments += [b"%d" % share.fence, share.after.encode()]
        answers = await self._server.run(_READ, self._pairs(topic, shares), arguments)
        read: dict[int, Sequence[Message] | None] = {}
        for (number, share), entries in zip(shares.items(), answers, strict=True):
            partition = Partition(topic, number)
            held = not isinstance(entries, int)
            read[number] = list(_messages(partition, share.fence, entries)) if held else None
        return read

    async def settle(
        self, topic: str, member: str, settled: Mapping[int, SettledPrefix]
    ) -> Collection[int]:
        arguments = [self._group.encode(), member.encode()]
        for one in settled.values():
            arguments += [b"%d" % one.fence, b"%d" % len(one.tokens)]
            arguments += [token.encode() for token in one.tokens]
        held = await self._server.run(_SETTLE, self._pairs(topic, settled), arguments)
        return [number for number, mine in zip(settled, held, strict=True) if not mine]

    async def give_back(
        self, topic: str, member: str, held: Mapping[int, int], *, leave: bool
    ) -> None:
        keys = self._transport.keys(topic)
        leases = [keys.lease(number, self._group) for number in held]
        fences = [b"%d" % fence for fence in held.values()]
        arguments = [member.encode(), b"1" if leave else b"0", *fences]
        await self._server.run(_LEAVE, [keys.members(self._group), *leases], arguments)

    def _pairs(self, topic: str, numbers: Iterable[int]) -> list[bytes]:
        keys = self._transport.keys(topic)
        return [k for n in numbers for k in (keys.lease(n, self._group), keys.stream(n))]


class ValkeyTransport:
    """
    See `ports.transport.Transport`.

    Args:
        server: Where: a URL as for `connect`, or a server, which stays the caller's to close.
        prefix: Before every key; transports with other prefixes never meet.
        partitions: How many a topic gets that is named for the first time.
        lease_s: After which a silent member's partitions go to others.
    """

    def __init__(
        self,
        server: Server | str,
        *,
        prefix: str = "onefold",
        partitions: int = 8,
        lease_s: float = 10.0,
    ) -> None:
        if "{" in prefix:
            raise InvalidSetting("prefix", "a brace would decide the cluster's hash slot")
        self._mine = isinstance(server, str)
        self.server = connect(server) if isinstance(server, str) else server
        self._prefix, self._new, self._lease_s = prefix, partitions, lease_s
        self._partitions: dict[str, int] = {}
        self._keyless = count()
        self._subscriptions: list[LeasedSubscription] = []
        self._closed = False

    @property
    def features(self) -> TransportFeatures:
        return FEATURES

    async def subscribe(self, group: str, topics: Collection[str]) -> LeasedSubscription:
        store = _Group(self, group)
        subscription = LeasedSubscription(store, FEATURES, topics, lease_s=self._lease_s)
        await subscription.join()
        self._subscriptions.append(subscription)
        return subscription

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[BaseException | None]:
        if self._closed:
            raise IllegalTransition("closed", "publish")
        outcomes: list[BaseException | None] = [None] * len(messages)
        by_topic: dict[str, list[int]] = defaultdict(list)
        for index, message in enumerate(messages):
            by_topic[message.topic].append(index)
        for topic, indices in by_topic.items():
            await self._send(topic, indices, messages, outcomes)
        for subscription in self._subscriptions:
            subscription.wake()
        return outcomes

    async def aclose(self) -> None:
        self._closed = True
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        if self._mine:
            await self.server.aclose()

    async def create(self, topic: str, *, partitions: int) -> int:
        """Make *topic*, unless it is there; how many partitions it has."""
        keys = self.keys(topic)
        number = await self.server.run(_TOPIC, [keys.partitions], [b"%d" % partitions])
        self._partitions[topic] = int(number)
        return self._partitions[topic]

    async def trim(
        self, topics: Collection[str], *, before: datetime, unread: datetime, limit: int
    ) -> int:
        """
        See `ports.retention.BrokerRetention`. One round trip a topic, each trimmed whole.

        What a group has not settled is never removed, however old it is.
        """
        removed = 0
        for topic in topics:
            if removed >= limit:
                break
            ages = [b"%d" % (instant.timestamp() * 1000) for instant in (before, unread)]
            removed += int(await self.server.run(_TRIM, await self._streams(topic), ages))
        return removed

    async def unsettled_since(self, group: str, topics: Collection[str]) -> datetime | None:
        """See `ports.retention.BrokerRetention`. One round trip a topic."""
        oldest: list[bytes] = []
        for topic in topics:
            answers = await self.server.run(_OLDEST, await self._streams(topic), [group.encode()])
            oldest += [answer for answer in answers if answer]
        sent = [int(id_.partition(b"-")[0]) / 1000 for id_ in oldest]
        return datetime.fromtimestamp(min(sent), UTC) if sent else None

    async def settled_to(self, group: str, topics: Collection[str]) -> None:
        """There is no such position: entries are settled one by one."""
        return

    async def retention_s(self, topic: str) -> float:
        """None beyond what `unsettled_since` tells: a settled message never comes again."""
        return 0.0

    async def _streams(self, topic: str) -> list[bytes]:
        keys = self.keys(topic)
        return [keys.stream(number) for number in range(await self.partitions(topic))]

    async def partitions(self, topic: str) -> int:
        """How many *topic* has; a new one gets as many as this transport was told."""
        return self._partitions.get(topic) or await self.create(topic, partitions=self._new)

    def keys(self, topic: str) -> _Keys:
        """The names of what belongs to *topic*."""
        return _Keys(self._prefix, topic)

    async def _send(
        self,
        topic: str,
        indices: Sequence[int],
        messages: Sequence[Outgoing],
        outcomes: list[BaseException | None],
    ) -> None:
        failed: OnefoldError | None = None
        try:
            partitions = await self.partitions(topic)
        except OnefoldError as error:  # of this topic alone: the others are sent
            for index in indices:
                outcomes[index] = error
            return
        streams = [self.keys(topic).stream(number) for number in range(partitions)]
        broken: dict[int, BaseException] = {}
        for call in _calls(indices, messages):
            numbers = [self._number(messages[i], partitions) for i in call]
            live = [(i, n) for i, n in zip(call, numbers, strict=True) if n not in broken]
            for i, n in zip(call, numbers, strict=True):
                outcomes[i] = failed or broken.get(n)
            if failed or not live:
                continue
            arguments = [part for i, n in live for part in _packed(n, messages[i])]
            try:
                answers = await self.server.run(_SEND, streams, arguments)
            except OnefoldError as error:
                failed = error
                for i, _ in live:
                    outcomes[i] = error
                continue
            for (i, n), answer in zip(live, answers, strict=True):
                if answer:
                    broken[n] = outcomes[i] = StoreUnavailable(answer.decode())

    def _number(self, message: Outgoing, partitions: int) -> int:
        if message.key is None:
            return next(self._keyless) % partitions
        return partition_of(message.key, partitions)


def _calls(indices: Sequence[int], messages: Sequence[Outgoing]) -> Iterable[list[int]]:
    """Portions that a script can take, in order."""
    call: list[int] = []
    size = arguments = 0
    for index in indices:
        message = messages[index]
        parts = 6 + 2 * len(message.headers)
        length = len(message.value or b"")
        if call and (arguments + parts > _CALL_ARGUMENTS or size + length > _CALL_BYTES):
            yield call
            call, size, arguments = [], 0, 0
        call.append(index)
        size, arguments = size + length, arguments + parts
    if call:
        yield call


def _packed(number: int, message: Outgoing) -> list[bytes]:
    """The arguments of one message; an entry's fields, of which a name may come twice."""
    fields: list[bytes] = []
    if message.key is not None:
        fields += [b"k", message.key]
    if message.value is not None:
        fields += [b"v", message.value]
    for name, value in message.headers:
        fields += [b"h" + name.encode(), value]
    if not fields:
        fields = [b"-", b""]  # an entry needs one
    return [b"%d" % (number + 1), b"%d" % len(fields), *fields]


def _messages(partition: Partition, fence: int, packed: bytes) -> Iterable[Message]:
    """What `stream_read.lua` has packed."""
    (number,) = unpack_from(">I", packed)
    lengths = unpack_from(f">{number}I", packed, 4)
    ends = list(accumulate(lengths, initial=4 + 4 * number))
    parts = [packed[start:end] for start, end in pairwise(ends)]
    at = 0
    while at < number:
        fields = at + 2 + int(parts[at + 1])
        yield _message(partition, fence, parts[at].decode(), parts[at + 2 : fields])
        at = fields


def _message(partition: Partition, fence: int, token: str, fields: Sequence[bytes]) -> Message:
    milliseconds, _, sequence = token.partition("-")
    named = list(zip(fields[::2], fields[1::2], strict=True))
    plain = dict(named)
    return Message(
        partition=partition,
        position=(int(milliseconds) << _SEQUENCE_BITS) + int(sequence),
        key=plain.get(b"k"),
        value=plain.get(b"v"),
        headers=tuple((n[1:].decode(), value) for n, value in named if n[:1] == b"h"),
        sent_at=datetime.fromtimestamp(int(milliseconds) / 1000, UTC),
        epoch=fence,
        token=token,
    )
