"""Workers in one group, killed and paused while events pour in; then what is left is judged."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

import asyncpg
from tests.acceptance.chaos.brokers import APPLIED, ORDERS, transport_of
from tests.acceptance.chaos.plan import WORKERS, Blow, Fate, Feed, deaths_of_servers, fates
from tests.acceptance.chaos.verdict import CONSUMERS, Effect, Left, Verdict, judge
from tests.acceptance.support import ONEFOLD

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import migrate
from onefold.core.envelope import Event
from onefold.core.wire import decode
from onefold.engine.relay import Routes
from onefold.errors import StoreUnavailable
from onefold.ports.transport import Transport

ROOT: Final = Path(__file__).parents[3]
APP: Final = "tests.acceptance.chaos.app:app"
PARTITIONS: Final = 6
STANDSTILL_S: Final = 40.0  # without any progress, what is missing is lost
LEAVE_S: Final = 20.0  # for a drain

TABLES: Final = """
CREATE TABLE effects (
    serial BIGSERIAL, consumer TEXT, event_id TEXT, key TEXT, number INT, last INT
);
CREATE INDEX ON effects (consumer, key, number)
"""


class Mortal(Protocol):
    """A server that may die and come back on its data."""

    url: str

    def kill(self) -> None: ...

    def start(self) -> None: ...


class Worker:
    """One `onefold worker`, started again whenever it ends, as a supervisor would."""

    def __init__(self, app: str, environment: dict[str, str], log: Path) -> None:
        self._command = (ONEFOLD, "worker", "--app", app)
        self._environment, self._log = os.environ | environment, log
        self._process: asyncio.subprocess.Process | None = None
        self._leaving = False
        self.works = asyncio.Event()
        self.endings: list[int] = []

    async def run(self) -> None:
        """Until told to leave."""
        while not self._leaving:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    cwd=ROOT,
                    env=self._environment,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                )
            assert self._process.stdout
            if await self._process.stdout.readline():
                self.works.set()
            self.endings.append(await self._process.wait())
            self.works.clear()

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


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a run."""

    verdict: Verdict
    kills: int
    pauses: int
    harm: Sequence[str]
    details: str

    @property
    def line(self) -> str:
        """The last line."""
        return self.verdict.line(kills=self.kills, pauses=self.pauses)


