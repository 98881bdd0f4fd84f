"""
Run once and count; then die everywhere, restart on what was durable, and check.

A run is a line of processes over one world: each has its fate, the last one lives. When the
world has leases (`Scenario.expire`), one more process works after they have run out, and a
process can also be stalled instead of killed: it goes on when another has done its work.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass, field

from onefold.testing.crash.invariants import Effect, Violation, judged
from onefold.testing.crash.points import Crash, Reaper
from onefold.testing.crash.report import FailedRun, difference
from onefold.testing.marks import collected

Attempt = Callable[[Reaper], Awaitable[None]]

_THEN = " + "  # between the fates of one process and the next
_OF = " @"  # between the fates and the number of messages


class Hung(Exception):
    """A process did not end: it waits for ever, perhaps for what a dead one held."""


async def _nothing() -> None:
    """No promise of the user's own."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    What is explored: one world a run, made anew, in which a process may be started twice.

    Attributes:
        run: Start a process over the world and let it work until all is done; called again
            after a death, over what the first one left.
        check: Raise AssertionError when a promise of your own did not hold.
        expected: The effects that must happen exactly once, in the order of each key.
        effects: Those that did happen, in their order.
        repeats: Effects may come again under the same name, as messages of a relay may.
        claims: The claims that nobody has ended; there must be none in the end.
        expire: Let every lease run out that a dead or stalled process may have left.
        state: What is durable, for the difference that a report shows.
        patience_s: After which a process that has not ended waits for ever; of real time.
        close: Let go of the world.
    """

    run: Attempt
    check: Callable[[], Awaitable[None]] = _nothing
    expected: Sequence[Effect] = ()
    effects: Callable[[], Awaitable[Sequence[Effect]]] | None = None
    repeats: bool = False
    claims: Callable[[], Awaitable[Collection[object]]] | None = None
    expire: Callable[[], object] | None = None
    state: Callable[[], Awaitable[Mapping[str, object]]] | None = None
    patience_s: float = 30.0
    close: Callable[[], Awaitable[None]] = _nothing

    async def complaints(self) -> list[Violation]:
        """Which promises do not hold now: ours first, then the user's."""
        broken = []
        if self.effects is not None:
            broken += judged(self.expected, await self.effects(), repeats=self.repeats)
        if self.claims is not None:
            broken += [Violation("claim", f"{one} never ends") for one in await self.claims()]
        try:
            await self.check()
        except AssertionError as wrong:
            broken.append(Violation("check", str(wrong)))
        return broken


@dataclass
class Explored:
    """
    What an exploration found.

    Attributes:
        deaths: What every run died of, by name; two deaths of one run joined by ` + `.
        broken: Those after which a promise did not hold, and what the report says.
        marks: How often each `sometimes` was reached.
        runs: How many worlds were made.
    """

    deaths: list[str] = field(default_factory=list)
    broken: dict[str, FailedRun] = field(default_factory=dict)
    marks: Counter[str] = field(default_factory=Counter)
    runs: int = 0

    def verify(self) -> None:
        """
        Raise the first failure: that of the fewest deaths, the earliest of them.

        Raises:
            AssertionError: with the report.
        """
        if self.broken:
            first = min(self.broken.values(), key=lambda failure: failure.fates.count(_THEN))
            told = f"{len(self.broken)} of {len(self.deaths)} runs broke a promise; the first:"
            raise AssertionError(f"{told}\n{first}")


Make = Callable[..., Scenario | Awaitable[Scenario]]


async def explore(
    make: Make,
    *,
    deaths: int = 1,
    messages: int | None = None,
    replay: str | None = None,
    replay_line: str = "explore(…, replay={!r})",
    at_once: int = 1,
) -> Explored:
    """
    Die at every boundary of the scenario's run, and restart after each.

    Args:
        make: A fresh scenario over a fresh world, the same at every call.
        deaths: How many in a row: with 2 the restarted process dies everywhere as well.
        messages: When given, `make` is called with this number; after a failure it is
            called with smaller ones, and the smallest that still fails is reported.
        replay: Only this run, as its report named it.
        replay_line: How a report tells to replay, `{!r}` for the run's name.
        at_once: How many worlds side by side, each in a thread and an event loop of its own:
            for real servers, where a death costs waiting. `make` must then share nothing
            between worlds but the servers.

    Returns:
        Every death by name, and for those after which a promise was broken, the report.

    Raises:
        AssertionError: a promise is broken although nothing dies, or the scenario is not
            the same at every call.
    """
    if replay is not None:
        fates, _, size = replay.partition(_OF)
        return await _replayed(_Search(make, int(size) if size else messages, replay_line), fates)
    found = await _explored(_Search(make, messages, replay_line, at_once), deaths)
    for fewer in range(1, messages or 1) if found.broken else ():
        smaller = await _explored(_Search(make, fewer, replay_line, at_once), deaths)
        if smaller.broken:
            return smaller
    return found


async def _replayed(search: "_Search", fates: str) -> Explored:
    with collected() as search.found.marks:
        await search.record(tuple(fates.split(_THEN)))
    return search.found


async def _explored(search: "_Search", deaths: int) -> Explored:
    found = search.found
    with collected() as found.marks:
        healthy = await search.run(())
        found.runs += 1
        if healthy.broken:
            raise AssertionError(search.failure("nothing dies", healthy))
        search.whole = healthy.state
        await search.deepen((), healthy.passed, deaths)
    return found


