"""Workers in one group, killed and paused while events pour in; then what is left is judged."""

import asyncio
import math
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.acceptance.chaos.plan import WORKERS, Blow, Fate, Feed, deaths_of_servers, fates
from tests.acceptance.chaos.servers import Mortal
from tests.acceptance.chaos.stage import Life, Stage, Worker, send
from tests.acceptance.chaos.verdict import CONSUMERS, Verdict, judge

from onefold.core.envelope import Event
from onefold.ports.transport import Transport

APP: Final = "tests.acceptance.chaos.app:app"
STANDSTILL_S: Final = 60.0  # without any progress, what is missing is lost
BEGIN_S: Final = 120.0  # for three processes to start beside others
LEAVE_S: Final = 20.0  # for a drain


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
    kills: int = 0
    pauses: int = 0
    _database_gone: float = field(default=0.0, init=False)
    _database_back: float = field(default=0.0, init=False)

    async def run(self) -> Report:
        """All of it: storm, calm, verdict."""
        stage = Stage(self.broker.url, self.database.url, self.home)
        feed = Feed(Random(self.seed))
        workers = [stage.worker(APP) for _ in range(WORKERS)]
        async with stage.set() as transport:
            keeping = [asyncio.create_task(worker.run()) for worker in workers]
            try:
                await self._storm(transport, feed, workers)
                await self._calm(stage, feed.sent)
                await self._drain(workers, keeping)
            finally:
                for worker in workers:
                    worker.leave()
                    worker.signal(signal.SIGKILL)
                await asyncio.gather(*keeping)
            verdict = judge(feed.sent, await stage.left(transport))
        again = await stage.sql("fetchval", "SELECT count(*) FROM onefold_starts")
        return Report(
            verdict=verdict,
            kills=self.kills,
            pauses=self.pauses,
            harm=[*verdict.harm, *self._unexcused(workers)],
            details=f"{again} messages were begun alone: they failed, or their worker died",
        )

    # The storm.

    async def _storm(self, transport: Transport, feed: Feed, workers: Sequence[Worker]) -> None:
        broker_dies, database_dies = deaths_of_servers(Random(self.seed))
        await _all_work(workers)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pour(transport, feed))
            group.create_task(self._restart_broker(broker_dies * self.lasts_s))
            group.create_task(self._restart_database(database_dies * self.lasts_s))
            for number, worker in enumerate(workers):
                ahead = fates(Random(f"{self.seed}/{number}"), first=number)
                group.create_task(self._torment(worker, ahead))

    async def _pour(self, transport: Transport, feed: Feed) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.lasts_s
        await send(transport, feed.portion(1500))  # more than is worked off before the first blow
        while loop.time() < end:
            await send(transport, feed.portion(feed.random.randint(2, 8)))
            await asyncio.sleep(0.05)
        await send(transport, feed.farewells())

    async def _restart_broker(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await asyncio.to_thread(self.broker.kill)
        await asyncio.to_thread(self.broker.start)

    async def _restart_database(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        loop = asyncio.get_running_loop()
        self._database_gone, self._database_back = loop.time(), math.inf
        await asyncio.to_thread(self.database.kill)
        await asyncio.to_thread(self.database.start)
        self._database_back = loop.time()

    async def _torment(self, worker: Worker, ahead: Iterable[Fate]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.lasts_s):
                for fate in ahead:
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

    async def _calm(self, stage: Stage, sent: Sequence[Event]) -> None:
        """Wait until all is there, or nothing more comes."""
        poisoned = sum(event.data["mood"] == "poisoned" for event in sent)
        wanted = (len(sent) - poisoned) * len(CONSUMERS) + poisoned
        count = (
            "SELECT (SELECT count(DISTINCT (consumer, event_id)) FROM effects)"
            " + (SELECT count(DISTINCT event_id) FROM onefold_dead_letters)"
        )
        there, moved_at = 0, asyncio.get_running_loop().time()
        while there < wanted and asyncio.get_running_loop().time() - moved_at < STANDSTILL_S:
            before, there = there, await stage.sql("fetchval", count)
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

    def _unexcused(self, workers: Sequence[Worker]) -> Iterable[str]:
        """Ends of workers that nobody asked for; without a database none can begin."""
        for number, worker in enumerate(workers):
            for life in worker.lives[:-1]:
                if life.code != -signal.SIGKILL and not (life.code == 1 and self._was_away(life)):
                    yield f"worker {number} ended by itself with {life.code}"
            if not worker.lives or worker.lives[-1].code != 0:
                yield f"worker {number} did not drain: {worker.lives[-1:]}"

    def _was_away(self, life: Life) -> bool:
        return life.began < self._database_back and life.ended > self._database_gone


async def _all_work(workers: Sequence[Worker]) -> None:
    async with asyncio.timeout(BEGIN_S):
        for worker in workers:
            await worker.works.wait()
