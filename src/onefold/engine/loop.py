"""A loop that outlives its errors: start, ready, stop; safe twice and before the start."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from onefold.errors import Unavailable

log = logging.getLogger("onefold.engine")


class Loop:
    """
    Calls *step* again and again in a task of its own, until stopped.

    An error of a step is logged and the step tried again after the pause: what it did is
    its transaction's business. Cancelling a step in the middle loses nothing that a crash
    there would not lose.

    Args:
        name: For the log.
        step: One unit of work; True means that there is more at once.
        every_s: How long to pause when there is no more, or after an error; a function
            is asked at each pause.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[bool]],
        *,
        every_s: float | Callable[[], float],
    ) -> None:
        self.name = name
        self._step, self._every_s = step, every_s
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.last_error: Exception | None = None
        self.errors = 0  # since it was made

    @property
    def ready(self) -> bool:
        """Whether the loop runs."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin; a loop that runs already goes on."""
        if not self.ready:
            self._task = asyncio.create_task(self._run(), name=self.name)

    def wake(self) -> None:
        """End the present pause, or leave out the next."""
        self._wake.set()

    async def stop(self) -> None:
        """End the step under way and the loop; returns when it is over."""
        task = self._task
        if task is not None:
            if not task.cancelling():  # a second call must not disturb the first one's clean-up
                task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        while True:
            if not await self._try_step():
                await self._pause()

    async def _pause(self) -> None:
        # Not `wait_for`: on Python 3.11 it swallows a cancellation that comes together with
        # the waking, and the loop goes on (test_stop_right_after_waking_stops).
        with contextlib.suppress(TimeoutError):
            every_s = self._every_s() if callable(self._every_s) else self._every_s
            async with asyncio.timeout(every_s):
                await self._wake.wait()
        self._wake.clear()

    async def _try_step(self) -> bool:
        try:
            more = await self._step()
        except Exception as error:  # whatever it is, the next step must get its chance
            if isinstance(error, Unavailable):  # and nobody's bug: a line, and not a page a step
                log.error("a step of %s failed: %s", self.name, error)  # noqa: TRY400
            else:
                log.exception("a step of %s failed", self.name)
            self.last_error = error
            self.errors += 1
            return False
        self.last_error = None
        return more
