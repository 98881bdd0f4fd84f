"""
Threads of one sink's own, for calls that block: a file system, the system's resolver.

Not the event loop's: those are a handful for the whole process, and a disk that hangs or a
name server that does not answer would take them from every other destination. Nor an
executor's, whose threads the interpreter waits for: a process must end beside such a disk.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MOST = 8  # of one sink
WAIT_S = 30.0


class Threads:
    """Runs blocking calls; each is waited for so long, and then left to end by itself."""

    def __init__(self, name: str, *, wait_s: float = WAIT_S) -> None:
        self._name, self._wait_s = name, wait_s
        self._room = asyncio.Semaphore(MOST)

    async def run(self, call: Callable[P, T], *args: P.args, **how: P.kwargs) -> T:
        """
        What *call* returns or raises.

        Raises:
            TimeoutError: it has not ended in time; it may have its effect yet.
        """
        loop, answer = asyncio.get_running_loop(), _Answer[T]()

        def over(_: object) -> None:
            with suppress(RuntimeError):  # the loop is gone, and nobody waits for room
                loop.call_soon_threadsafe(self._room.release)

        def work() -> None:
            with answer:
                answer.future.set_result(call(*args, **how))

        async with asyncio.timeout(self._wait_s):
            await self._room.acquire()
            answer.future.add_done_callback(over)
            with answer:  # the system may give no more threads
                Thread(target=work, name=f"sink-{self._name}", daemon=True).start()
            return await asyncio.wrap_future(answer.future)


class _Answer(Generic[T]):
    """What is raised in its block is raised where it is waited for, and nowhere else."""

    def __init__(self) -> None:
        self.future: Future[T] = Future()
        self.future.set_running_or_notify_cancel()  # who waits no more ends no thread

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: Any) -> bool:
        if error is not None:
            self.future.set_exception(error)
        return error is not None
