"""What a user writes: an application with consumers, over a database and a broker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

from msgspec import structs

from onefold.core.clock import SystemClock
from onefold.core.envelope import Event
from onefold.engine.consumer import ConsumerSpec
from onefold.engine.delivery import async_handler
from onefold.engine.explain import Explained, explain
from onefold.engine.handlers import check_handler
from onefold.engine.relay import LEASE, Routes
from onefold.engine.retention import Keeps, short_keeps
from onefold.engine.worker import Worker
from onefold.errors import InvalidSetting
from onefold.ports.meter import Meter
from onefold.ports.transport import Partition
from onefold.wiring.brokers import (
    Broker,
    broker_of,
    environment,
    notify_others,
)
from onefold.wiring.signals import work_until_signalled
from onefold.wiring.store import Store
from onefold.wiring.worker import worker_meters, worker_of

F = TypeVar("F", bound=Callable[..., Any])
Beside = Callable[[Worker], AbstractAsyncContextManager[object]]


class Onefold:
    """
    An application whose handlers' effects happen exactly once.

        app = Onefold("postgresql://…", kafka="localhost:9092")

        @app.consumer("orders.placed", name="reserve-stock")
        async def reserve_stock(event, tx): ...

    Args:
        database_url: Where effects and inbox are: `sqlite:///file.db`, `postgresql://…`.
        kafka: Bootstrap servers.
        valkey: URL of a Valkey or Redis server whose streams are the broker.
        transport: A broker of your own instead. Without any of the three, messages go
            through the database itself.
        routes: Where published events go, and in which form.
        relay_lease: After which a silent relay's share of the outbox goes to others.
        keeps: How long what has ended is kept; a consumer's records by its own `keep`.
    """

    def __init__(
        self,
        database_url: str,
        *,
        kafka: str | None = None,
        valkey: str | None = None,
        transport: Broker | None = None,
        routes: Routes | None = None,
        relay_lease: timedelta = LEASE,
        keeps: Keeps | None = None,
    ) -> None:
        if sum(given is not None for given in (kafka, valkey, transport)) > 1:
            raise InvalidSetting("transport", "give one of kafka, valkey and transport")
        self.store = Store(database_url)
        self.database, self.uow = self.store.database, self.store.uow
        self.ledger, self.outbox = self.store.ledger, self.store.outbox
        self.transport = transport or broker_of(self.uow, kafka=kafka, valkey=valkey)
        self.routes, self.keeps = routes or Routes(), keeps or Keeps()
        self._relay_lease = relay_lease
        self.specs: dict[str, ConsumerSpec] = {}
        self.env = environment(SystemClock())
        self._bell = notify_others(self.uow, self.database)

    def consumer(self, *topics: str, name: str, **options: Any) -> Callable[[F], F]:
        """
        Register `handler(event, tx)` for every event of *topics*.

        Args:
            topics: What it reads.
            name: Stable name: part of every inbox record; renaming applies all again.
            options: See `ConsumerSpec`.

        Raises:
            InvalidSetting: the name is taken, there is no topic, the handler cannot be called
                so, or the options contradict each other or the transport.
        """

        def register(handler: F) -> F:
            if name in self.specs:
                raise InvalidSetting("name", f"there is a consumer {name!r} already")
            if not topics:
                raise InvalidSetting("topics", f"the consumer {name!r} reads no topic")
            given = "events" if options.get("batch") else "event"
            check_handler(handler, name, given, "tx")
            run = async_handler(handler)
            spec = ConsumerSpec(name=name, topics=topics, handler=run, **options)
            spec.check_transport(self.transport.features)
            self.specs[name] = spec
            return handler

        return register

    def batch_consumer(self, *topics: str, name: str, **options: Any) -> Callable[[F], F]:
        """As `consumer`, for `handler(events, tx)`: a poll's events at once, set-based."""
        return self.consumer(*topics, name=name, batch=True, **options)

    async def publish(
        self,
        type: str,  # noqa: A002 (the field's name)
        data: Any,
        *,
        key: str | None = None,
        id: str | None = None,  # noqa: A002 (the field's name)
    ) -> Event:
        """
        Publish an event through the outbox, in a transaction of its own.

        Args:
            type: What happened; also its topic, unless `routes` say otherwise.
            data: A JSON value.
            key: What it is about; events of one key keep their order.
            id: The same id again is the same event, and is sent once. A fresh one if None.

        Raises:
            StoreUnavailable, StoreContended: nothing was published.
            CommitUnknown: it may have been; publish it again under the same id.
        """
        now = self.env.clock.now()
        facts: dict[str, Any] = {"source": "onefold", "now": now, "random": self.env.random}
        event = Event.new(type, data, key=key, **facts)
        if id is not None:
            event = structs.replace(event, id=id)
        async with self.uow.begin() as tx:
            await tx.publish(event, now=now)
        return event

    def markers(self) -> dict[str, str]:
        """Where each consumer's effect leaves the event's identity, for `onefold verify`."""
        return {s.name: s.marker for s in self.specs.values() if s.marker is not None}

    async def settled(self) -> dict[str, Mapping[Partition, int]]:
        """Up to where each consumer has settled, where its broker knows such a position."""
        asked = {
            s.name: await self.transport.settled_to(s.name, s.topics) for s in self.specs.values()
        }
        return {name: settled for name, settled in asked.items() if settled is not None}

    async def explain(self) -> list[Explained]:
        """What each consumer promises, and because of what; asks the broker what it retains."""
        specs = list(self.specs.values())
        short = await short_keeps(specs, self.transport)
        store, broker = self.uow.features, self.transport.features
        return [explain(spec, store=store, broker=broker, short=short) for spec in specs]

    async def migrate(self) -> None:
        """Create or update Onefold's own tables."""
        await self.store.migrate()

    def worker(self) -> Worker:
        """A worker for all consumers and the relay; the caller starts and drains it."""
        return worker_of(
            self.store,
            self.transport,
            list(self.specs.values()),
            env=self.env,
            keeps=self.keeps,
            routes=self.routes,
            relay_lease=self._relay_lease,
        )

    def meters(self, worker: Worker) -> list[Meter]:
        """What can be measured of *worker* and of the database and broker it works with."""
        specs = list(self.specs.values())
        measured = worker_meters(worker, self.transport, specs, self.env)
        return [*measured, self.store.meter(self.env.clock)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        """Migrate, work beside the block, drain after it."""
        await self.migrate()
        worker = self.worker()
        worker.start()
        try:
            yield worker
        finally:
            await worker.drain()
            await self.aclose()

    def run(self, *, beside: Beside = nullcontext) -> bool:
        """
        Work until SIGINT or SIGTERM, which drains; a second one leaves at once.

        See `wiring.signals`, also for plain functions that block their thread.

        Args:
            beside: Entered when the schema is there and the loops have begun.

        Returns:
            Whether all that was under way was finished; else it comes again elsewhere.
        """
        return asyncio.run(self._run(beside))

    async def _run(self, beside: Beside) -> bool:
        async with self.running() as worker, beside(worker):
            return await work_until_signalled(worker)

    async def aclose(self) -> None:
        """Close broker and database. Safe twice."""
        await self.transport.aclose()
        if self._bell is not None:
            await self._bell.aclose()
        await self.uow.aclose()
