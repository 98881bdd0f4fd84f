"""Stops a handler after its work and before its confirm, to look at what is between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

from onefold.testing.crash.points import Crash

__all__ = ["ControlledConfirm"]


class ControlledConfirm:
    """
    A gate before the confirm of an idempotent handler, or before the commit of a transaction.

        gate = ControlledConfirm()
        handling = asyncio.create_task(guarded(gate.around(handler))(message))
        await gate.reached()      # the work is done, the claim is still a lease
        gate.let_go()             # or gate.fail(error), or gate.kill()

    Everybody who comes to the gate waits there until one of the three is called; they
    hold for all who come later too, until `close` shuts it again.
    """

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._open = asyncio.Event()
        self._verdict: BaseException | None = None
        self.stops = 0

    async def reached(self) -> None:
        """Return when a handler has come to the gate."""
        await self._reached.wait()

    def let_go(self) -> None:
        """Let it confirm."""
        self._decide(None)

    def fail(self, error: Exception) -> None:
        """Raise *error* where it would confirm: its handler sees it."""
        self._decide(error)

    def kill(self) -> None:
        """Let its process die there: no `except Exception` sees it, nothing is given back."""
        self._decide(Crash("before confirm"))

    def close(self) -> None:
        """Make those who come from now on wait again."""
        self._reached.clear()
        self._open.clear()

    def around(self, handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """*handler*, whose `confirm` waits at the gate."""

        @wraps(handler)
        async def held(*args: Any, confirm: Any, **named: Any) -> Any:
            async def gated(*inner: Any, **more: Any) -> Any:
                await self._stop()
                return await confirm(*inner, **more)

            return await handler(*args, confirm=gated, **named)

        return held

    def before_commit(self, uow: Any) -> Any:
        """A unit of work whose transactions wait at the gate before they commit."""
        return _GatedUnitOfWork(uow, self._stop)

    async def _stop(self) -> None:
        self.stops += 1
        self._reached.set()
        await self._open.wait()
        if self._verdict is not None:
            raise self._verdict

    def _decide(self, verdict: BaseException | None) -> None:
        self._verdict = verdict
        self._open.set()


class _GatedUnitOfWork:
    def __init__(self, inner: Any, stop: Callable[[], Awaitable[None]]) -> None:
        self._inner, self._stop = inner, stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        """As the inner one's, with the gate at the end."""
        async with self._inner.begin() as tx:
            yield tx
            await self._stop()
