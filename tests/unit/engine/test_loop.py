"""A loop: begins, outlives its errors, and ends when it is told to."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from onefold.engine.loop import Loop
from onefold.errors import StoreUnavailable

FOREVER_S = 3600.0


class Steps:
    """A step that counts its runs, tells of each, and does what it is told."""

    def __init__(self, *then: Callable[[], Awaitable[bool]]) -> None:
        self._then = list(then)
        self.runs = 0
        self.ran: asyncio.Queue[int] = asyncio.Queue()

    async def __call__(self) -> bool:
        self.runs += 1
        self.ran.put_nowait(self.runs)
        return await self._then.pop(0)() if self._then else False


async def _more() -> bool:
    return True


async def _nothing() -> bool:
    return False


async def _fail() -> bool:
    raise ValueError("this step fails")


async def _hang() -> bool:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def test_stop_before_start_is_fine() -> None:
    """A process that fails to start can stop all its loops."""
    loop = Loop("l", Steps(), every_s=FOREVER_S)

    await loop.stop()

    assert not loop.ready


async def test_start_twice_is_once() -> None:
    """The second start changes nothing."""
    steps = Steps(_hang, _hang)
    loop = Loop("l", steps, every_s=FOREVER_S)

    loop.start()
    loop.start()
    await steps.ran.get()

    assert (loop.ready, steps.runs) == (True, 1)
    await loop.stop()


async def test_stop_twice_is_once() -> None:
    """One after the other, and at the same time."""
    steps = Steps()
    loop = Loop("l", steps, every_s=FOREVER_S)
    loop.start()
    await steps.ran.get()

    await asyncio.gather(loop.stop(), loop.stop())
    await loop.stop()

    assert not loop.ready


async def test_a_stopped_loop_can_start_again() -> None:
    """Stopping is no end for good."""
    steps = Steps()
    loop = Loop("l", steps, every_s=FOREVER_S)
    for run in (1, 2):
        loop.start()
        assert await steps.ran.get() == run
        await loop.stop()

    assert not loop.ready


async def test_stop_right_after_start_is_fine() -> None:
    """Before the first step, none is run."""
    steps = Steps()
    loop = Loop("l", steps, every_s=FOREVER_S)

    loop.start()
    await loop.stop()

    assert (loop.ready, steps.runs) == (False, 0)


async def test_a_step_under_way_is_cancelled() -> None:
    """Stopping does not wait for a step that takes for ever."""
    steps = Steps(_hang)
    loop = Loop("l", steps, every_s=FOREVER_S)
    loop.start()
    await steps.ran.get()

    await loop.stop()

    assert steps.runs == 1


async def test_a_drained_loop_finishes_its_step_and_begins_no_other() -> None:
    """What is under way is done, and what it began is waited for."""
    release, finished = asyncio.Event(), asyncio.Event()

    async def held() -> bool:
        await release.wait()
        return True

    async def finish() -> None:
        finished.set()

    steps = Steps(held)
    loop = Loop("l", steps, every_s=FOREVER_S, finish=finish)
    loop.start()
    await steps.ran.get()

    draining = asyncio.create_task(loop.drain())
    await _turn()
    assert not draining.done()
    release.set()
    await draining

    assert (steps.runs, loop.ready, finished.is_set()) == (1, False, True)


async def test_draining_ends_a_pause() -> None:
    """A loop with nothing to do is over at once."""
    steps = Steps()
    loop = Loop("l", steps, every_s=FOREVER_S)
    loop.start()
    await steps.ran.get()

    async with asyncio.timeout(5):
        await asyncio.gather(loop.drain(), loop.drain())

    assert (steps.runs, loop.ready) == (1, False)


async def test_draining_cancels_a_step_that_only_waits() -> None:
    """It waits for a signal from outside, which may never come."""
    steps = Steps(_hang)
    loop = Loop("listening", steps, every_s=FOREVER_S, waits=True)
    loop.start()
    await steps.ran.get()

    async with asyncio.timeout(5):
        await loop.drain()

    assert not loop.ready


async def test_a_drained_loop_can_start_again() -> None:
    """Nor does a drain before the start disturb it."""
    steps = Steps()
    loop = Loop("l", steps, every_s=FOREVER_S)
    await loop.drain()
    for run in (1, 2):
        loop.start()
        assert await steps.ran.get() == run
        await loop.drain()

    assert not loop.ready


async def test_more_work_is_done_at_once() -> None:
    """There is no pause while a step says that there is more."""
    steps = Steps(_more, _more, _nothing)
    loop = Loop("l", steps, every_s=FOREVER_S)
    loop.start()

    assert [await steps.ran.get() for _ in range(3)] == [1, 2, 3]
    await loop.stop()


async def test_a_pause_is_short_when_it_is_set_so() -> None:
    """After it the next step runs."""
    steps = Steps()
    loop = Loop("l", steps, every_s=0.001)
    loop.start()

    assert [await steps.ran.get() for _ in range(3)] == [1, 2, 3]
    await loop.stop()


async def test_waking_ends_a_pause() -> None:
    """Who has work for it need not wait."""
    steps = Steps()
    loop = Loop("l", steps, every_s=FOREVER_S)
    loop.start()
    await steps.ran.get()

    loop.wake()

    assert await steps.ran.get() == 2
    await loop.stop()


async def test_waking_during_a_step_leaves_the_next_pause_out() -> None:
    """What came too late for this step is not left until the next pause is over."""
    awake = asyncio.Event()

    async def wait() -> bool:
        await awake.wait()
        return False

    steps = Steps(wait)
    loop = Loop("l", steps, every_s=FOREVER_S)
    loop.start()
    await steps.ran.get()

    loop.wake()
    awake.set()

    assert await steps.ran.get() == 2
    await loop.stop()


async def test_stop_right_after_waking_stops() -> None:
    """The end of a pause does not swallow the end of the loop."""
    for turns in range(4):
        steps = Steps()
        loop = Loop("l", steps, every_s=FOREVER_S)
        loop.start()
        await steps.ran.get()

        loop.wake()
        for _ in range(turns):
            await _turn()
        stopped, _ = await asyncio.wait((asyncio.create_task(loop.stop()),), timeout=2)

        assert stopped, f"the loop goes on when it is stopped {turns} turns after it was woken"


async def _turn() -> None:
    """Let every task that can go on take one step."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done


