"""
Outbox, relay, broker, consumer, effect: one chain over a real broker, as a crash scenario.

The database is in memory, so that what is explored is what happens between a process and
its broker. A process reads one message at a time: however the broker hands messages out, a
run then passes the same boundaries as the one before.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any, Protocol

from redis import Redis
from tests.integration.engine.test_consumer import surroundings
from tests.support_kafka import FAST_GROUPS

from onefold.adapters.kafka.mock import MockCluster
from onefold.adapters.kafka.transport import KafkaTransport
from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.adapters.valkey.connection import Server, connect
from onefold.adapters.valkey.transport import ValkeyTransport
from onefold.core.envelope import Event
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.delivery import HandlerTransaction
from onefold.engine.relay import Relay
from onefold.ports.guard import Guard
from onefold.ports.transport import Message, Outgoing
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario
from onefold.testing.crash.invariants import Effect
from onefold.testing.crash.points import Mortal, MortalUnitOfWork, Reaper
from onefold.testing.marks import sometimes

PATIENCE_S = 20.0  # a member that died is missed by its group after this at the latest
GROUP = "c"


class Link(Protocol):
    """One process' connections to the broker."""

    transport: Any

    async def aclose(self, *, dead: bool) -> None:
        """Let go of them; *dead*: without a word to the broker."""
        ...


class Place(Protocol):
    """The broker, as one world sees it: with a topic of its own."""

    topic: str

    async def connect(self) -> Link:
        """As a process connects that has just been started."""
        ...

    def lapse(self) -> None:
        """Let the leases run out that dead processes hold, where the test can do that."""
        ...

    async def unsettled(self, sent: int) -> Collection[object]:
        """What no member has settled of the *sent* messages."""
        ...

    async def aclose(self) -> None:
        """Let go of the world's own connections."""
        ...


@dataclass
class Counted:
    """What the broker has really taken, and what was really settled; below every death."""

    sent: int = 0
    settled: set[tuple[int, int]] = field(default_factory=set)
    received: set[tuple[int, int]] = field(default_factory=set)

    @property
    def over(self) -> bool:
        return len(self.settled) == self.sent


class CountedTransport:
    """A transport whose successful publishes are counted."""

    def __init__(self, inner: Any, counted: Counted) -> None:
        self._inner, self._counted = inner, counted

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[BaseException | None]:
        answers: Sequence[BaseException | None] = await self._inner.publish(messages)
        self._counted.sent += sum(answer is None for answer in answers)
        return answers


class CountedSubscription:
    """A subscription whose settled messages are counted."""

    def __init__(self, inner: Any, counted: Counted) -> None:
        self._inner, self._counted = inner, counted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Message]:
        received: Sequence[Message] = await self._inner.receive(
            max_messages=max_messages, wait_s=wait_s
        )
        again = set(map(_place, received)) & self._counted.received
        sometimes("redelivered", when=bool(again))
        self._counted.received.update(map(_place, received))
        return received

    async def settle(self, messages: Sequence[Message]) -> Sequence[Message]:
        refused: Sequence[Message] = await self._inner.settle(messages)
        sometimes("refused to settle", when=bool(refused))
        places = set(map(_place, messages)) - set(map(_place, refused))
        self._counted.settled |= places
        return refused


def _place(message: Message) -> tuple[int, int]:
    return message.partition.number, message.position