@dataclass
class Storm:
    """
    One run over one broker and one database.

    Args:
        broker: Its `url` as `transport_of` takes it.
        database: PostgreSQL, empty.
        seed: Of all that is chosen.
        lasts_s: How long events pour in and things go wrong.
        home: Where the workers' log goes.
    """

    broker: Mortal
    database: Mortal
    seed: int
    lasts_s: float
    home: Path
    app: str = APP
    kills: int = 0
    pauses: int = 0
    _harm: list[str] = field(default_factory=list)

    async def run(self) -> Report:
        """All of it: storm, calm, verdict."""
        feed = Feed(Random(self.seed))
        workers = [self._worker() for _ in range(WORKERS)]
        await self._prepare()
        transport = transport_of(self.broker.url)
        try:
            await _create(transport)
            keeping = [asyncio.create_task(worker.run()) for worker in workers]
            try:
                await self._storm(transport, feed, workers)
                await self._calm(feed.sent)
                await self._drain(workers, keeping)
            finally:
                for worker in workers:
                    worker.leave()
                    worker.signal(signal.SIGKILL)
                await asyncio.gather(*keeping)
            left = await self._left(transport)
        finally:
            await transport.aclose()
        verdict = judge(feed.sent, left)
        return Report(
            verdict=verdict,
            kills=self.kills,
            pauses=self.pauses,
            harm=[*verdict.harm, *self._harm],
            details=await self._details(feed),
        )

    def _worker(self) -> Worker:
        environment = {"CHAOS_DATABASE": self.database.url, "CHAOS_BROKER": self.broker.url}
        return Worker(self.app, environment, self.home / "workers.log")

    async def _prepare(self) -> None:
        database = Database(self.database.url)
        await migrate(database)
        await database.aclose()
        await self._sql("execute", TABLES)

    async def _sql(self, how: str, statement: str, *arguments: Any) -> Any:
        connection = await asyncpg.connect(self.database.url)
        try:
            return await getattr(connection, how)(statement, *arguments)
        finally:
            await connection.close()

    # The storm.

    async def _storm(self, transport: Transport, feed: Feed, workers: Sequence[Worker]) -> None:
        broker_dies, database_dies = deaths_of_servers(Random(self.seed))
        await _all_work(workers)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pour(transport, feed))
            group.create_task(self._restart(self.broker, broker_dies * self.lasts_s))
            group.create_task(self._restart(self.database, database_dies * self.lasts_s))
            for number, worker in enumerate(workers, start=1):
                group.create_task(self._torment(worker, Random(f"{self.seed}/{number}")))

    async def _pour(self, transport: Transport, feed: Feed) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.lasts_s
        await _send(transport, feed.portion(500))  # more than is worked off before the first blow
        while loop.time() < end:
            await _send(transport, feed.portion(feed.random.randint(5, 15)))
            await asyncio.sleep(0.05)
        await _send(transport, feed.farewells())

    async def _restart(self, server: Mortal, at_s: float) -> None:
        await asyncio.sleep(at_s)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    async def _torment(self, worker: Worker, random: Random) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.lasts_s):
                for fate in fates(random):
                    await worker.works.wait()
                    await asyncio.sleep(fate.after_s)
                    await self._strike(worker, fate)

    async def _strike(self, worker: Worker, fate: Fate) -> None:
        if fate.blow is Blow.KILL:
            worker.works.clear()  # until the next one works
            self.kills += worker.signal(signal.SIGKILL)
        elif worker.signal(signal.SIGSTOP):
            self.pauses += 1
            try:
                await asyncio.sleep(fate.lasts_s)
            finally:
                worker.signal(signal.SIGCONT)

    # The calm.

    async def _calm(self, sent: Sequence[Event]) -> None:
        """Wait until all is there, or nothing more comes."""
        poisoned = sum(event.data["mood"] == "poisoned" for event in sent)
        wanted = (len(sent) - poisoned) * len(CONSUMERS) + poisoned
        count = (
            "SELECT (SELECT count(DISTINCT (consumer, event_id)) FROM effects)"
            " + (SELECT count(DISTINCT event_id) FROM onefold_dead_letters)"
        )
        there, moved_at = 0, asyncio.get_running_loop().time()
        while there < wanted and asyncio.get_running_loop().time() - moved_at < STANDSTILL_S:
            before, there = there, await self._sql("fetchval", count)
            if there != before:
                moved_at = asyncio.get_running_loop().time()
            await asyncio.sleep(0.2)

    async def _drain(
        self, workers: Sequence[Worker], keeping: Sequence[asyncio.Task[None]]
    ) -> None:
        await _all_work(workers)
        for worker in workers:
            worker.leave()
        await asyncio.wait(keeping, timeout=LEAVE_S)
        for number, worker in enumerate(workers):
            if not worker.endings or worker.endings[-1] != 0:
                self._harm.append(f"worker {number} did not drain: {worker.endings[-1:]}")

    async def _left(self, transport: Transport) -> Left:
        rows = await self._sql("fetch", "SELECT * FROM effects ORDER BY serial")
        letters = await self._sql("fetch", "SELECT consumer, event_id FROM onefold_dead_letters")
        outbox = await self._sql("fetch", "SELECT event_id FROM onefold_outbox")
        published = {row["event_id"] for row in outbox}
        return Left(
            effects=[Effect(*(row[name] for name in Effect._fields)) for row in rows],
            parked=[(row["consumer"], row["event_id"]) for row in letters],
            published=published,
            arrived=await _arrived(transport, len(published)),
        )

    async def _details(self, feed: Feed) -> str:
        again = await self._sql("fetchval", "SELECT count(*) FROM onefold_starts")
        return f"{again} messages begun again by themselves"


async def _all_work(workers: Sequence[Worker]) -> None:
    async with asyncio.timeout(STANDSTILL_S):
        for worker in workers:
            await worker.works.wait()


async def _create(transport: Any) -> None:
    for topic in (ORDERS, APPLIED):
        await transport.create(topic, partitions=PARTITIONS)


async def _send(transport: Transport, events: Sequence[Event]) -> None:
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
    idle = 0
    while len(arrived) < wanted and idle < 10:
        try:
            received = await subscription.receive(max_messages=500, wait_s=1)
        except StoreUnavailable:
            received = []
        arrived |= {decode(m.value or b"", m.headers).identity for m in received}
        idle = 0 if received else idle + 1
        await subscription.settle(received)
    await subscription.close()
    return arrived
