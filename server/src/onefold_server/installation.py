"""Turns settings into the parts of a running server."""

import asyncio
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

from onefold.adapters.sql.audit import SqlAudit
from onefold.adapters.sql.backlog import SqlBacklog
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.dead_letters import SqlDeadLetters
from onefold.adapters.sql.health import probe
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.migrate import require_current
from onefold.adapters.sql.statistics import EVERY_S, analyse_new_tables
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.core.clock import Clock, SystemClock
from onefold.engine.courier import Courier
from onefold.engine.loop import Loop
from onefold.engine.reconcile import Reconciled, reconcile_all
from onefold.engine.retention import Keeps
from onefold.engine.worker import Worker
from onefold.ports.meter import Meter
from onefold.wiring.brokers import (
    Broker,
    broker_of,
    environment,
    guard_of,
    notify_others,
)
from onefold.wiring.metrics import Texts
from onefold.wiring.store import Store
from onefold.wiring.worker import worker_meters, worker_of
from onefold_server.adapters.passwords import Argon2Passwords
from onefold_server.domains.classroom.service import ClassroomService
from onefold_server.domains.directory.service import DirectoryService
from onefold_server.domains.learning.service import LearningService
from onefold_server.domains.telemetry.service import Policy, TelemetryService
from onefold_server.settings import HERE, Settings, make_folder
from onefold_server.wiring.classroom import classroom_over, consumers_of, essay_meter
from onefold_server.wiring.learning import learning_over
from onefold_server.wiring.trades import Trace, delivery_meter, trace_over

log = logging.getLogger("onefold.worker")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """One process's parts, put together. `aclose` lets go of what they hold."""

    settings: Settings
    store: Store
    database: Database
    directory: DirectoryService
    telemetry: TelemetryService
    learning: LearningService
    classroom: ClassroomService
    trace: Trace
    clock: Clock
    uow: SqlUnitOfWork
    ledger: SqlLedger
    backlog: SqlBacklog
    letters: SqlDeadLetters
    audit: SqlAudit
    meters: list[Meter] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)  # of this process: one or none

    @property
    def texts(self) -> Texts:
        """Metrics of domains that keep a registry of their own."""
        return [self.trace.metrics.text]

    async def migrate(self) -> None:
        """Bring the database to this version's schema."""
        await self.store.migrate()

    async def prepare(self) -> None:
        """
        Make the database fit to serve: migrate SQLite, insist that another one is current.

        Raises:
            SchemaOutdated: run `onefold migrate` first; nothing was changed.
        """
        if self.uow.features.name == "sqlite":
            await self.migrate()
        else:
            await require_current(self.database)

    async def check(self) -> None:
        """Raise unless the database can be written and read, and is still where it was."""
        await probe(self.uow, socket.gethostname()[:64], now=self.clock.now())
        self.database.require_file()

    def broker(self) -> Broker:
        """Where this installation's events go: the broker that is set, else its database."""
        valkey = self.settings.valkey
        return broker_of(
            self.uow,
            kafka=self.settings.kafka,
            valkey=None if valkey is None else valkey.get_secret_value(),
        )

    async def reconcile(self, *, valkey: str | None = None) -> Reconciled:
        """
        Settle all that ran without protection, with the guard of Valkey or of this database.

        Raises:
            StoreUnavailable: the guard does not answer; what was settled stays so.
        """
        log = self.store.unprotected
        async with guard_of(self.database, valkey=valkey) as guard:
            return await reconcile_all(guard, log, now=self.clock.now())

    def loops(self) -> list[Loop]:
        """The loops of the domains."""
        batch = 100

        async def sweep() -> bool:
            return await self.telemetry.close_idle_sessions(limit=batch) == batch

        async def sweep_learning() -> bool:
            return await self.learning.sweep(limit=batch)

        async def analyse() -> bool:
            await analyse_new_tables(self.database)
            return False

        of_postgres = self.uow.features.name == "postgresql"
        every_s = self.settings.trace_reconcile_every_s
        return [
            *([Loop("analyse new tables", analyse, every_s=EVERY_S)] if of_postgres else []),
            *self.trace.loops(self.courier, reconcile_every_s=every_s),
            Loop("close idle sessions", sweep, every_s=self.settings.sweep_every_s),
            Loop("end abandoned learning", sweep_learning, every_s=self.settings.sweep_every_s),
            Loop(
                "close due batches",
                self.classroom.batches.close_due,
                every_s=self.settings.sweep_every_s,
            ),
        ]

    @cached_property
    def courier(self) -> Courier:
        """This process's courier."""
        return self.trace.courier()

    async def aclose(self) -> None:
        """Leave what is under way to be sent again, close the database. Safe twice."""
        if "courier" in self.__dict__:
            await self.courier.aclose()
        await self.trace.aclose()
        await self.uow.aclose()


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    random: Callable[[int], bytes] = secrets.token_bytes,
    max_age: timedelta | None = None,
    any_age: bool = False,
) -> Installation:
    """
    The parts that *settings* describe; nothing is connected yet.

    Args:
        settings: What to build.
        clock: What time it is; the system's by default.
        random: That many unpredictable bytes.
        max_age: How old an event may be, instead of the setting.
        any_age: Take events of any age.
    """
    if "database_url" not in settings.model_fields_set:
        make_folder(HERE)
    store = Store(settings.database_url.get_secret_value(), wait_s=settings.store_wait_s)
    uow = store.uow
    clock = clock or SystemClock()
    policy = Policy(
        max_age=None if any_age else (max_age or settings.event_max_age),
        idle_gap=settings.session_idle,
        profile=settings.features_profile,
    )
    classroom = classroom_over(uow, settings=settings, clock=clock, random=random)
    trace = trace_over(uow, settings=settings, clock=clock, random=random)
    return Installation(
        settings=settings,
        store=store,
        database=store.database,
        directory=DirectoryService(uow, clock=clock, random=random, passwords=Argon2Passwords()),
        telemetry=TelemetryService(uow, clock=clock, policy=policy),
        learning=learning_over(uow, settings=settings, clock=clock, random=random),
        classroom=classroom,
        trace=trace,
        clock=clock,
        uow=uow,
        ledger=store.ledger,
        backlog=store.backlog,
        letters=store.dead_letters,
        audit=store.audit,
        meters=[store.meter(clock), essay_meter(classroom.batches), delivery_meter(trace)],
    )


