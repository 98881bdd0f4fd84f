"""
Threads of one sink's own, for calls that block: a file system, the system's resolver.

Not the event loop's: those are a handful for the whole process, and a disk that hangs or a
name server that does not answer would take them from every other destination.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MOST = 8  # of one sink
WAIT_S = 30.0


class Threads:
    """Runs blocking calls; each is waited for so long, and then left to end by itself."""

    def __init__(self, name: str, *, wait_s: float = WAIT_S) -> None:
        self._name, self._wait_s = name, wait_s
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[P, T], *args: P.args, **how: P.kwargs) -> T:
        """
        What *call* returns or raises.

        Raises:
            TimeoutError: it has not ended in time; it may have its effect yet.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(MOST, thread_name_prefix=f"sink-{self._name}")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._wait_s):
            return await loop.run_in_executor(self._pool, lambda: call(*args, **how))

    def close(self) -> None:
        """Wait for none of them. Safe twice."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
