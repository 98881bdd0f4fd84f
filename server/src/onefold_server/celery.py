"""
For those who run Celery already: a task and a beat entry that drive the same courier.

With `ONEFOLD_TRACE_CELERY_METRICS_PORT` a worker answers `/metrics` for its whole pool.

`onefold worker` needs neither, and acts within a second of an instant, not on a tick. In an
application of your own, import this module and add `BEAT` to its `beat_schedule`; the
module's `app` is a ready one: `celery -A onefold_server.celery worker --beat`.

A synchronous task on purpose: Celery awaits no coroutine, and a coroutine function as a
task answers SUCCESS without having run (research note trace, A1).
"""

import asyncio
import time
from typing import Any, Final

from celery import Celery, shared_task

import onefold_server.celery_metrics  # noqa: F401 (first: before anything counts)
from onefold.errors import FieldProblem, InvalidInput
from onefold_server.installation import build
from onefold_server.settings import Settings

TASK: Final = "onefold.process_pending_traces"


@shared_task(name=TASK, ignore_result=False)  # type: ignore[untyped-decorator]
def process_pending_traces(limit: int | None = None) -> dict[str, Any]:
    """
    Deliver what is due, at most *limit* (by default the setting); what became of it.

    Never retried by Celery: the courier's own schedule says when what failed comes again.
    Any number of these may run at once, and beside `onefold worker`.

    Raises:
        InvalidInput: *limit* is less than 1.
    """
    if limit is not None and limit < 1:
        raise InvalidInput([FieldProblem("limit", "bounds", "expected 1 or more")])
    settings = Settings.load()
    began = time.monotonic()
    said = asyncio.run(_process(settings, limit or settings.trace_celery_batch))
    return said | {"duration_s": round(time.monotonic() - began, 3)}


async def _process(settings: Settings, limit: int) -> dict[str, Any]:
    onefold = build(settings)
    try:
        await onefold.prepare()
        await onefold.trace.service.reconcile(limit=limit)
        await onefold.trace.feed()
        said = await onefold.courier.work_off(limit=limit)
    finally:
        await onefold.aclose()
    return {
        "processed": said.total(),
        "succeeded": said["delivered"],
        "failed": said["retry"] + said["dead"],
        "skipped": said.total() - sum(said[k] for k in ("delivered", "retry", "dead", "held")),
        "held": said["held"],
    }


def _beat(settings: Settings) -> dict[str, Any]:
    every_s = settings.trace_celery_every_s
    # One that no worker took before the next is due would only be done twice.
    entry = {"task": TASK, "schedule": every_s, "options": {"expires": every_s}}
    return {"process pending traces": entry}


BEAT: Final = _beat(Settings.load())
app = Celery("onefold")  # its broker is CELERY_BROKER_URL
app.conf.update(
    beat_schedule=BEAT,
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    timezone="UTC",
)
