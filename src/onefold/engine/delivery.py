"""One received message on its way through a consumer, and what its handler is given."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from msgspec import Struct
from sqlalchemy import CursorResult, Executable

from onefold.core.clock import Clock
from onefold.core.envelope import Event
from onefold.core.ids import Random
from onefold.core.trace_context import trace_of, traced
from onefold.core.wire import decode
from onefold.engine.deferred import DeferredInserts
from onefold.engine.handlers import is_async
from onefold.errors import InvalidEvent
from onefold.ports.guard import Lease
from onefold.ports.transport import Message
from onefold.ports.unit_of_work import InboxClaim, Transaction

T = TypeVar("T")


class Delivery(Struct, eq=False, gc=False):
    """
    A message, the event in it, and how often it was begun.

    Not tracked by the garbage collector, like its message and its event: large polls of
    tracked ones had it walk through everything (4 µs an event in a profile, 2026-11-28).

    Attributes:
        message: As it was received.
        event: What it says, once it was read; None when its bytes are no event.
        undecodable: Why they are none.
        attempt: How often its handler was started alone; 0 while it goes with others.
        alone: Handle it in a transaction of its own: it failed, or may kill its worker.
        retry_at: Not before which it is tried again.
        busy: How often another worker was found to be at it.
        spared: A start was counted, and another worker was at it: the next is that one.
        front: The lease under which a front is told that it was applied.
    """

    message: Message
    event: Event | None = None
    undecodable: InvalidEvent | None = None
    attempt: int = 0
    alone: bool = False
    retry_at: datetime | None = None
    busy: int = 0
    spared: bool = False
    front: Lease | None = None

    @classmethod
    def of(cls, message: Message) -> "Delivery":
        """A delivery that was read."""
        delivery = cls(message)
        delivery.read()
        return delivery

    def read(self) -> None:
        """Find the event in the message, once; what cannot be read is told, not raised."""
        if self.event is not None or self.undecodable is not None:
            return
        message = self.message
        try:
            self.event = decode(message.value or b"", message.headers, received_at=message.sent_at)
        except InvalidEvent as error:
            self.undecodable, self.alone = error, True

    @property
    def order_key(self) -> object:
        """Deliveries with equal ones are handled in the order of their arrival."""
        if self.message.key is not None:
            return self.message.partition, self.message.key
        self.read()
        if self.event is not None and self.event.key is not None:
            return self.message.partition, self.event.key
        return self.message.partition, self.message.position

    @property
    def claim(self) -> InboxClaim:
        """What the inbox is asked."""
        assert self.event is not None  # noqa: S101 (undecodable ones are parked before)
        return InboxClaim(self.event.identity, self.event.fingerprint())

    def claim_for(self, keep_for: Callable[[str], timedelta]) -> InboxClaim:
        """The same, with how long its record must stay."""
        assert self.event is not None  # noqa: S101 (undecodable ones are parked before)
        event = self.event
        return InboxClaim(event.identity, event.fingerprint(), keep_for(event.type))


@dataclass(eq=False)
class HandlerTransaction:
    """
    What a handler may do: everything in it commits with the inbox record, or not at all.

    Attributes:
        event: The event being handled; None in a batch handler, which names a cause itself.
        message: As it was received, with its headers; None in a batch handler.
        consumer: Whose transaction it is; the source of what it publishes.
        now: The instant of this transaction.
        fence: With `record="lease"`, higher than of any earlier run of the event: hand it to
            a foreign system that can compare. 0 in a transaction, which needs none.
    """

    tx: Transaction
    consumer: str
    now: datetime
    random: Random
    event: Event | None = None
    fence: int = 0
    together: bool = False  # other events share it: plain inserts may wait for theirs
    message: Message | None = None
    _outgoing: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._inserts = DeferredInserts(self.tx, hold=self.together and self.tx.features.sql)

    async def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """
        Run a SQLAlchemy Core statement; see `ports.unit_of_work.Transaction.execute`.

        A plain insert may be held back to travel with those of the events that share the
        transaction, see `engine.deferred`; whatever is run after it sees its row.
        """
        return await self._inserts.execute(statement, parameters)

    async def insert_new(self, table: Any, rows: Sequence[Mapping[str, Any]]) -> set[Any]:
        """Insert rows, set-based; see `ports.unit_of_work.Transaction.insert_new`."""
        await self._inserts.write()
        return await self.tx.insert_new(table, rows)

    async def publish(
        self,
        type: str,  # noqa: A002 (the field's name)
        data: Any,
        *,
        key: str | None = None,
        version: int = 1,
        cause: Event | None = None,
    ) -> Event:
        """
        Publish an event through the outbox: it leaves with this transaction or not at all.

        It carries the correlation id and the trace context of the event being handled and
        names it as its cause. Sent by the relay, at least once and always with the same id.
        """
        cause = cause or self.event
        facts: dict[str, Any] = {"source": self.consumer, "now": self.now, "random": self.random}
        if cause is None:
            event = Event.new(type, data, key=key, version=version, **facts)
        else:
            event = cause.caused(type, data, key=key or cause.key, version=version, **facts)
            event = traced(event, self.trace if cause is self.event else trace_of(cause))
        self._outgoing.append(event)
        return event

    @property
    def trace(self) -> Mapping[str, str]:
        """The W3C trace context of the message being handled: `traceparent`, `tracestate`."""
        return trace_of(self.event, self.message.headers if self.message else ())

    async def schedule(
        self, kind: str, key: str, *, due_at: datetime, payload: Mapping[str, Any]
    ) -> None:
        """Arm a deadline; see `ports.unit_of_work.Transaction.schedule`."""
        await self._inserts.write()
        await self.tx.schedule(kind, key, due_at=due_at, payload=payload)

    async def flush(self) -> None:
        """Write what was held back and what was published; the engine does so at the end."""
        await self._inserts.write()
        if self._outgoing:
            await self.tx.publish(*self._outgoing, now=self.now)
            self._outgoing.clear()


class SyncTransaction:
    """
    A `HandlerTransaction` for a handler that runs in a thread; calls wait for the loop.

    It has all that a handler is given there, under the same names.
    """

    def __init__(self, inner: HandlerTransaction, loop: asyncio.AbstractEventLoop) -> None:
        self._inner, self._loop = inner, loop
        self.event, self.message = inner.event, inner.message
        self.consumer, self.now, self.fence = inner.consumer, inner.now, inner.fence

    @property
    def trace(self) -> Mapping[str, str]:
        """See `HandlerTransaction.trace`."""
        return self._inner.trace

    def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """See `HandlerTransaction.execute`."""
        return self._wait(self._inner.execute(statement, parameters))

    def insert_new(self, table: Any, rows: Sequence[Mapping[str, Any]]) -> set[Any]:
        """See `HandlerTransaction.insert_new`."""
        return self._wait(self._inner.insert_new(table, rows))

    def publish(
        self,
        type: str,  # noqa: A002 (the field's name)
        data: Any,
        *,
        key: str | None = None,
        version: int = 1,
        cause: Event | None = None,
    ) -> Event:
        """See `HandlerTransaction.publish`."""
        return self._wait(self._inner.publish(type, data, key=key, version=version, cause=cause))

    def schedule(
        self, kind: str, key: str, *, due_at: datetime, payload: Mapping[str, Any]
    ) -> None:
        """See `HandlerTransaction.schedule`."""
        self._wait(self._inner.schedule(kind, key, due_at=due_at, payload=payload))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


Handler = Callable[..., Awaitable[None]]


def async_handler(run: Callable[..., Any]) -> Handler:
    """*run* as a coroutine function; a plain function runs in a thread."""
    if is_async(run):
        return run

    async def in_thread(subject: Any, tx: HandlerTransaction) -> None:
        given = SyncTransaction(tx, asyncio.get_running_loop())
        thread = asyncio.create_task(asyncio.to_thread(run, subject, given))
        try:
            left_over = await asyncio.shield(thread)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: while it runs, nobody else may be let in.
            await asyncio.wait([thread])
            raise
        if inspect.iscoroutine(left_over):
            left_over.close()
            raise TypeError(f"{run} gave a coroutine, of which nothing has run: make it async")

    return in_thread


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What every loop of the engine is given: the time, and chance."""

    clock: Clock
    random: Random  # that many unpredictable bytes
    jitter: Callable[[], float]  # uniform in [0, 1)
    sleep: Callable[[float], Awaitable[None]]  # seconds
