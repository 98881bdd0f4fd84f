"""Many schedules of one scenario: by chance, or all there are; the one that fails, replayed."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from onefold.testing.crash.explorer import Make, Scenario
from onefold.testing.crash.invariants import Violation
from onefold.testing.crash.points import Reaper
from onefold.testing.crash.report import FailedRun, difference
from onefold.testing.marks import collected
from onefold.testing.schedule.loop import Label, ScheduleLoop, turn
from onefold.testing.schedule.strategies import ByChance, Everything, Pruned, Replayed

__all__ = ["Schedule", "Schedules", "explore_schedules", "racing"]

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Schedule:
    """
    One run, as its scenario sees it.

    Workers share nothing but what they reach through `port`: only there can others come
    between them, and only that is known to the exhaustive search. Pass `together` what runs
    side by side; tasks that a worker starts belong to it.
    """

    def __init__(self, loop: ScheduleLoop) -> None:
        self._loop = loop
        self.clock = ScheduleClock(loop)

    def port(self, inner: Any, name: str) -> Any:
        """*inner* with a moment before each call in which any other worker may run."""
        return _Shared(inner, name, self)

    async def meet(self, resource: str) -> None:
        """Let others go first; the next step touches *resource*, and nothing else shared."""
        loop = self._loop
        loop.labels[loop.last] = Label(_worker_of.get(), resource)
        await turn()

    async def wait(self, seconds: float) -> None:
        """Let so much virtual time pass for this task; whoever can run, runs before."""
        await asyncio.sleep(seconds)

    async def together(self, *workers: Coroutine[Any, Any, Any]) -> list[Any]:
        """What the *workers* give, each in a task of its own; the first error, when all ended."""
        tasks = []
        for number, worker in enumerate(workers, start=1):
            context = copy_context()
            context.run(_worker_of.set, number)
            tasks.append(self._loop.create_task(worker, name=f"worker {number}", context=context))
            label = Label(number, f"of {number} alone")  # up to its first call it meets nobody
            self._loop.labels[self._loop.number(tasks[-1])] = label
        await self._all_done(tasks)
        return [task.result() for task in tasks]

    async def _all_done(self, tasks: Sequence["asyncio.Task[Any]"]) -> None:
        """Wake once, after the last: a step of this task between theirs would be a choice."""
        over, left = self._loop.create_future(), len(tasks)

        def one_done(_: object) -> None:
            nonlocal left
            left -= 1
            if not left and not over.done():
                over.set_result(None)

        for task in tasks:
            task.add_done_callback(one_done)
        if tasks:
            await over


_worker_of: ContextVar[int] = ContextVar("onefold_worker", default=0)


class ScheduleClock:
    """A `core.clock.Clock` that shows the loop's virtual time."""

    def __init__(
        self, loop: ScheduleLoop, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)
    ) -> None:
        self._loop, self._start = loop, start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time())


class _Shared:
    """A port at whose every call another worker may come first."""

    def __init__(self, inner: Any, name: str, schedule: Schedule) -> None:
        self._inner, self._name, self._meet = inner, name, schedule.meet

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._inner, attribute)
        if not callable(found):
            return found
        name, meet = self._name, self._meet

        async def call(*args: Any, **named: Any) -> Any:
            await meet(name)
            return await found(*args, **named)

        async def met(given: Awaitable[Any]) -> Any:
            await meet(name)
            return await given

        def maybe(*args: Any, **named: Any) -> Any:  # redis-py's are plain, and give coroutines
            given = found(*args, **named)
            return met(given) if inspect.isawaitable(given) else given

        chosen = call if inspect.iscoroutinefunction(found) else maybe
        setattr(self, attribute, chosen)
        return chosen


