"""Settings become adapters, engine and domains: the only file that names both sides."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from pwdlib import PasswordHash

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.health import probe
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.migrate import migrate, require_current
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.core.clock import Clock, SystemClock
from onefold.domains.directory.service import DirectoryService
from onefold.domains.learning.service import LearningService
from onefold.domains.telemetry.service import Policy, TelemetryService
from onefold.engine.courier import Courier
from onefold.engine.service import Loop
from onefold.settings import Settings
from onefold.wiring_learning import learning_over
from onefold.wiring_trace import Trace, trace_over


class _Argon2:
    """`pwdlib`'s recommended hash, computed beside the event loop."""

    def __init__(self) -> None:
        self._hash = PasswordHash.recommended()

    async def hash(self, password: str) -> str:
        return await asyncio.to_thread(self._hash.hash, password)

    async def verify(self, password: str, hashed: str) -> bool:
        return await asyncio.to_thread(self._hash.verify, password, hashed)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """One process's parts, put together. `aclose` lets go of what they hold."""

    settings: Settings
    database: Database
    directory: DirectoryService
    telemetry: TelemetryService
    learning: LearningService
    trace: Trace
    clock: Clock
    uow: SqlUnitOfWork
    ledger: SqlLedger

    async def migrate(self) -> None:
        """Bring the database to this version's schema."""
        await migrate(self.database)

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

    def loops(self) -> list[Loop]:
        """The loops a worker runs."""
        batch = 100

        async def sweep() -> bool:
            return await self.telemetry.close_idle_sessions(limit=batch) == batch

        async def sweep_learning() -> bool:
            return await self.learning.sweep(limit=batch)

        every_s = self.settings.trace_reconcile_every_s
        return [
            *self.trace.loops(self.courier, reconcile_every_s=every_s),
            Loop("close idle sessions", sweep, every_s=self.settings.sweep_every_s),
            Loop("end abandoned learning", sweep_learning, every_s=self.settings.sweep_every_s),
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
        settings.home.mkdir(mode=0o700, exist_ok=True)  # where the default database is
    database = Database(settings.database_url.get_secret_value(), wait_s=settings.store_wait_s)
    uow = SqlUnitOfWork(database)
    clock = clock or SystemClock()
    policy = Policy(
        max_age=None if any_age else (max_age or settings.event_max_age),
        idle_gap=settings.session_idle,
        profile=settings.features_profile,
    )
    return Installation(
        settings=settings,
        database=database,
        directory=DirectoryService(uow, clock=clock, random=random, passwords=_Argon2()),
        telemetry=TelemetryService(uow, clock=clock, policy=policy),
        learning=learning_over(uow, settings=settings, clock=clock, random=random),
        trace=trace_over(uow, settings=settings, clock=clock, random=random),
        clock=clock,
        uow=uow,
        ledger=SqlLedger(uow),
    )


@asynccontextmanager
async def running(onefold: Installation) -> AsyncIterator[None]:
    """Run the worker's loops beside the block, and stop them after it."""
    loops = onefold.loops()
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            await loop.stop()
