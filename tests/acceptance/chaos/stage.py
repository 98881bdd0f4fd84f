"""Where chaos plays: a broker, a database with the effects in it, and worker processes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final, NamedTuple

import asyncpg
from tests.acceptance.chaos.brokers import APPLIED, ORDERS, transport_of
from tests.acceptance.chaos.verdict import Effect, Left
from tests.acceptance.support import ONEFOLD
from tests.support_fork import AsyncForked, ForkHost

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import migrate
from onefold.core.envelope import Event
from onefold.core.wire import decode
from onefold.engine.relay import Routes
from onefold.errors import StoreUnavailable
from onefold.ports.transport import Transport

ROOT: Final = Path(__file__).parents[3]
PARTITIONS: Final = 6

TABLES: Final = """
CREATE TABLE effects (
    serial BIGSERIAL, consumer TEXT, event_id TEXT, key TEXT, number INT, last INT
);
CREATE INDEX ON effects (consumer, key, number)
"""


class Life(NamedTuple):
    """A process from its start to its end, by the event loop's clock."""

    began: float
    ended: float
    code: int


class Worker:
    """One `onefold worker`, started again whenever it ends, as a supervisor would."""

    def __init__(
        self, app: str, environment: dict[str, str], log: Path, host: ForkHost | None
    ) -> None:
        self._command = ("worker", "--app", app)
        self._environment, self._log, self._host = os.environ | environment, log, host
        self._process: asyncio.subprocess.Process | AsyncForked | None = None
        self._leaving = False
        self.works, self.died = asyncio.Event(), asyncio.Event()
        self.lives: list[Life] = []

    async def run(self) -> None:
        """Until told to leave."""
        loop = asyncio.get_running_loop()
        while not self._leaving:
            began = loop.time()
            with self._log.open("ab") as log:
                how: Any = {"cwd": ROOT, "env": self._environment, "stdout": PIPE, "stderr": log}
                self._process = (
                    await self._host.start(*self._command, **how)
                    if self._host is not None
                    else await asyncio.create_subprocess_exec(ONEFOLD, *self._command, **how)
                )
            assert self._process.stdout
            if await self._process.stdout.readline():
                self.works.set()
            code = await self._process.wait()
            self.lives.append(Life(began, loop.time(), code))
            self.works.clear()
            self.died.set()

    def signal(self, which: signal.Signals) -> bool:
        """Send it; False when there is no process to get it."""
        if self._process is None or self._process.returncode is not None:
            return False
        self._process.send_signal(which)
        return True

    def leave(self) -> None:
        """SIGTERM, and do not start again."""
        self._leaving = True
        self.signal(signal.SIGTERM)


@dataclass(frozen=True)
class Stage:
    """
    One broker, one database, and what plays on them.

    Args:
        broker_url: As `transport_of` takes it.
        database_url: Of a PostgreSQL without effects.
        home: Where the workers' log goes, and what they must remember.
        host: What forks the workers; None for the command that is installed.
    """

    broker_url: str
    database_url: str
    home: Path
    host: ForkHost | None = None

    @asynccontextmanager
    async def set(self) -> AsyncIterator[Transport]:
        """Tables and topics are there; a transport to send and to look."""
        database = Database(self.database_url)
        await migrate(database)
        await database.aclose()
        await self.sql("execute", TABLES)
        transport: Any = transport_of(self.broker_url)
        try:
            for topic in (ORDERS, APPLIED):
                await transport.create(topic, partitions=PARTITIONS)
            yield transport
        finally:
            await transport.aclose()

    def worker(self, app: str, **environment: str) -> Worker:
        """A worker of *app*, not running yet."""
        here = {
            "CHAOS_BROKER": self.broker_url,
            "CHAOS_DATABASE": self.database_url,
            "CHAOS_HOME": str(self.home),
        }
        return Worker(app, here | environment, self.home / "workers.log", self.host)

    async def sql(self, how: str, statement: str, *arguments: Any) -> Any:
        """What asyncpg's method of that name answers."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return await getattr(connection, how)(statement, *arguments)
        finally:
            await connection.close()

    async def left(self, transport: Transport) -> Left:
        """What is there now, in the database and in the topic of what was published."""
        rows = await self.sql("fetch", "SELECT * FROM effects ORDER BY serial")
        letters = await self.sql("fetch", "SELECT consumer, event_id FROM onefold_dead_letters")
        outbox = await self.sql("fetch", "SELECT event_id FROM onefold_outbox")
        published = {row["event_id"] for row in outbox}
        return Left(
            effects=[Effect(*(row[name] for name in Effect._fields)) for row in rows],
            parked=[(row["consumer"], row["event_id"]) for row in letters],
            published=published,
            arrived=await _arrived(transport, len(published)),
        )


async def send(transport: Transport, events: Sequence[Event]) -> None:
    """Until the broker has them all; what is not known to be there is sent again, in order."""
    routes = Routes(topics={"orders": ORDERS})
    waiting = [routes.outgoing(event) for event in events]
    while waiting:
        answers = await transport.publish(waiting)
        waiting = [m for m, error in zip(waiting, answers, strict=True) if error is not None]
        await asyncio.sleep(0.1 if waiting else 0)


async def _arrived(transport: Transport, wanted: int) -> set[str]:
    """The ids in the topic of what was published, read from its start by a group of its own."""
    arrived: set[str] = set()
    subscription = await transport.subscribe("auditor", [APPLIED])
    silent_s = 0
    # Beyond the last one too: something may stand there that was never published.
    while silent_s < (2 if len(arrived) >= wanted else 15):
        try:
            received = await subscription.receive(max_messages=500, wait_s=1)
        except StoreUnavailable:
            received = []
        arrived |= {decode(m.value or b"", m.headers).identity for m in received}
        silent_s = 0 if received else silent_s + 1
        await subscription.settle(received)
    await subscription.close()
    return arrived
