"""What every unit of work does with the tasks that use it."""

import asyncio

import pytest

from onefold.adapters.tasks import OnePerTask, to_the_end
from onefold.errors import IllegalTransition


async def test_a_task_enters_once_at_a_time() -> None:
    """A second entry is refused; after the first is left, it is free again."""
    one = OnePerTask()

    with one.entered(), pytest.raises(IllegalTransition), one.entered():
        pass

    with one.entered():
        pass


async def test_tasks_do_not_mind_each_other() -> None:
    """Another task has a place of its own, a child as well."""
    one = OnePerTask()

    async def enter() -> str:
        with one.entered():
            return "in"

    with one.entered():
        assert await asyncio.create_task(enter()) == "in"


async def test_work_that_nobody_cancels_gives_its_result() -> None:
    """As if awaited."""

    async def work() -> int:
        return 7

    assert await to_the_end(work()) == 7


async def test_work_goes_on_when_its_caller_is_cancelled() -> None:
    """However often: the cancellation comes after the end of the work."""
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        ended.set()

    caller = asyncio.create_task(to_the_end(work()))
    for _ in range(3):
        await _turn()
        caller.cancel()
    await _turn()
    assert not caller.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_a_failure_of_the_work_is_told() -> None:
    """As if awaited."""

    async def work() -> None:
        raise ValueError("the work failed")

    with pytest.raises(ValueError, match="the work failed"):
        await to_the_end(work())


async def test_a_failure_does_not_swallow_a_cancellation() -> None:
    """Who was told to stop stops, with the failure as its cause."""
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise ValueError("the work failed")

    caller = asyncio.create_task(to_the_end(work()))
    await _turn()
    caller.cancel()
    await _turn()
    may_end.set()

    with pytest.raises(asyncio.CancelledError) as cancelled:
        await caller
    assert isinstance(cancelled.value.__cause__, ValueError)


async def _turn() -> None:
    """Let every task that can go on take one step."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done
