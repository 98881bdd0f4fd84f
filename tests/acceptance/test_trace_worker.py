"""`onefold worker` as a process: it delivers, and its own `/metrics` say what it did."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from tests.acceptance.support import PATIENCE_S
from tests.integration.test_metrics import Series, series, value
from tests.support import School, new_school
from tests.support_fork import ForkHost
from tests.support_receiver import receiving
from tests.support_trace import files, trade

from onefold.core.clock import SystemClock
from onefold.testing.clock import ManualClock
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(60)]
TOKEN = "a-token-for-prometheus"


async def _close_for(onefold: Installation, school: School, receiver: str) -> None:
    """A trade for a folder, a receiver, one that nobody is at, and one that is paused."""
    service, admin = onefold.trace.service, school.admin
    with socket.socket() as nobody:  # bound, and never listened on
        nobody.bind(("127.0.0.1", 0))
        places = {"hook": receiver, "nobody": f"http://127.0.0.1:{nobody.getsockname()[1]}/"}
        for name, url in places.items():
            config = {"url": url, "loopback": True, "timeout_s": 2.0}
            await service.create_destination(
                admin, name, "webhook", config=config, secrets={"token": "t"}
            )
    for name in ("folder", "later"):
        await service.create_destination(admin, name, "file", config={"path": name})
    for name in ("hook", "nobody", "folder", "later"):
        await service.subscribe(admin, "user-ada", name, profile="full", consent_version="1")
    await service.pause(admin, "later")
    for n in range(3):
        await service.record(school.service, trade(onefold.clock.now(), entry_price=f"1.{n:02}"))


@asynccontextmanager
async def working(host: ForkHost, url: str, home: Path, zone: str) -> AsyncIterator[str]:
    """A worker over *url* in that zone; where it answers `/metrics`."""
    with (home / "log").open("wb") as log:
        process = await host.start(
            *("worker", "--metrics-port", "0"),
            env=os.environ
            | {
                "TZ": zone,
                "ONEFOLD_DATABASE_URL": url,
                "ONEFOLD_TRACE_FOLDER": str(home / "out"),
                "ONEFOLD_TRACE_LOOPBACK": "1",
                "ONEFOLD_METRICS_TOKEN": TOKEN,
            },
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        yield line.decode().split()[-1]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0, (home / "log").read_text()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _scraped_until(url: str, *, delivered: int, retried: int) -> Series:
    async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient() as client:
        while True:
            answer = await client.get(url, headers={"Authorization": f"Bearer {TOKEN}"})
            found = series(answer.text)
            if _pushed(found, "delivered") >= delivered and _pushed(found, "retry") >= retried:
                return found
            await asyncio.sleep(0.1)


def _pushed(found: Series, status: str) -> float:
    return sum(
        number
        for (name, labels), number in found.items()
        if name == "trust_traces_pushed_total" and ("status", status) in labels
    )


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
async def test_a_worker_tells_of_its_own_deliveries(
    host: ForkHost, database_url: str, tmp_path: Path, zone: str
) -> None:
    """Pushed, failed, how late and how long by itself; pending, held and age by the database."""
    clock = ManualClock(SystemClock().now() - timedelta(hours=1))
    settings = Settings(
        database_url=SecretStr(database_url), trace_loopback=True, trace_folder=tmp_path / "out"
    )
    onefold = build(settings, clock=clock)
    async with receiving(200) as there:
        school = await new_school(onefold)
        await _close_for(onefold, school, there.url)
        await onefold.aclose()
        async with working(host, database_url, tmp_path, zone) as url:
            async with httpx.AsyncClient() as client:
                assert (await client.get(url)).status_code == 401
            found = await _scraped_until(url, delivered=6, retried=3)

    assert url.startswith("http://127.0.0.1:")  # nobody else is told, unless ONEFOLD_HOST says so
    assert (len(there.got), len(files(tmp_path / "out"))) == (3, 3)
    for name in ("hook", "folder"):
        assert value(found, "trust_traces_pushed_total", adapter=name, status="delivered") == 3
        assert value(found, "trust_trace_delay_seconds_count", adapter=name) == 3
        assert 3 * 3200 < value(found, "trust_trace_delay_seconds_sum", adapter=name) < 3 * 3700
        assert value(found, "trust_trace_post_duration_seconds_count", adapter=name) == 3
    assert value(found, "trust_trace_fail_total", adapter="nobody", reason="connect") >= 3
    assert value(found, "trust_trace_pending", adapter="nobody") == 3
    assert 3200 < value(found, "trust_trace_oldest_age_seconds", adapter="nobody") < 3700
    assert value(found, "trust_trace_held", adapter="later") == 3
    assert value(found, "trust_trace_dead", adapter="later") == 0
