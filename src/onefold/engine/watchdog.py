"""
Renews leases while their handlers run, from a thread that a blocked event loop cannot stop.

Each third of a lease the thread asks the handler's event loop to renew it. A loop that has
not even taken the last request by then is blocked, which is said by name, with the line at
which it stands: nothing else in that process gets on either. A blocked loop does not renew:
its lease ends, another worker takes over, and the fence keeps the late one from confirming.
A lease that renewed itself although its handler is stuck would hold the event for ever.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import count

__all__ = ["Watch", "Watchdog"]

log = logging.getLogger("onefold.engine.watchdog")


class Watch:
    """
    One lease that is kept alive.

    Args:
        name: Of the handler, for the log.
        every_s: How long between two renewals.
        renew: Prolongs the lease, in the event loop; False ends the watch.
    """

    def __init__(self, name: str, every_s: float, renew: Callable[[], Awaitable[bool]]) -> None:
        self.name, self.every_s = name, every_s
        self.over = False
        self._renew = renew
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._asked = self._taken = 0
        self._named = False
        self._renewal: asyncio.Task[None] | None = None

    def beat(self) -> None:
        """In the watchdog's thread: ask the loop to renew, or notice that it is blocked."""
        if self._asked != self._taken:
            self._name_it()
            return
        self._asked += 1
        try:
            self._loop.call_soon_threadsafe(self._take)
        except RuntimeError:  # the loop was closed, and with it the handler
            self.over = True

    def end(self) -> None:
        """In the loop: the handler is over. What is left waits in the heap, and holds nothing."""
        self.over = True
        self._renew = _renew_no_more
        if self._renewal is not None:
            self._renewal.cancel()

    def _take(self) -> None:
        self._taken = self._asked
        self._named = False
        if not self.over and (self._renewal is None or self._renewal.done()):
            self._renewal = self._loop.create_task(self._prolong(), name=f"renew {self.name}")

    async def _prolong(self) -> None:
        if not await self._renew():
            self.over = True

    def _name_it(self) -> None:
        if self._named:
            return
        self._named = True
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 (documented, for this)
        at = traceback.extract_stack(frame)[-1] if frame else None
        where = f"{at.filename}:{at.lineno} in {at.name}" if at else "unknown"
        log.error(
            "the event loop is blocked while %s runs, at %s; its lease is not renewed",
            self.name,
            where,
        )


async def _renew_no_more() -> bool:
    return False


class Watchdog:
    """The thread. Started with the first watch, ends with the process; one is enough."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Watch]] = []
        self._changed = threading.Condition()
        self._numbers = count()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, watch: Watch) -> Iterator[None]:
        """Keep *watch* alive during the block."""
        self._add(watch)
        try:
            yield
        finally:
            watch.end()

    def _add(self, watch: Watch) -> None:
        with self._changed:
            if self._thread is None or not self._thread.is_alive():  # dead after a fork
                self._thread = threading.Thread(
                    target=self._run, name="onefold watchdog", daemon=True
                )
                self._thread.start()
            if self._push(watch):
                self._changed.notify()

    def _push(self, watch: Watch) -> bool:
        """With the lock held; whether it is the next that is due."""
        entry = (time.monotonic() + watch.every_s, next(self._numbers), watch)
        heappush(self._due, entry)
        return self._due[0] is entry

    def _run(self) -> None:
        while True:
            watch = self._next()
            if not watch.over:
                watch.beat()
                with self._changed:
                    self._push(watch)

    def _next(self) -> Watch:
        """
        Wait for the next that is due, over or not.

        One that is over is only dropped when it is due: the thread then sleeps through
        thousands of short handlers instead of being woken by each.
        """
        with self._changed:
            while True:
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is not None and wait_s <= 0:
                    return heappop(self._due)[2]
                self._changed.wait(wait_s)
