"""Real processes that can be killed, and clients that go on when they are."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

import httpx
from tests.support_fork import AsyncForked, ForkHost

from onefold_server.demo import play

ONEFOLD: Final = str(Path(sys.executable).with_name("onefold"))
PATIENCE_S: Final = 20.0  # for whatever must happen soon


def tell(line: str) -> None:
    """Print *line*; pytest shows it beside a failure."""
    print(line)  # noqa: T201


@asynccontextmanager
async def serving(host: ForkHost, database_url: str, log: Path) -> AsyncIterator["ServerProcess"]:
    """`onefold serve` over *database_url*, healthy; killed at the end of the block."""
    environment = os.environ | {
        "ONEFOLD_DATABASE_URL": database_url,
        "ONEFOLD_PORT": "0",
        "ONEFOLD_SWEEP_EVERY_S": "0.2",  # the loops take part
        "ONEFOLD_STORE_WAIT_S": "5",
        "ONEFOLD_EVENT_MAX_AGE_S": str(100 * 365 * 86_400),  # the demo's play is old
    }
    with log.open("ab") as errors:
        process = await host.start("serve", env=environment, stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout
        url = (await process.stdout.readline()).decode().split()[-1]
        server = ServerProcess(url, process)
        await server.becomes(200)
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@dataclass(frozen=True)
class ServerProcess:
    """A server with a process of its own."""

    url: str
    process: AsyncForked

    def kill(self) -> None:
        """SIGKILL, which no process can answer."""
        if self.process.returncode is None:
            self.process.kill()

    async def becomes(self, status: int) -> None:
        """Wait until `/healthz` answers *status*; fail when it does not in time."""
        async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient() as client:
            while await self._health(client) != status:  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.05)

    async def _health(self, client: httpx.AsyncClient) -> int | None:
        assert self.process.returncode is None, "the server has ended"
        try:
            return (await client.get(f"{self.url}/healthz", timeout=PATIENCE_S)).status_code
        except httpx.TransportError:
            return None


@dataclass(frozen=True)
class Batch:
    """Some events that are posted together."""

    id: UUID
    events: Sequence[dict[str, Any]]

    @property
    def event_ids(self) -> set[UUID]:
        return {UUID(event["event_id"]) for event in self.events}

    @property
    def body(self) -> dict[str, Any]:
        return {"batch_id": str(self.id), "client_version": "1.0", "events": list(self.events)}


def demo_batches(random: Random, *, events: int, size: int) -> list[Batch]:
    """Some of the demo's play in batches of *size*, sessions mixed: any two may share one."""
    played = list(islice(play(), events))
    random.shuffle(played)
    return [
        Batch(UUID(int=random.getrandbits(128), version=4), played[start : start + size])
        for start in range(0, len(played), size)
    ]


@dataclass
class Clients:
    """
    Clients that post batches side by side, each the next when its last one is answered.

    Attributes:
        answered: What each batch's last 201 said; a batch without one is not in it.
        refusals: Every other answer.
        on_answer: Called after each 201.
    """

    key: str
    answered: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    refusals: list[httpx.Response] = field(default_factory=list)
    on_answer: Callable[[], None] = lambda: None

    async def post(self, url: str, batches: Sequence[Batch], *, side_by_side: int) -> None:
        """Post *batches* until all were tried or the server is gone."""
        queue = iter(batches)

        async def work(client: httpx.AsyncClient) -> None:
            for batch in queue:
                try:
                    answer = await client.post("/api/v1/telemetry/batch", json=batch.body)
                except httpx.TransportError:
                    return
                self._take(batch, answer)

        authorization = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=url, headers=authorization, timeout=60) as client:
            await asyncio.gather(*(work(client) for _ in range(side_by_side)))

    def _take(self, batch: Batch, answer: httpx.Response) -> None:
        if answer.status_code == 201:
            self.answered[batch.id] = answer.json()
            self.on_answer()
        else:
            self.refusals.append(answer)