@dataclass
class Schedules:
    """
    What was run.

    Attributes:
        runs: How many schedules.
        pruned: How many were left out because they differ in nothing from another.
        complete: Whether these were all there are, within the bound on switches.
        failure: The first that failed, with the fewest switches that still fail.
        marks: How often each `sometimes` was reached.
    """

    runs: int = 0
    pruned: int = 0
    complete: bool = False
    failure: FailedRun | None = None
    marks: Counter[str] = field(default_factory=Counter)

    def verify(self) -> None:
        """
        Raise the failure that was found.

        Raises:
            AssertionError: with the report.
        """
        if self.failure is not None:
            raise AssertionError(f"schedule {self.runs} broke a promise\n{self.failure}")


Run = Callable[..., Awaitable[None]]  # of a Schedule, and of a number of messages if asked

_OF = " @"  # between the schedule and the number of messages


class BrokenPromises(AssertionError):
    """What did not hold after a run, and how its durable state differs from a whole one's."""

    def __init__(self, broken: Sequence[Violation], lines: Sequence[str]) -> None:
        super().__init__("; ".join(map(str, broken)))
        self.broken, self.lines = broken, lines


def explore_schedules(
    scenario: Run,
    *,
    runs: int = 1000,
    seed: object = 0,
    exhaustive: bool = False,
    switches: int | None = None,
    messages: int | None = None,
    replay: str | None = None,
    replay_line: str = "explore_schedules(…, replay={!r})",
) -> Schedules:
    """
    Run *scenario* under many schedules, until one fails.

    Args:
        scenario: Makes its world, lets workers run in it, asserts; anew at every call.
        runs: How many schedules at the most.
        seed: Of the choices by chance.
        exhaustive: All schedules instead, each once; see `strategies.Everything`.
        switches: With `exhaustive`, only those with at most so many switches away from a
            worker that could go on. Two or three find nearly everything.
        messages: When given, the scenario is called with this number too; after a failure it
            is searched with smaller ones, and the smallest that still fails is reported.
        replay: Only this schedule, as its report named it.
        replay_line: How a report tells to replay, `{!r}` for the schedule.
    """
    if replay is not None:
        choices, _, size = replay.partition(_OF)
        again = _Search(scenario, replay_line, int(size) if size else messages)
        return _collected(again, lambda: again.replayed(choices))

    def searched(number: int | None) -> Schedules:
        search = _Search(scenario, replay_line, number)
        if exhaustive:
            return _collected(search, lambda: search.all(runs, switches))
        return _collected(search, lambda: search.by_chance(runs, seed))

    found = searched(messages)
    for fewer in range(1, messages or 1) if found.failure is not None else ():
        smaller = searched(fewer)
        if smaller.failure is not None:
            return smaller
    return found


def _collected(search: "_Search", run: Callable[[], Schedules]) -> Schedules:
    with collected() as search.found.marks:
        return _alone(run)


