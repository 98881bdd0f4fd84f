"""
An event loop that owns every choice: which ready task runs next, and what time it is.

Theory. The real loop runs what is ready in the order in which it became ready; what makes
two runs differ is when answers come in. Here an answer may come at any time: of all tasks
that could go on, a strategy picks one, again and again. A task has at most one step ready,
so a schedule is the list of its choices. Callbacks of futures are plumbing and run at once,
in their order; timers that are due at one instant are choices like tasks. Time stands still
while anything can run, and then jumps to the next timer.

There are no sockets, no threads and no processes: under a schedule, the world is in memory.
"""

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context, copy_context
from heapq import heappop, heappush
from itertools import count
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

__all__ = ["Handle", "Label", "ScheduleLoop", "Strategy", "Stuck", "turn"]

_ACTOR = attrgetter("actor")

_CLEAN_UP_STEPS = 10_000


class Stuck(AssertionError):
    """Nothing can run any more, or everything runs and nothing ends."""


class Label(NamedTuple):
    """What the next step of a task is known to touch: a worker's call of a shared resource."""

    worker: object
    resource: str

    def commutes(self, other: "Label | None") -> bool:
        """Whether the order of the two steps makes no difference."""
        if other is None:
            return False
        return self.worker != other.worker and self.resource != other.resource


class Strategy(Protocol):
    """Makes the choices of one run."""

    every_step: bool  # asked also where there is only one option

    def pick(self, ready: "Sequence[Handle]", labels: "Mapping[int, Label]", last: int) -> int:
        """
        The index of the step to run.

        Args:
            ready: The steps that could be next; first that of the task that ran last, if it
                can go on, then in the order in which their tasks were created.
            labels: What the next steps of tasks touch, by their number, where it is known.
            last: The number of the task that ran last.
        """
        ...


class Handle:
    """A callback that waits; as `asyncio.Handle`, and as light as can be."""

    # `actor`: the number of the task whose step it is, in the order of creation.
    __slots__ = ("actor", "args", "callback", "context", "dead", "due")

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
        due: float,
    ) -> None:
        self.callback, self.args, self.due = callback, args, due
        self.context = context if context is not None else copy_context()
        self.dead = False
        self.actor = 0

    def cancel(self) -> None:
        self.dead = True

    def cancelled(self) -> bool:
        return self.dead

    def when(self) -> float:
        return self.due


class _Turn:
    """Awaited, it lets others go first, if the strategy says so."""

    def __await__(self) -> Any:
        yield


turn = _Turn


# Untyped: half of what its class declares abstract is about sockets and processes.
_Loop: Any = asyncio.AbstractEventLoop


