"""Handlers that are plain functions run in a thread, and are waited for."""

import asyncio
import threading
from typing import Any

import pytest

from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.engine.delivery import HandlerTransaction, SyncTransaction, async_handler
from onefold.testing.clock import ManualClock


async def test_a_cancelled_handler_in_a_thread_is_waited_for() -> None:
    """While it runs its event is nobody else's: a lease given back early would let another in."""
    began, go_on = asyncio.Event(), threading.Event()
    loop, ended = asyncio.get_running_loop(), list[str]()

    def handler(_: object, tx: SyncTransaction) -> None:
        loop.call_soon_threadsafe(began.set)
        go_on.wait(10)
        ended.append("its work")

    tx: Any = HandlerTransaction(None, consumer="c", now=ManualClock().now(), random=bytes)  # type: ignore[arg-type]
    run = asyncio.ensure_future(async_handler(handler)(None, tx))
    await began.wait()
    run.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    early = run.done()
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await run

    assert (early, ended) == (False, ["its work"])


async def test_a_plain_function_sees_event_instant_and_fence() -> None:
    """As an async one does."""
    seen = []

    def handler(_: object, tx: SyncTransaction) -> None:
        seen.append((tx.now, tx.fence))

    now = ManualClock().now()
    async with MemoryUnitOfWork().begin() as inner:
        tx = HandlerTransaction(inner, consumer="c", now=now, random=bytes, fence=7)
        await async_handler(handler)(None, tx)

    assert seen == [(now, 7)]


class Called:
    """A handler that keeps something."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, event: Any, tx: HandlerTransaction) -> None:
        self.seen.append(event)


async def test_an_object_with_an_async_call_is_awaited() -> None:
    """Run in a thread it would give a coroutine that nobody awaits, and have no effect."""
    handler = Called()
    tx: Any = HandlerTransaction(None, consumer="c", now=ManualClock().now(), random=bytes)  # type: ignore[arg-type]

    await async_handler(handler)("event", tx)

    assert handler.seen == ["event"]


async def test_a_plain_function_that_gives_a_coroutine_has_failed() -> None:
    """A decorator that knows no async functions hides one: nothing ran, and nothing is done."""
    handler = Called()
    tx: Any = HandlerTransaction(None, consumer="c", now=ManualClock().now(), random=bytes)  # type: ignore[arg-type]

    def hides(event: Any, tx: Any) -> Any:
        return handler(event, tx)

    with pytest.raises(TypeError, match="make it async"):
        await async_handler(hides)("event", tx)

    assert handler.seen == []
