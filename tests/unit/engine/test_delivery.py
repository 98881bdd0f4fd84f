"""Handlers that are plain functions run in a thread, and are waited for."""

import asyncio
import inspect
import threading
from typing import Any

import pytest

from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.engine.delivery import HandlerTransaction, SyncTransaction, async_handler
from onefold.ports.transport import Message, Partition
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


def _given(kind: type[Any], made: Any) -> dict[str, object]:
    """What a handler is given by name: each method's parameters, each value."""
    public = {name for name in {*dir(kind), *vars(made)} if not name.startswith("_")}
    return {name: _shape(kind, made, name) for name in public - _THE_ENGINES}


def _shape(kind: type[Any], made: Any, name: str) -> object:
    method = getattr(kind, name, None)
    return inspect.signature(method) if inspect.isfunction(method) else getattr(made, name)


_THE_ENGINES = {"tx", "random", "together", "flush"}  # how the engine makes and ends it


class KnowsNoDeadlines(SyncTransaction):
    """Twin: as it was when `schedule` had been given to async handlers alone."""

    schedule: Any = None


@pytest.mark.parametrize("kind", [SyncTransaction, KnowsNoDeadlines])
async def test_a_plain_function_is_given_what_an_async_one_is(kind: type[SyncTransaction]) -> None:
    """The same names, with the same parameters and values; one that lacks any is told."""
    async with MemoryUnitOfWork().begin() as inner:
        message = Message(partition=Partition("t", 1), position=2, key=None, value=b"")
        tx = HandlerTransaction(
            inner, consumer="c", now=ManualClock().now(), random=bytes, fence=7, message=message
        )
        plain = kind(tx, asyncio.get_running_loop())

    wanted, found = _given(HandlerTransaction, tx), _given(kind, plain)

    assert len(wanted) >= 10
    assert (found == wanted) is (kind is SyncTransaction), found.keys() ^ wanted.keys()


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