class ScheduleLoop(_Loop):  # type: ignore[misc]
    """
    Runs one coroutine to its end under a strategy. Used once.

    Args:
        strategy: Makes the choices.
        most_steps: After which a run counts as one that never ends.
    """

    def __init__(self, strategy: Strategy, *, most_steps: int = 20_000) -> None:
        self._strategy, self._left = strategy, most_steps
        self._now = 0.0
        self._ready: list[Handle] = []
        self._plumbing: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._sequence = count(1)
        self._numbers: dict[Any, int] = {}
        self._running = self._over = False
        self.labels: dict[int, Label] = {}
        self.last = 0
        self.steps = 0
        self.errors: list[BaseException] = []

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """
        The result of *main*; every task that it leaves behind is cancelled.

        Raises:
            Stuck: nothing can run any more, or too many steps were made.
            Others: what *main* raised, or else what a callback did.
        """
        before = events._get_running_loop()  # noqa: SLF001 (documented for such loops)
        events._set_running_loop(self)  # noqa: SLF001
        self._running = True
        try:
            task = self.create_task(main, name="the scenario")
            self._until_done(task)
            if self.errors and (task.cancelled() or task.exception() is None):
                raise self.errors[0]
            return task.result()
        finally:
            self._clean_up()
            self._running, self._over = False, True
            events._set_running_loop(before)  # noqa: SLF001

    def _until_done(self, task: "asyncio.Task[Any]") -> None:
        while not task.done():
            if not self._step():
                raise Stuck(f"nothing can go on: {self._waiting()}")
            self._left -= 1
            if self._left < 0:
                raise Stuck(f"it goes on for ever, at {self._now} s: {self._waiting()}")

    def _step(self) -> bool:
        """Run one step; False when there is none."""
        while self._plumbing:
            self._call(self._plumbing.popleft())
        ready = self._ready
        if not ready and not self._jump():
            return False
        ready = self._ready
        if len(ready) == 1 and not self._strategy.every_step:
            handle = ready.pop()
        elif ready:
            handle = self._chosen()
        else:
            return True  # a timer's callback was plumbing
        self.steps += 1
        self.last = handle.actor
        self._call(handle)
        return True

    def _chosen(self) -> Handle:
        ready, last = self._ready, self.last
        ready.sort(key=_ACTOR)
        # Who ran last comes first: choosing 0 everywhere means never to switch.
        for index, handle in enumerate(ready):
            if handle.actor == last:
                ready.insert(0, ready.pop(index))
                break
        handle = ready.pop(self._strategy.pick(ready, self.labels, last))
        self.labels.pop(handle.actor, None)
        return handle

    def _call(self, handle: Handle) -> None:
        if not handle.dead:
            try:
                handle.context.run(handle.callback, *handle.args)
            except Exception as error:  # noqa: BLE001 (as asyncio: a callback ends no loop)
                self.errors.append(error)

    def _jump(self) -> bool:
        """Let time pass until the next timer; all that are due then become ready."""
        timers = self._timers
        while timers and timers[0][2].dead:
            heappop(timers)
        if not timers:
            return False
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            _, number, handle = heappop(timers)
            if not handle.dead:
                handle.actor = -number  # a choice of its own, after the tasks' numbering
                self._ready.append(handle)
        return True

    def _waiting(self) -> str:
        tasks = [task for task in self._numbers if not task.done()]
        return ", ".join(f"{task.get_name()} at {_line_of(task)}" for task in tasks)

    def _clean_up(self) -> None:
        left = _CLEAN_UP_STEPS
        self._strategy = _InOrder()
        for task in self._numbers:
            if not task.done():
                task.cancel()
        while left and any(not task.done() for task in self._numbers) and self._step():
            left -= 1
        for task in self._numbers:
            if task.done() and not task.cancelled():
                task.exception()  # seen: nobody need be warned of it

    # -- what asyncio asks of a loop -------------------------------------------------------

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        handle = Handle(callback, args, context, self._now)
        owner = getattr(callback, "__self__", None)
        number = self._numbers.get(owner) if isinstance(owner, asyncio.Task) else None
        if number is None:
            self._plumbing.append(handle)
        else:
            handle.actor = number
            self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        handle = Handle(callback, args, context, when)
        heappush(self._timers, (when, next(self._sequence), handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def time(self) -> float:
        return self._now

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        number = len(self._numbers) + 1
        # The first step is put on hold until the task is numbered.
        plumbing, self._plumbing = self._plumbing, deque()
        task = asyncio.Task(coro, loop=self, name=name or f"task {number}", context=context)
        self._numbers[task] = number
        for handle in self._plumbing:
            handle.actor = number
            self._ready.append(handle)
        self._plumbing = plumbing
        return task

    def number(self, task: "asyncio.Task[Any]") -> int:
        """The number of *task* among those of this run, from 1."""
        return self._numbers[task]

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Run it here and now: a thread's choices are nobody's."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 (it is handed on)
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._over

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.errors.append(error)


class _InOrder:
    """Who became ready first runs first; for the clean-up."""

    every_step = False

    def pick(self, *_: object) -> int:
        return 0


def _line_of(task: "asyncio.Task[Any]") -> str:
    stack = task.get_stack(limit=1)
    if not stack:
        return "its start"
    code = stack[-1].f_code
    return f"{code.co_filename.rpartition('/')[2]}:{stack[-1].f_lineno} in {code.co_name}"
