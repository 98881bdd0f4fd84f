"""
The outbox relay and the publisher in which the numbered faults were found, in our own words.

The relay selects what is unpublished and publishes it row by row, each time as a new event;
the publisher has a breaker, and keeps in memory what the broker refuses. A token in a list
wakes the relay; between wakes it waits longer and longer.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from onefold.core.envelope import Event
from onefold.core.ids import Random
from onefold.core.wire import encode_native
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock

BATCH, MOST_RETRIES, FAILURES_TO_OPEN, QUEUE = 100, 5, 5, 1000

Publish = Callable[[Outgoing], Awaitable[None]]


@dataclass
class Row:
    """A row of the outbox table, without a lock, a lease or a next attempt."""

    event: Event
    created_at: datetime
    published_at: datetime | None = None
    retries: int = 0
    last_error: str = ""


@dataclass
class NaiveTable:
    """The table, and the list of wake tokens that survives every process."""

    rows: list[Row] = field(default_factory=list)
    tokens: int = 0


@dataclass
class NaivePublisher:
    """Direct, or with the breaker and its queue."""

    send: Publish
    clock: ManualClock
    resilient: bool
    state: str = "closed"
    failures: int = 0
    opened_at: datetime | None = None
    queue: list[Outgoing] = field(default_factory=list)

    async def publish(self, message: Outgoing) -> None:
        """Returns normally when the breaker is open: the message is in the queue."""
        if not self.resilient:
            await self.send(message)
            return
        if self.state == "open" and not self._may_probe():
            self._keep(message)
            return
        try:
            await self.send(message)
        except ConnectionError:
            self._failed()
            self._keep(message)
            raise  # and its caller tries again, too
        self.state, self.failures = "closed", 0

    async def recover(self) -> None:
        """Every now and then; past the breaker, and only while it is not open."""
        while self.resilient and self.state != "open" and self.queue:
            await self.send(self.queue[0])
            self.queue.pop(0)

    def _may_probe(self) -> bool:
        assert self.opened_at is not None
        if self.clock.now() - self.opened_at < timedelta(seconds=30):
            return False
        self.state = "half-open"
        return True

    def _failed(self) -> None:
        self.failures += 1
        if self.state == "half-open" or self.failures >= FAILURES_TO_OPEN:
            self.state, self.opened_at = "open", self.clock.now()

    def _keep(self, message: Outgoing) -> None:
        if len(self.queue) < QUEUE:
            self.queue.append(message)


@dataclass
class NaiveRelay:
    """One relay; `turn` is one round of its loop, the waiting at its end included."""

    table: NaiveTable
    publisher: NaivePublisher
    clock: ManualClock
    random: Random
    socket_timeout_s: float = 30.0
    depth: int = 0  # the gauge
    empty: int = 0
    dies_before_marking: bool = False
    while_it_waits: Callable[[], Any] | None = None

    async def turn(self) -> None:
        """Publish what is there; if there is nothing, wait."""
        batch = self._select()
        if batch:
            self.depth = len(batch)
            for row in batch:
                await self._relay(row)
            return
        self.empty += 1
        await self._wait()

    def _select(self) -> list[Row]:
        unpublished = [row for row in self.table.rows if row.published_at is None]
        return sorted(unpublished, key=lambda row: row.created_at)[:BATCH]

    async def _relay(self, row: Row) -> None:
        if row.retries >= MOST_RETRIES:
            row.last_error = "permanently failed"
            return
        try:
            await self.publisher.publish(self._rebuilt(row.event))
        except ConnectionError as error:
            row.retries += 1
            row.last_error = str(error)[:1000]
            return
        if self.dies_before_marking:
            raise NaiveDeath
        row.published_at = self.clock.now()

    def _rebuilt(self, event: Event) -> Outgoing:
        """Type, source, data and correlation are copied; id and time are not; no headers."""
        facts: dict[str, Any] = {"source": event.source, "key": event.key}
        again = Event.new(event.type, event.data, now=self.clock.now(), random=self.random, **facts)
        key = None if event.key is None else event.key.encode()
        return Outgoing(topic=event.type, key=key, value=encode_native(again))

    async def _wait(self) -> None:
        wait_s = 0.1 if self.empty <= 2 else 1.0 if self.empty <= 9 else 5.0
        if wait_s >= self.socket_timeout_s:  # the socket gives up just before the answer
            self.clock.advance(timedelta(seconds=self.socket_timeout_s))
            self._sleep(5.0)  # the loop's error handler, deaf to wakes
            return
        if self.table.tokens:
            self.table.tokens -= 1
            return
        self._happens()
        if self.table.tokens:
            self.table.tokens -= 1
            return
        self.clock.advance(timedelta(seconds=wait_s))

    def _sleep(self, seconds: float) -> None:
        self._happens()
        self.clock.advance(timedelta(seconds=seconds))

    def _happens(self) -> None:
        if self.while_it_waits is not None:
            what, self.while_it_waits = self.while_it_waits, None
            what()


class NaiveDeath(BaseException):
    """The process dies here."""
