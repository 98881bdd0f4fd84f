"""The kit's real processes and servers: killed at a named point, stopped, started again."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.errors import OnefoldError
from onefold.ports.guard import Busy, Claim, ClaimKey, Lease
from onefold.testing.clock import ManualClock
from onefold.testing.processes import WorkerProcess, worker
from onefold.testing.servers import Postgres, valkey_server

pytestmark = pytest.mark.acceptance

NOW = ManualClock().now()
PROGRAM = """
import sqlite3, sys
from onefold.testing.processes import crash_point

db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS inbox (id INTEGER PRIMARY KEY)")
db.execute("CREATE TABLE IF NOT EXISTS effects (id INTEGER)")
for order in range(3):
    db.execute("BEGIN IMMEDIATE")
    if db.execute("INSERT OR IGNORE INTO inbox VALUES (?)", (order,)).rowcount:
        db.execute("INSERT INTO effects VALUES (?)", (order,))
        crash_point("written")
    db.execute("COMMIT")
    crash_point("committed")
    print("done", order, flush=True)
"""


@pytest.fixture
async def consumer(tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    """A process that applies three orders, each once."""
    program = tmp_path / "consumer.py"
    program.write_text(PROGRAM)
    async with worker(str(program), str(tmp_path / "shop.db")) as made:
        yield made


def _effects(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        return [order for (order,) in database.execute("SELECT id FROM effects")]


@pytest.mark.parametrize(
    ("point", "left"), [("written", []), ("committed", [0]), ("written#3", [0, 1])]
)
async def test_a_process_dies_where_it_is_told_to(
    consumer: WorkerProcess, tmp_path: Path, point: str, left: list[int]
) -> None:
    """By SIGKILL, at the named point and time; started again, it goes on."""
    await consumer.start(die_at=point)
    assert await consumer.ended() == -9
    assert _effects(tmp_path) == left

    await consumer.start()
    assert await consumer.ended() == 0

    assert _effects(tmp_path) == [0, 1, 2]


async def test_a_stopped_process_goes_on_when_told_to(
    consumer: WorkerProcess, tmp_path: Path
) -> None:
    """It holds what it holds, as a machine that is swapping does."""
    await consumer.start(stop_at="committed#2")
    await consumer.stopped()
    assert await consumer.says("done") == "done 0"
    assert _effects(tmp_path) == [0, 1]

    consumer.go_on()

    assert await consumer.says("done 2") == "done 2"
    assert await consumer.ended() == 0


async def test_what_was_committed_survives_an_immediate_stop(
    onefold_postgres: Postgres, postgres_url: str
) -> None:
    """The open transaction is gone, its commit fails, and claims that were made stand."""
    name = postgres_url.rpartition("?")[0].rpartition("/")[2]
    onefold_postgres.sql(f"ALTER DATABASE {name} SET synchronous_commit = on")
    uow = SqlUnitOfWork(Database(postgres_url))
    async with uow.begin() as tx:
        assert await tx.claim("c", "before", now=NOW)

    async def broken_off() -> None:
        async with uow.begin() as tx:
            await tx.claim("c", "during", now=NOW)
            onefold_postgres.crash()

    with pytest.raises(OnefoldError):
        await broken_off()

    async with uow.begin() as tx:
        found = [await tx.claim("c", event, now=NOW) for event in ("before", "during")]
    await uow.aclose()
    assert found == [False, True]


async def test_backends_can_be_hung_up_on(onefold_postgres: Postgres, postgres_url: str) -> None:
    """The next transaction opens a connection of its own."""
    uow = SqlUnitOfWork(Database(postgres_url))
    async with uow.begin() as tx:
        await tx.claim("c", "e", now=NOW)

    hung_up = onefold_postgres.hang_up(postgres_url)

    async with uow.begin() as tx:
        assert not await tx.claim("c", "e", now=NOW)
    await uow.aclose()
    assert hung_up == 1


@pytest.mark.parametrize(
    ("appendfsync", "stands"),
    [("always", True), ("everysec", True), ("no", True), ("", False)],
)
async def test_a_claim_on_a_killed_valkey_stands_as_its_log_does(
    tmp_path: Path, appendfsync: str, stands: bool
) -> None:
    """
    With an append-only file the lease is there after SIGKILL, without one it is not.

    `everysec` and `no` lose what the disk has not got when the machine dies; the process
    alone had handed its log to the kernel.
    """
    log: dict[str, Any] = {"appendonly": "yes", "appendfsync": appendfsync} if appendfsync else {}
    server = valkey_server(data_dir=tmp_path, persist=True, **log)
    claim = Claim(ClaimKey("c", "", "e"), bytes(32))
    lease = timedelta(hours=1)
    try:
        first = connect(server.connection_url)
        (held,) = await ValkeyGuard(first).claim([claim], owner="me", now=NOW, lease=lease)
        await first.aclose()
        server.terminate()
        server.start()
        again = connect(server.connection_url)
        (verdict,) = await ValkeyGuard(again).claim([claim], owner="you", now=NOW, lease=lease)
        await again.aclose()
    finally:
        server.terminate()

    assert isinstance(held, Lease)
    assert isinstance(verdict, Busy if stands else Lease)