@asynccontextmanager
async def run_worker(onefold: Installation) -> AsyncIterator[Worker]:
    """Run the worker beside the block; after it, drain the worker for at most `drain_s`."""
    settings, env, broker = onefold.settings, environment(onefold.clock), onefold.broker()
    specs = consumers_of(onefold.classroom, settings)
    worker = worker_of(
        onefold.store,
        broker,
        specs,
        env=env,
        keeps=_keeps(settings),
        relay_every_s=settings.relay_poll_s,
        loops=onefold.loops(),
    )
    onefold.workers.append(worker)
    onefold.meters.extend(worker_meters(worker, broker, specs, env))
    worker.start()
    try:
        yield worker
    finally:
        await _end(worker, within_s=settings.drain_s)
        onefold.workers.remove(worker)
        await broker.aclose()


async def _end(worker: Worker, *, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            await worker.drain()
    except TimeoutError:
        log.warning("the worker did not drain within %g s: it leaves what is under way", within_s)
    finally:
        await worker.leave()


def _keeps(settings: Settings) -> Keeps:
    return Keeps(
        sent=timedelta(seconds=settings.sent_keep_s),
        claims=timedelta(seconds=settings.claims_keep_s),
        letters=timedelta(seconds=settings.letters_keep_s),
        starts=timedelta(seconds=settings.claims_keep_s),
        messages=timedelta(seconds=settings.messages_keep_s),
        unread=timedelta(seconds=settings.unread_keep_s),
        every=timedelta(seconds=settings.purge_every_s),
    )


@asynccontextmanager
async def notify_only(onefold: Installation) -> AsyncIterator[None]:
    """Run no loop; tell those of other processes what the block publishes."""
    bell = notify_others(onefold.uow, onefold.database)
    try:
        yield
    finally:
        if bell is not None:
            await bell.aclose()
