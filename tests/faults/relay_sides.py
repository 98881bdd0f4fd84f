"""The same scenario on two outbox relays: one broker, one clock, two designs."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Protocol

from tests.integration.engine.test_consumer import surroundings
from tests.twins.naive_relay import NaiveDeath, NaivePublisher, NaiveRelay, NaiveTable, Row

from onefold.core.envelope import Event
from onefold.core.wire import decode
from onefold.engine.relay import Relay
from onefold.engine.worker import Parts
from onefold.ports.backlog import Backlog
from onefold.ports.outbox import Outbox
from onefold.ports.transport import Outgoing
from onefold.ports.unit_of_work import UnitOfWork
from onefold.testing.clock import ManualClock
from onefold.testing.crash.points import Crash, Mortal, Reaper

TURNS = 3000  # after which a design that lets no time pass is stopped
POLL_S = Parts.poll_s


class Broker:
    """Takes messages, unless it is down or told to refuse them; remembers when it got what."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.got = clock, list[tuple[datetime, Outgoing]]()
        self.down, self.tries = False, 0
        self.refusing: set[int] = set()
        self.refuses_once: set[int] = set()

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[BaseException | None]:
        """In order; after a refusal no later message of its key."""
        answers: list[BaseException | None] = []
        blocked: set[bytes | None] = set()
        for message in messages:
            await asyncio.sleep(0)  # others come in between
            refused = (message.key is not None and message.key in blocked) or self._no(message)
            blocked |= {message.key} if refused else set()
            answers.append(ConnectionError("refused") if refused else None)
            self.got += [] if refused else [(self.clock.now(), message)]
        return answers

    def _no(self, message: Outgoing) -> bool:
        self.tries += 1
        number = event_in(message).data
        if number in self.refuses_once:
            self.refuses_once.discard(number)
            return True
        return self.down or number in self.refusing

    def numbers(self) -> list[int]:
        """What arrived, in its order."""
        return [event_in(message).data for _, message in self.got]

    def ids(self) -> set[str]:
        """Under how many ids."""
        return {event_in(message).id for _, message in self.got}

    def came_at(self, number: int) -> datetime | None:
        """When it arrived first."""
        return next((at for at, m in self.got if event_in(m).data == number), None)


def event_in(message: Outgoing) -> Event:
    """The event that a consumer reads in it."""
    return decode(message.value or b"", message.headers)


class Side(Protocol):
    """A design under the scenario."""

    clock: ManualClock
    broker: Broker

    async def publish(self, *numbers: int, key: str | None = "a") -> None:
        """Commit events of these numbers to the outbox, and wake whoever is to be woken."""
        ...

    async def publish_slowly(self, number: int) -> None:
        """Write it, let the relay have a turn, and only then commit."""
        ...

    async def turn(self) -> None:
        """One round of the relay's loop, the waiting at its end included."""
        ...

    async def die_before_marking(self) -> None:
        """One round of a relay that dies when the broker has answered."""
        ...

    async def two_relays(self) -> None:
        """A round of two relays side by side."""
        ...

    async def recover(self) -> None:
        """What the process does every now and then besides."""
        ...

    def restart(self) -> None:
        """The process dies, and another takes its place."""
        ...

    def publish_while_it_waits(self, number: int) -> None:
        """Commit and wake in the middle of the relay's next waiting."""
        ...

    def tokens(self) -> int:
        """What piles up while no relay runs."""
        ...

    async def standing(self) -> tuple[int, float | None]:
        """How much waits or is dead, and how old the oldest is in seconds, as it is told."""
        ...

    async def revive(self) -> int:
        """Let what was given up be sent again; how many."""
        ...


async def run(side: Side, seconds: float) -> bool:
    """Turn after turn for that long; False when no time passes by itself."""
    until = side.clock.now() + timedelta(seconds=seconds)
    for _ in range(TURNS):
        if side.clock.now() >= until:
            return True
        await side.turn()
    side.clock.advance(until - side.clock.now())
    return False


async def hours(side: Side, count: int) -> None:
    """Some turns in each of so many hours."""
    for _ in range(count):
        side.clock.advance(timedelta(hours=1))
        await run(side, 5)


