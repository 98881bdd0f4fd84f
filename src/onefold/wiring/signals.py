"""Works until a signal: the first one drains, the second one leaves at once."""

import asyncio
import logging
import os
import signal
import sys
from typing import Final

from onefold.engine.worker import Worker

log = logging.getLogger("onefold.worker")

_LEAVE_S: Final = 2.0  # for what can be cancelled to be rolled back and closed
LEFT: Final = 128 + signal.SIGTERM  # exit code of a process that left, as a shell reports SIGTERM


async def work_until_signalled(worker: Worker) -> bool:
    """
    Wait for SIGINT or SIGTERM, then drain *worker*; a second signal leaves at once.

    A plain function that still blocks its thread two seconds after that is left behind by
    ending the process with 143: a thread cannot be cancelled, and an interpreter waits for
    it. Its writes are rolled back, as by any other death.

    Returns:
        Whether all that was under way was finished; else it is delivered again elsewhere.
    """
    stop, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, _stop_then_leave, stop, leave)
    await stop.wait()
    draining = asyncio.create_task(worker.drain())
    leaving = asyncio.create_task(leave.wait())
    await asyncio.wait({draining, leaving}, return_when=asyncio.FIRST_COMPLETED)
    drained = draining.done()
    if not drained:
        await _leave(worker)
    leaving.cancel()
    await draining
    return drained


def _stop_then_leave(stop: asyncio.Event, leave: asyncio.Event) -> None:
    log.info("leaving at once" if stop.is_set() else "draining; a second signal leaves at once")
    (leave if stop.is_set() else stop).set()


async def _leave(worker: Worker) -> None:
    """Leave; if a thread does not let go, end the process as SIGKILL would."""
    leaving = asyncio.create_task(worker.leave())
    await asyncio.wait({leaving}, timeout=_LEAVE_S)
    if not leaving.done():
        log.warning("leaving a blocked handler behind, of one of: %s", ", ".join(worker.counts()))
        logging.shutdown()
        sys.stdout.flush()
        os._exit(LEFT)