def _alone(search: Callable[[], Schedules]) -> Schedules:
    """Run in this thread, or where a loop is running in it, in one of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return search()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, search).result()


class _Search:
    """One exploration of schedules."""

    def __init__(self, scenario: Run, replay_line: str, messages: int | None) -> None:
        self._scenario, self._replay_line, self._messages = scenario, replay_line, messages
        self.found = Schedules()

    def by_chance(self, runs: int, seed: object) -> Schedules:
        random = Random(str(seed))  # noqa: S311 (chance that can be repeated)
        for _ in range(runs):
            self.found.runs += 1
            strategy = ByChance(random)
            if self._run(strategy) is not None:
                self._shrink(strategy.choices)
                break
        return self.found

    def all(self, runs: int, switches: int | None) -> Schedules:
        strategy = Everything(switches=switches)
        while not strategy.complete and self.found.runs < runs:
            strategy.restart()
            try:
                wrong = self._run(strategy)
            except Pruned:
                self.found.pruned += 1
            else:
                self.found.runs += 1
                if wrong is not None:
                    self._shrink(strategy.choices)
                    return self.found
            strategy.backtrack()
        self.found.complete = strategy.complete
        return self.found

    def replayed(self, schedule: str) -> Schedules:
        strategy = Replayed([_DIGITS.index(digit) for digit in schedule])
        self.found.runs = 1
        wrong = self._run(strategy)
        if wrong is not None:
            self.found.failure = self._failure(strategy.choices, wrong)
        return self.found

    def _run(self, strategy: Any) -> Exception | None:
        """What went wrong under this strategy, if anything."""
        loop = ScheduleLoop(strategy)
        try:
            size = () if self._messages is None else (self._messages,)
            loop.run(self._scenario(Schedule(loop), *size))  # type: ignore[arg-type]
        except Exception as wrong:  # noqa: BLE001 (whatever it is, this schedule provoked it)
            return wrong
        return None

    def _shrink(self, choices: Sequence[int]) -> None:
        """Take back every switch without which it still fails: later ones first."""
        best = list(choices)
        wrong = self._run(Replayed(best))
        if wrong is None:
            raise AssertionError("not the same at every call: a schedule fails once and not again")
        progress = True
        while progress:
            progress = False
            for index in reversed(range(len(best))):
                if not best[index]:
                    continue
                strategy = Replayed([*best[:index], 0, *best[index + 1 :]])
                error = self._run(strategy)
                if error is not None and sum(map(bool, strategy.choices)) < sum(map(bool, best)):
                    best, wrong, progress = strategy.choices, error, True
                    break
        self.found.failure = self._failure(best, wrong)

    def _failure(self, choices: Sequence[int], wrong: Exception) -> FailedRun:
        name = "".join(_DIGITS[choice] for choice in choices).rstrip("0") or "0"
        broken, lines = _told(wrong)
        size = "" if self._messages is None else f"{_OF}{self._messages}"
        return FailedRun(
            how="under schedule",
            fates=name,
            broken=broken,
            difference=lines,
            messages=self._messages,
            replay=self._replay_line.format(f"{name}{size}"),
        )


def _told(wrong: Exception) -> tuple[Sequence[Violation], Sequence[str]]:
    """Which promises it says are broken, and the difference of durable state."""
    if isinstance(wrong, BrokenPromises):
        return wrong.broken, wrong.lines
    if isinstance(wrong, AssertionError):
        return [Violation("check", str(wrong))], ()
    return [Violation("raised", repr(wrong))], ()


def racing(make: Make, *, workers: int = 2) -> Run:
    """
    A crash `Scenario` as one for schedules: that many of its processes at once, none dies.

    What `Reaper.mortal` wraps is where they meet. A report shows how the durable state
    differs from that which one process alone leaves.
    """

    async def race(schedule: Schedule, *messages: int) -> None:
        scenario = await _made(make, *messages)
        try:
            await schedule.together(*(_worker(scenario, schedule) for _ in range(workers)))
            if scenario.expire is not None:
                scenario.expire()
                await scenario.run(Reaper())
            broken = await scenario.complaints()
            if broken:
                after = {} if scenario.state is None else await scenario.state()
                whole = await _whole(make, *messages) if after else {}
                raise BrokenPromises(broken, difference(whole, after))
        finally:
            await scenario.close()

    return race


async def _made(make: Make, *messages: int) -> Scenario:
    made = make(*messages)
    return await made if inspect.isawaitable(made) else made


async def _whole(make: Make, *messages: int) -> Mapping[str, object]:
    """The durable state that one process leaves which nobody disturbs."""
    scenario = await _made(make, *messages)
    try:
        await scenario.run(Reaper())
        return {} if scenario.state is None else await scenario.state()
    finally:
        await scenario.close()


async def _worker(scenario: Scenario, schedule: Schedule) -> None:
    async def meet(call: str) -> None:
        await schedule.meet(call.partition("#")[0].rpartition(".")[0] or call.partition("#")[0])

    await scenario.run(Reaper(meet=meet))