class NaiveSide:
    """The relay that is replaced; *resilient* with its publisher of the same name."""

    def __init__(self, *, resilient: bool = False, socket_timeout_s: float = 30.0) -> None:
        self.clock = ManualClock()
        self.broker, self.table = Broker(self.clock), NaiveTable()
        self._resilient, self._socket_timeout_s = resilient, socket_timeout_s
        self._random = Random(2)
        self.restart()

    def restart(self) -> None:
        self.relay = self._relay()

    def _relay(self) -> NaiveRelay:
        publisher = NaivePublisher(self._send, self.clock, self._resilient)
        return NaiveRelay(
            self.table, publisher, self.clock, self._random.randbytes, self._socket_timeout_s
        )

    async def _send(self, message: Outgoing) -> None:
        (answer,) = await self.broker.publish([message])
        if answer is not None:
            raise answer

    async def publish(self, *numbers: int, key: str | None = "a") -> None:
        for number in numbers:
            self._add(number, key)
            self.table.tokens += 1

    def _add(self, number: int, key: str | None = "a") -> None:
        event = make_event(number, self.clock.now(), key)
        self.table.rows.append(Row(event, self.clock.now()))

    async def publish_slowly(self, number: int) -> None:
        self.table.tokens += 1  # pushed when the row was written, in the open transaction
        await self.turn()  # woken, and the row is not there yet
        self.relay.while_it_waits = lambda: self._add(number)

    async def turn(self) -> None:
        await self.relay.turn()

    async def die_before_marking(self) -> None:
        self.relay.dies_before_marking = True
        try:
            await self.relay.turn()
        except NaiveDeath:
            self.restart()

    async def two_relays(self) -> None:
        await asyncio.gather(self.relay.turn(), self._relay().turn())

    async def recover(self) -> None:
        await self.relay.publisher.recover()

    def publish_while_it_waits(self, number: int) -> None:
        def happens() -> None:
            self._add(number)
            self.table.tokens += 1

        self.relay.while_it_waits = happens

    def tokens(self) -> int:
        return self.table.tokens

    async def standing(self) -> tuple[int, float | None]:
        return self.relay.depth, None  # the histogram of ages was never observed

    async def revive(self) -> int:
        return 0  # there was no such tool


class OnefoldSide:
    """Ours, polled as a worker polls when nothing wakes it."""

    def __init__(
        self, clock: ManualClock, uow: UnitOfWork, outbox: Outbox, backlog: Backlog
    ) -> None:
        self.clock, self.broker = clock, Broker(clock)
        self._uow, self._outbox, self._backlog = uow, outbox, backlog
        self._processes = 0
        self._while_it_waits: int | None = None
        self.restart()

    def restart(self) -> None:
        self._processes += 1
        self._relay = self._another(f"r{self._processes}")

    def _another(self, owner: str, outbox: Any = None) -> Relay:
        env = surroundings(self.clock, seed=self._processes)
        broker: Any = self.broker
        outbox = outbox or self._outbox
        return Relay(outbox, broker, owner=owner, env=env, max_age=timedelta(hours=12))

    async def publish(self, *numbers: int, key: str | None = "a") -> None:
        events = [make_event(number, self.clock.now(), key) for number in numbers]
        async with self._uow.begin() as tx:
            await tx.publish(*events, now=self.clock.now())

    async def publish_slowly(self, number: int) -> None:
        async with self._uow.begin() as tx:
            await tx.publish(make_event(number, self.clock.now(), "a"), now=self.clock.now())
            turn = asyncio.create_task(self.turn())  # a task has one transaction at a time
            for _ in range(10):
                await asyncio.sleep(0)
        await turn

    async def turn(self) -> None:
        if await self._relay.step():
            return
        if self._while_it_waits is not None:
            number, self._while_it_waits = self._while_it_waits, None
            await self.publish(number)
        self.clock.advance(timedelta(seconds=POLL_S))

    async def die_before_marking(self) -> None:
        mortal = Mortal(self._outbox, Reaper("outbox.mark#1:before"), "outbox")
        try:
            await self._another("dies", mortal).step()
        except Crash:
            self.clock.advance(timedelta(minutes=1))  # its lease ends

    async def two_relays(self) -> None:
        await asyncio.gather(self._relay.step(), self._another("other").step())

    async def recover(self) -> None:
        """Nothing is kept in memory."""

    def publish_while_it_waits(self, number: int) -> None:
        self._while_it_waits = number

    def tokens(self) -> int:
        return 0

    async def standing(self) -> tuple[int, float | None]:
        standing = await self._backlog.standing()
        return standing.waiting + standing.dead, standing.age_s(self.clock.now())

    async def revive(self) -> int:
        dead = await self._backlog.dead(limit=100)
        return len(await self._backlog.revive([event.event_id for event in dead]))


def make_event(number: int, now: datetime, key: str | None) -> Event:
    """An event that says its number; the same number is the same event."""
    random = Random(number).randbytes
    return Event.new("t", number, source="s", key=key, now=now, random=random)
