"""A real Celery worker with its beat, on a real Valkey, delivers what is due."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.support import new_school
from tests.support_trace import files, trade
from tests.support_valkey import Valkey

from onefold.core.clock import SystemClock
from onefold.settings import Settings
from onefold.testing.clock import ManualClock
from onefold.wiring import build

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


async def test_beat_and_worker_deliver_what_is_due(
    sqlite_url: str, valkey: Valkey, tmp_path: Path
) -> None:
    """Started as an operator starts them; the files are there, and the task says so."""
    out = await _closed_an_hour_ago(sqlite_url, tmp_path)
    env = os.environ | {
        "ONEFOLD_DATABASE_URL": sqlite_url,
        "ONEFOLD_TRACE_CELERY_EVERY_S": "0.5",
        "ONEFOLD_TRACE_FOLDER": str(tmp_path),
        "CELERY_BROKER_URL": valkey.url.replace("valkey://", "redis://"),
        "CELERY_RESULT_BACKEND": valkey.url.replace("valkey://", "redis://"),
    }
    log = (tmp_path / "celery.log").open("w")
    worker = subprocess.Popen(  # noqa: ASYNC220 (starting it takes no time)
        [
            *(sys.executable, "-m", "celery", "-A", "onefold.apps.celery", "worker", "--beat"),
            *("--pool", "solo", "--loglevel", "info", "-s", str(tmp_path / "schedule")),
        ],
        env=env,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        until = time.monotonic() + 60
        while len(files(out)) < 3 and time.monotonic() < until and worker.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    finally:
        worker.terminate()
        worker.wait(20)
        log.close()

    text = (tmp_path / "celery.log").read_text()
    assert len(files(out)) == 3, text
    assert "'succeeded': 3" in text, text
