"""What every unit of work does with the tasks that use it."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from onefold.errors import IllegalTransition

T = TypeVar("T")


class OnePerTask:
    """Refuses a second transaction in a task that has one open: it could wait for itself."""

    def __init__(self) -> None:
        self._inside: set[asyncio.Task[Any] | None] = set()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """
        Hold this task's only place.

        Raises:
            IllegalTransition: the task holds it already; nothing was begun.
        """
        task = asyncio.current_task()
        if task in self._inside:
            raise IllegalTransition("in a transaction", "another transaction of the same task")
        self._inside.add(task)
        try:
            yield
        finally:
            self._inside.discard(task)


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await *work*, which is never cancelled; a cancellation that comes meanwhile, after it."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and not task.cancelled():
        raise cancelled from task.exception()
    return task.result()
