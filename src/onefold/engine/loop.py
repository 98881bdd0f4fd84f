"""A loop that outlives its errors: start, wake, drain, stop; each is safe twice and at any time."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from onefold.errors import Unavailable

log = logging.getLogger("onefold.engine")

Step = Callable[[], Awaitable[bool]]


async def _nothing() -> None:
    """What most loops have to finish after their last step."""


class Loop:
    """
    Calls *step* again and again in a task of its own, until drained or stopped.

    An error of a step is logged, and the step is tried again after the pause. Cancelling a
    step loses nothing that a crash there would not lose.

    Args:
        name: For the log and the metrics.
        step: One unit of work; True means that there is more to do at once.
        every_s: How long to pause when there is no more, or after an error; a function is
            called at each pause.
        finish: Awaited by `drain` after the last step: waits for what the steps began.
        waits: The step only waits for a signal from outside, so `drain` cancels it.
    """

    def __init__(
        self,
        name: str,
        step: Step,
        *,
        every_s: float | Callable[[], float],
        finish: Callable[[], Awaitable[None]] = _nothing,
        waits: bool = False,
    ) -> None:
        self.name = name
        self._step, self._every_s, self._finish, self._waits = step, every_s, finish, waits
        self._wake = asyncio.Event()
        self._draining = False
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
            self._draining = False
            self._task = asyncio.create_task(self._run(), name=self.name)

    def wake(self) -> None:
        """End the present pause, or leave out the next."""
        self._wake.set()

    async def drain(self) -> None:
        """Let the step under way end, begin no other; returns when the loop is over."""
        if self._waits:
            await self.stop()
            return
        self._draining = True
        self.wake()
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def stop(self) -> None:
        """Cancel the step under way and end the loop; returns when it is over."""
        task = self._task
        if task is not None:
            if not task.cancelling():  # a second call must not disturb the first one's clean-up
                task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        while not self._draining:
            if not await self._try_step():
                await self._pause()
        await self._finish()

    async def _pause(self) -> None:
        if self._draining:
            return
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
            if isinstance(error, Unavailable):  # waiting mends it: one line, no traceback
                log.error("a step of %s failed: %s", self.name, error)  # noqa: TRY400
            else:
                log.exception("a step of %s failed", self.name)
            self.last_error = error
            self.errors += 1
            return False
        self.last_error = None
        return more