class Chain:
    """
    One world: events in an outbox, a broker, a consumer's effects.

    Args:
        place: The broker.
        events: How many.
        relay: What sends them.
        consumer: What applies them.
        guard: Where a consumer without transactions keeps its claims.
        leases: Whether the test can let the broker's leases run out; then processes stall too.
        keys: Of the events, in turns.
        everywhere: Die in the database's calls too; otherwise at the broker's edge alone.
        closing: Lets go of what else the world has.
    """

    def __init__(
        self,
        place: Place,
        *,
        events: int,
        relay: type[Relay] = Relay,
        consumer: Callable[..., Consumer] = Consumer,
        guard: Guard | None = None,
        leases: bool = False,
        keys: str = "ab",
        everywhere: bool = True,
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._place, self._relay, self._consumer = place, relay, consumer
        self._guard, self._leases, self._everywhere = guard, leases, everywhere
        self._keys = keys
        self.clock, self.uow, self.counted = ManualClock(), MemoryUnitOfWork(), Counted()
        self.ledger, self.outbox = MemoryLedger(self.uow), MemoryOutbox(self.uow)
        self._told: list[int] = []
        self._closing = closing
        self._processes = 0
        facts: dict[str, Any] = {"source": "s", "now": self.clock.now()}
        self.events = [
            Event.new(place.topic, {"n": n}, key=self._key(n), random=Random(n).randbytes, **facts)
            for n in range(events)
        ]

    async def scenario(self) -> Scenario:
        """This world, to be explored; what is to be sent was committed before."""
        async with self.uow.begin() as tx:
            await tx.publish(*self.events, now=self.clock.now())
        return Scenario(
            run=self._run,
            expected=[Effect(n, self._key(n)) for n in range(len(self.events))],
            effects=self._effects,
            repeats=self._guard is not None,  # without a transaction: at least once
            claims=self._unfinished,
            expire=self._expire if self._leases else None,
            patience_s=2 * PATIENCE_S,
            close=self._close,
        )

    async def _close(self) -> None:
        await self._place.aclose()
        if self._closing is not None:
            await self._closing()

    def _key(self, n: int) -> str:
        return self._keys[n % len(self._keys)]

    def _expire(self) -> None:
        self.clock.advance(timedelta(hours=1))
        self._place.lapse()

    async def _run(self, reaper: Reaper) -> None:
        """One process: relay all there is, then consume until the broker holds nothing more."""
        self._processes += 1
        self._expire()
        link = await self._place.connect()
        try:
            await self._send(link.transport, reaper)
            await self._consume(link.transport, reaper)
        finally:
            await link.aclose(dead=reaper.dead)

    async def _send(self, transport: Any, reaper: Reaper) -> None:
        relay = self._relay(
            Mortal(self.outbox, reaper, "outbox") if self._everywhere else self.outbox,
            Mortal(CountedTransport(transport, self.counted), reaper, "broker"),
            owner=f"r{self._processes}",
            env=surroundings(self.clock),
        )
        while await relay.step():
            pass

    async def _consume(self, transport: Any, reaper: Reaper) -> None:
        if self.counted.over:
            return
        subscription = await transport.subscribe(GROUP, [self._place.topic])
        consumer = self._consumer(
            self._spec(reaper),
            subscription=Mortal(
                CountedSubscription(subscription, self.counted), reaper, "subscription"
            ),
            uow=MortalUnitOfWork(self.uow, reaper) if self._everywhere else self.uow,
            ledger=Mortal(self.ledger, reaper, "ledger") if self._everywhere else self.ledger,
            env=surroundings(self.clock, seed=self._processes),
            poll_s=PATIENCE_S,
        )
        while not self.counted.over:
            await consumer.step()
            if consumer.waiting:
                self.clock.advance(timedelta(seconds=1))
        await subscription.close()

    def _spec(self, reaper: Reaper) -> ConsumerSpec:
        if self._guard is None:
            return ConsumerSpec(
                name=GROUP, topics=(self._place.topic,), handler=self._write, max_batch=1
            )
        return ConsumerSpec(
            name=GROUP,
            topics=(self._place.topic,),
            handler=self._tell,
            max_batch=1,
            record="lease",
            guard=reaper.mortal(self._guard, "guard"),
        )

    async def _write(self, event: Event, tx: HandlerTransaction) -> None:
        tx.tx.records.setdefault("effects", []).append(event.data["n"])  # type: ignore[attr-defined]

    async def _tell(self, event: Event, _: HandlerTransaction) -> None:
        self._told.append(event.data["n"])

    async def _effects(self) -> list[Effect]:
        done = self.uow.committed.records.get("effects", []) if self._guard is None else self._told
        return [Effect(n, self._key(n)) for n in done]

    async def _unfinished(self) -> Collection[object]:
        waiting = [event.id for event in await self.outbox.unsent(limit=99)]
        return [*waiting, *await self._place.unsettled(self.counted.sent)]


@dataclass
class ValkeyLink:
    """A connection of its own, and the streams over it."""

    server: Server
    transport: ValkeyTransport

    async def aclose(self, *, dead: bool) -> None:
        if dead:
            await _kill_all(self.transport)
        else:
            await self.transport.aclose()
        await self.server.aclose()


class ValkeyPlace:
    """Streams of a real Valkey, under a prefix of the world's own."""

    topic = "t"

    def __init__(self, url: str, prefix: str) -> None:
        self._url, self._prefix = url, prefix
        self._client = Redis.from_url(url.replace("valkey:", "redis:"))

    async def connect(self) -> ValkeyLink:
        server = connect(self._url)
        return ValkeyLink(server, ValkeyTransport(server, prefix=self._prefix, partitions=2))

    def lapse(self) -> None:
        """As if the time of every lease were over; nobody waits for the server's clock."""
        for key in self._client.scan_iter(f"{self._prefix}:*:lease:*"):
            self._client.hset(key, "until", 0)
        for key in self._client.scan_iter(f"{self._prefix}:*:members:*"):
            self._client.delete(key)

    async def unsettled(self, sent: int) -> Collection[object]:
        streams = [f"{self._prefix}:{{t}}:{number}" for number in range(2)]
        groups = [
            group
            for stream in streams
            if self._client.exists(stream)
            for group in self._client.xinfo_groups(stream)
        ]
        assert sum(map(self._client.xlen, streams)) == sent, "somebody else has sent"
        return [group for group in groups if group["pending"] or group["lag"]]

    async def aclose(self) -> None:
        self._client.close()


@dataclass
class KafkaLink:
    """Clients of its own."""

    transport: KafkaTransport

    async def aclose(self, *, dead: bool) -> None:
        if dead:
            await _kill_all(self.transport)
        await self.transport.aclose()


class KafkaPlace:
    """A topic of a cluster, the world's own."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self.topic = bootstrap, topic

    async def connect(self) -> KafkaLink:
        return KafkaLink(KafkaTransport(self._bootstrap, options=FAST_GROUPS))

    def lapse(self) -> None:
        """Nothing: the group itself must miss its dead member, which takes a second or more."""

    async def unsettled(self, sent: int) -> Collection[object]:
        link = await self.connect()
        try:
            committed = await link.transport.settled_to(GROUP, [self.topic])
        finally:
            await link.aclose(dead=False)
        return [committed] if sum(committed.values()) != sent else []

    async def aclose(self) -> None:
        """Nothing is open."""


async def _kill_all(transport: Any) -> None:
    for subscription in transport._subscriptions:  # as by SIGKILL: no goodbye
        await subscription.kill()


async def on_kafka(**how: Any) -> Scenario:
    """Two events of one key over a mock cluster of the world's own, at the broker's edge."""
    cluster = MockCluster()
    cluster.create("t", 2)

    async def close() -> None:
        cluster.close()

    place = KafkaPlace(cluster.bootstrap, "t")
    facts: dict[str, Any] = {"events": 2, "keys": "a", "everywhere": False, "closing": close}
    return await Chain(place, **facts | how).scenario()


def on_valkey(url: str, prefix: str) -> Callable[..., Awaitable[Scenario]]:
    """Makes three events of two keys over a real Valkey, each world under its own prefix."""
    worlds = count()

    def make(**how: Any) -> Awaitable[Scenario]:
        place = ValkeyPlace(url, f"{prefix}-{next(worlds)}")
        facts: dict[str, Any] = {"events": 3, "leases": True}
        return Chain(place, **facts | how).scenario()

    return make
