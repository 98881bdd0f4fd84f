"""
What Celery's processes counted together, answered by the one that started them.

Celery delivers in processes of a pool, each with counters of its own that nobody could ask. With
`ONEFOLD_TRACE_CELERY_METRICS_PORT` they count into files of one folder, as prometheus_client's
multi-process mode does, and the worker's main process answers `/metrics` for all of them.

Imported before anything counts: prometheus_client looks for its folder when it is imported. An
application that imported it earlier sets PROMETHEUS_MULTIPROC_DIR itself.

Limit: what a process of the pool counted stays in its files until the worker ends, so with
`--max-tasks-per-child` they become more and more.
"""

import asyncio
import atexit
import logging
import os
import shutil
import tempfile
import threading
from typing import Any

from celery.signals import worker_ready, worker_shutting_down

from onefold.errors import OnefoldError
from onefold_server.settings import Settings

log = logging.getLogger("onefold.celery")

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def count_together() -> None:
    """Give the processes that are started from here one folder to count in; once."""
    if Settings.load().trace_celery_metrics_port is None or _FOLDER in os.environ:
        return
    folder, creator = tempfile.mkdtemp(prefix="onefold-celery-"), os.getpid()
    os.environ[_FOLDER] = folder

    def remove() -> None:
        if os.getpid() == creator:  # not when a process of the pool ends
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


class Answering:
    """Answers `/metrics` in a thread of its own: Celery's main process has no loop."""

    def __init__(self, settings: Settings, port: int) -> None:
        self._settings, self._port = settings, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it. Safe twice."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(5)

    def _run(self) -> None:
        try:
            asyncio.run(self._answer())
        except OnefoldError as error:  # a port that is taken stops no delivery
            log.error("no metrics: %s", error)  # noqa: TRY400 (its text says all)

    async def _answer(self) -> None:
        from onefold_server.installation import build  # noqa: PLC0415
        from onefold_server.metrics import metrics_served  # noqa: PLC0415 (after the folder is set)

        self._loop = asyncio.get_running_loop()
        onefold = build(self._settings)
        try:
            served = metrics_served(
                self._settings, onefold.meters, texts=[_counted], port=self._port
            )
            async with served as url:
                log.warning("metrics at %s", url)  # warning: Celery's default shows no less
                await self._over.wait()
        finally:
            await onefold.aclose()


def _counted() -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


_answering: list[Answering] = []


@worker_ready.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    settings = Settings.load()
    if settings.trace_celery_metrics_port is not None and not _answering:
        _answering.append(Answering(settings, settings.trace_celery_metrics_port))
        _answering[0].start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    while _answering:
        _answering.pop().stop()


count_together()
