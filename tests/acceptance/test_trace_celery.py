"""A real Celery worker with its beat, on a real Valkey, delivers what is due."""

import asyncio
import os
import re
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from tests.integration.test_metrics import Series, series, value
from tests.support import new_school
from tests.support_trace import files, trade
from tests.support_valkey import Valkey

from onefold.core.clock import SystemClock
from onefold.testing.clock import ManualClock
from onefold_server.installation import build
from onefold_server.settings import Settings

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]


async def _closed_an_hour_ago(url: str, home: Path) -> Path:
    """
    Three trades, and consent to a folder, by a process whose hour has passed: all are due.

    The folder.
    """
    clock = ManualClock(SystemClock().now() - timedelta(hours=1))
    settings = Settings(database_url=SecretStr(url), trace_folder=home)
    onefold = build(settings, clock=clock)
    try:
        school, service = await new_school(onefold), onefold.trace.service
        await service.create_destination(school.admin, "folder", "file", config={"path": "out"})
        await service.subscribe(
            school.admin, "user-ada", "folder", profile="full", consent_version="1"
        )
        for n in range(3):
            await service.record(school.service, trade(clock.now(), entry_price=f"1.{n:02}"))
    finally:
        await onefold.aclose()
    return home / str(school.id) / "out"


@pytest.mark.parametrize("pool", ["solo", "prefork"])
async def test_beat_and_worker_deliver_what_is_due(
    sqlite_url: str, valkey: Valkey, tmp_path: Path, pool: str
) -> None:
    """
    Started as an operator starts them; the files are there, the task and `/metrics` say so.

    The processes of a pool count together, and the one that started them answers for all.
    """
    out = await _closed_an_hour_ago(sqlite_url, tmp_path)
    env = os.environ | {
        "ONEFOLD_DATABASE_URL": sqlite_url,
        "ONEFOLD_TRACE_CELERY_EVERY_S": "0.5",
        "ONEFOLD_TRACE_CELERY_BATCH": "1",
        "ONEFOLD_TRACE_CELERY_METRICS_PORT": "0",
        "TMPDIR": str(tmp_path),
        "ONEFOLD_TRACE_FOLDER": str(tmp_path),
        "CELERY_BROKER_URL": valkey.url.replace("valkey://", "redis://"),
        "CELERY_RESULT_BACKEND": valkey.url.replace("valkey://", "redis://"),
    }
    log = (tmp_path / "celery.log").open("w")
    worker = subprocess.Popen(  # noqa: ASYNC220 (starting it takes no time)
        [
            *(sys.executable, "-m", "celery", "-A", "onefold_server.celery", "worker", "--beat"),
            *("--pool", pool, "--concurrency", "2", "--loglevel", "info"),
            *("-s", str(tmp_path / "schedule")),
        ],
        env=env,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        until = time.monotonic() + 60
        while len(files(out)) < 3 and time.monotonic() < until and worker.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        found = await _told(tmp_path / "celery.log", delivered=3)
    finally:
        worker.terminate()
        worker.wait(20)
        log.close()

    text = (tmp_path / "celery.log").read_text()
    assert len(files(out)) == 3, text
    assert text.count("'succeeded': 1") == 3, text
    assert value(found, "trust_traces_pushed_total", adapter="folder", status="delivered") == 3
    assert value(found, "trust_trace_delay_seconds_count", adapter="folder") == 3
    assert value(found, "trust_trace_post_duration_seconds_count", adapter="folder") == 3
    assert not [name for name in os.listdir(tmp_path) if name.startswith("onefold-celery-")]  # noqa: PTH208


def _text(log: Path) -> str:
    return log.read_text()


async def _told(log: Path, *, delivered: int) -> Series:
    """What the worker answers on the port that it tells of, when it has counted so many."""
    async with asyncio.timeout(30), httpx.AsyncClient() as client:
        while True:
            line = re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", _text(log))
            if line is not None:
                found = series((await client.get(line[1])).text)
                how = {"adapter": "folder", "status": "delivered"}
                key = ("trust_traces_pushed_total", frozenset(how.items()))
                if found.get(key, 0) >= delivered:
                    return found
            await asyncio.sleep(0.2)
