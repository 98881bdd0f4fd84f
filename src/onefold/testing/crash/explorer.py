"""Run once and count; then die everywhere, restart on what was durable, and check."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from onefold.testing.crash.points import Crash, Reaper

Attempt = Callable[[Reaper], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    What is explored: one world a run, made anew, in which a process may be started twice.

    Attributes:
        run: Start a process over the world and let it work until all is done; called again
            after a death, over what the first one left.
        check: Raise AssertionError when something was lost, doubled or out of order.
    """

    run: Attempt
    check: Callable[[], Awaitable[None]]


@dataclass
class Explored:
    """What an exploration found: the deaths it died, and those that broke a promise."""

    deaths: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


async def explore(make: Callable[[], Scenario]) -> Explored:
    """
    Die at every boundary of the scenario's run, one death a run, and restart after each.

    Args:
        make: A fresh scenario over a fresh world, the same at every call.

    Returns:
        Every death by name, and for those after which `check` failed, what it said.
    """
    reaper = Reaper()
    alive = make()
    await alive.run(reaper)
    await alive.check()
    found = Explored(deaths=list(dict.fromkeys(reaper.seen)))
    for death in found.deaths:
        complaint = await _die_once(make(), death)
        if complaint is not None:
            found.broken[death] = complaint
    return found


async def _die_once(scenario: Scenario, death: str) -> str | None:
    try:
        await scenario.run(Reaper(fatal=death))
    except (Crash, BaseExceptionGroup) as crash:
        if not _is_crash(crash):
            raise
    await scenario.run(Reaper())
    try:
        await scenario.check()
    except AssertionError as broken:
        return str(broken)
    return None


def _is_crash(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_is_crash(inner) for inner in error.exceptions)
    return isinstance(error, Crash)
