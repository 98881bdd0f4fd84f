"""`onefold worker --app` as a process: signals drain it, and a second one lets it leave."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest
from tests.acceptance.support import ONEFOLD, PATIENCE_S
from tests.support_fork import AsyncForked, ForkHost

from onefold import Onefold

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(60)]

# Its handler says that it has begun, and ends when there is a file of that name.
SHOP = """
import asyncio
from pathlib import Path
from sqlalchemy import text
from onefold import Onefold

app = Onefold("sqlite:///shop.db")

@app.consumer("orders.placed", name="reserve-stock")
async def reserve(event, tx):
    await tx.execute(text("INSERT INTO reserved VALUES (:id)").bindparams(id=event.id))
    print("began", event.id, flush=True)
    while not Path("go").exists():
        await asyncio.sleep(0.01)
"""


# One that runs in a thread, which nobody can cancel.
STUCK = (
    SHOP.replace("async def reserve", "def reserve")
    .replace("await asyncio.sleep", "__import__('time').sleep")
    .replace("await tx", "tx")
)


@pytest.fixture
async def shop(tmp_path: Path) -> Path:
    """A folder with an application, and one order that waits for it."""
    (tmp_path / "shop.py").write_text(SHOP)
    app = Onefold(f"sqlite:///{tmp_path / 'shop.db'}")
    await app.migrate()
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE reserved (id TEXT)")
    await app.publish("orders.placed", {}, id="order-1")
    await app.aclose()
    return tmp_path


Process = asyncio.subprocess.Process | AsyncForked


@asynccontextmanager
async def working(folder: Path, host: ForkHost | None) -> AsyncIterator[Process]:
    """
    A worker of the application, past its first line; killed at the end of the block.

    Without a *host* by the command that is installed.
    """
    command = ("worker", "--app", "shop:app")
    how: Any = {"cwd": folder, "stdout": PIPE, "stderr": STDOUT}
    process: Process = (
        await host.start(*command, **how)
        if host is not None
        else await asyncio.create_subprocess_exec(ONEFOLD, *command, **how)
    )
    try:
        assert await _line(process) == "onefold: shop:app works: reserve-stock"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _line(process: Process) -> str:
    assert process.stdout
    async with asyncio.timeout(PATIENCE_S):
        return (await process.stdout.readline()).decode().strip()


async def _ended(process: Process) -> int:
    async with asyncio.timeout(PATIENCE_S):
        return await process.wait()


def _reserved(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "shop.db") as database:
        return [id_ for (id_,) in database.execute("SELECT id FROM reserved")]


@pytest.mark.parametrize(("number", "installed"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
async def test_a_signal_lets_the_handler_finish(
    shop: Path, host: ForkHost, number: signal.Signals, installed: bool
) -> None:
    """What is under way is committed, and the exit code says that all went well."""
    async with working(shop, None if installed else host) as process:
        assert await _line(process) == "began order-1"

        process.send_signal(number)
        (shop / "go").touch()

        assert await _ended(process) == 0
    assert _reserved(shop) == ["order-1"]


async def test_a_second_signal_leaves_at_once(shop: Path, host: ForkHost) -> None:
    """What was under way is rolled back, and done by the next worker."""
    async with working(shop, host) as process:
        assert await _line(process) == "began order-1"

        process.send_signal(signal.SIGTERM)
        assert "draining" in await _line(process)  # two signals at once would arrive as one
        process.send_signal(signal.SIGTERM)

        assert await _ended(process) == 143
        assert _reserved(shop) == []
    (shop / "go").touch()
    async with working(shop, host) as process:
        assert await _line(process) == "began order-1"
        process.send_signal(signal.SIGTERM)
        assert await _ended(process) == 0
    assert _reserved(shop) == ["order-1"]


async def test_a_second_signal_leaves_a_thread_behind(shop: Path, host: ForkHost) -> None:
    """A handler that blocks its thread for ever keeps no process; nothing of it is committed."""
    (shop / "shop.py").write_text(STUCK)
    async with working(shop, host) as process:
        assert await _line(process) == "began order-1"

        process.send_signal(signal.SIGTERM)
        assert "draining" in await _line(process)
        process.send_signal(signal.SIGTERM)
        assert "leaving at once" in await _line(process)

        assert "reserve-stock" in await _line(process)
        assert await _ended(process) == 143
    assert _reserved(shop) == []