@dataclass(frozen=True, kw_only=True)
class _Run:
    """How one run ended: its promises, its durable state, what its last process passed by."""

    broken: list[Violation]
    state: Mapping[str, object]
    passed: Sequence[str]


class _Search:
    """One exploration: makes worlds and runs lines of processes over them."""

    def __init__(
        self, make: Make, messages: int | None, replay_line: str, at_once: int = 1
    ) -> None:
        self._make, self._messages, self._replay_line = make, messages, replay_line
        self._at_once = at_once
        self.found = Explored()
        self.whole: Mapping[str, object] = {}

    async def deepen(self, fates: tuple[str, ...], passed: Sequence[str], deaths: int) -> None:
        """Let one process more die, at each of the boundaries that it passed."""
        lines = [(*fates, fate) for fate in dict.fromkeys(passed)]
        runs = await self._side_by_side(lines) if self._at_once > 1 else {}
        for line in lines:
            run = await self.record(line, runs.get(line))
            # What one death breaks need not be shown again by two.
            if deaths > len(line) and not run.broken:
                await self.deepen(line, run.passed, deaths)

    async def _side_by_side(
        self, lines: Sequence[tuple[str, ...]]
    ) -> Mapping[tuple[str, ...], _Run]:
        """Make these runs, so many at once, in threads that know the marks of this one."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(self._at_once) as threads:
            runs = [
                loop.run_in_executor(threads, copy_context().run, asyncio.run, self.run(line))
                for line in lines
            ]
            return dict(zip(lines, await asyncio.gather(*runs), strict=True))

    async def record(self, fates: tuple[str, ...], run: _Run | None = None) -> _Run:
        """Make one run, if it was not made, and keep what it broke."""
        run = run or await self.run(fates)
        name = _THEN.join(fates)
        self.found.runs += 1
        self.found.deaths.append(name)
        if run.broken:
            self.found.broken[name] = self.failure(name, run)
        return run

    def failure(self, name: str, run: _Run) -> FailedRun:
        """The report of a run."""
        return FailedRun(
            fates=name,
            broken=run.broken,
            difference=difference(self.whole, run.state),
            messages=self._messages,
            replay=self._replay_line.format(
                name if self._messages is None else f"{name}{_OF}{self._messages}"
            ),
        )

    async def run(self, fates: tuple[str, ...]) -> _Run:
        """A fresh world; a process for each fate, one that lives, one after the leases."""
        async with self._world() as scenario:
            broken, reaper = await _line(scenario, fates)
            if scenario.expire is not None and not broken:
                scenario.expire()
                broken = await _alive(scenario, Reaper())
            broken = broken or await scenario.complaints()
            state: Mapping[str, object] = {}
            if scenario.state is not None and (broken or not fates):
                state = await scenario.state()
            return _Run(broken=broken, state=state, passed=reaper.seen)

    @asynccontextmanager
    async def _world(self) -> AsyncIterator[Scenario]:
        made = self._make() if self._messages is None else self._make(self._messages)
        scenario = await made if inspect.isawaitable(made) else made
        try:
            yield scenario
        finally:
            await scenario.close()


async def _line(scenario: Scenario, fates: tuple[str, ...]) -> tuple[list[Violation], Reaper]:
    """Processes that meet their fates, then one that lives; what it raised, what it passed."""
    for fate in fates:
        reaper = Reaper(fatal=fate, overtaken=_overtaken(scenario))
        broken = await _until_struck(scenario, reaper)
        if broken:
            return broken, reaper
        if not reaper.struck:
            raise AssertionError(f"not the same at every call: no process came to {fate}")
    reaper = Reaper(overtaken=_overtaken(scenario))
    if fates and fates[-1].endswith(":stalled"):
        return [], reaper  # it did not die, and another has worked meanwhile
    return await _alive(scenario, reaper), reaper


def _overtaken(scenario: Scenario) -> Callable[[], Awaitable[None]] | None:
    expire = scenario.expire
    if expire is None:
        return None

    async def another_works() -> None:
        expire()
        await _process(scenario, Reaper())

    return another_works


async def _until_struck(scenario: Scenario, reaper: Reaper) -> list[Violation]:
    """One process; an error of its own is its end only when its fate provoked it."""
    try:
        await _process(scenario, reaper)
    except Exception as error:  # noqa: BLE001 (whatever it is, a process has ended with it)
        if not reaper.struck:
            return [Violation("raised", repr(error))]
    return []


async def _alive(scenario: Scenario, reaper: Reaper) -> list[Violation]:
    try:
        await _process(scenario, reaper)
    except Exception as error:  # noqa: BLE001 (as above: it is told, not raised)
        return [Violation("raised", repr(error))]
    return []


async def _process(scenario: Scenario, reaper: Reaper) -> None:
    """Run one process to its end or its death; none of its tasks outlives it."""
    before = asyncio.all_tasks()
    process = asyncio.ensure_future(_run(scenario, reaper))
    _, hangs = await asyncio.wait((process,), timeout=scenario.patience_s)
    for waiting in hangs:
        waiting.cancel()
        await asyncio.wait((waiting,))
    rest = asyncio.all_tasks() - before - {process}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    if hangs:
        raise Hung(f"after {scenario.patience_s} s")
    error = None if process.cancelled() else process.exception()
    if error is not None and not reaper.dead:
        raise error


async def _run(scenario: Scenario, reaper: Reaper) -> None:
    try:
        await scenario.run(reaper)
    except (Crash, BaseExceptionGroup) as crash:
        if not _is_crash(crash):
            raise


def _is_crash(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_is_crash(inner) for inner in error.exceptions)
    return isinstance(error, Crash)