async def test_an_error_is_logged_and_the_loop_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One bad step costs a pause, and the log says which loop and why."""
    steps = Steps(_fail, _hang)
    loop = Loop("close idle sessions", steps, every_s=0.001)
    with caplog.at_level(logging.ERROR, "onefold.engine"):
        loop.start()
        await steps.ran.get()
        assert await steps.ran.get() == 2

    (record,) = caplog.records
    assert "close idle sessions" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(loop.last_error, ValueError)
    await loop.stop()


async def test_a_store_that_is_away_costs_a_line_a_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A loop may look twice a second: a traceback each would bury what else is told."""

    async def away() -> bool:
        raise StoreUnavailable("the connection was refused")

    steps = Steps(away, _hang)
    loop = Loop("deliver traces", steps, every_s=0.001)
    loop.start()
    for _ in range(2):
        await steps.ran.get()
    await loop.stop()

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().endswith(
        "deliver traces failed: store_unavailable: the connection was refused"
    )
    assert record.exc_info is None
    assert isinstance(loop.last_error, StoreUnavailable)


async def test_a_good_step_forgets_the_error() -> None:
    """The state that is shown is the present one."""
    steps = Steps(_fail, _more, _hang)
    loop = Loop("l", steps, every_s=0.001)
    loop.start()
    for _ in range(3):
        await steps.ran.get()

    assert loop.last_error is None
    await loop.stop()


async def test_stopping_can_itself_be_cancelled() -> None:
    """Who waits for a loop that takes long to end can be told to stop waiting."""
    release = asyncio.Event()

    async def stubborn() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()
        return False

    steps = Steps(stubborn)
    loop = Loop("l", steps, every_s=FOREVER_S)
    loop.start()
    await steps.ran.get()

    stopping = asyncio.create_task(loop.stop())
    for _ in range(3):
        await _turn()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    release.set()
