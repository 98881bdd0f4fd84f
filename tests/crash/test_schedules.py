"""The schedule explorer: races found without luck, replayed exactly, shown with few switches."""

import asyncio
from typing import Any

import pytest
from tests.crash.test_consumer_deaths import ForgetsClaims, World

from onefold.testing.crash.explorer import Scenario
from onefold.testing.crash.invariants import Effect
from onefold.testing.crash.points import Reaper
from onefold.testing.marks import sometimes
from onefold.testing.schedule.explorer import Schedule, explore_schedules, racing
from onefold.testing.schedule.loop import Stuck


class Register:
    """A value that two calls read and write: no call does both."""

    def __init__(self) -> None:
        self.value = 0

    async def get(self) -> int:
        return self.value

    async def put(self, value: int) -> None:
        self.value = value

    async def add(self, by: int) -> None:
        self.value += by


async def _count(register: Any, by: int = 1) -> None:
    await register.put(await register.get() + by)


async def lost_update(schedule: Schedule) -> None:
    """Two workers read, then write: the second overwrites the first."""
    register = Register()
    shared = schedule.port(register, "register")
    await schedule.together(_count(shared), _count(shared))
    assert register.value == 2, f"counted {register.value}"


async def atomic(schedule: Schedule) -> None:
    """The correct one: the store adds."""
    register = Register()
    shared = schedule.port(register, "register")
    await schedule.together(shared.add(1), shared.add(1))
    assert register.value == 2


@pytest.mark.parametrize("how", [{"exhaustive": True}, {"runs": 50, "seed": 3}])
def test_a_check_then_act_race_is_found_and_replayed(how: dict[str, Any]) -> None:
    """By chance or by trying all; the printed schedule fails alone, with one switch."""
    found = explore_schedules(lost_update, **how)

    assert found.failure is not None
    schedule = found.failure.fates
    again = explore_schedules(lost_update, replay=schedule)
    assert schedule.replace("0", "") == "1"  # one switch is enough
    assert again.failure is not None
    assert again.failure.fates == schedule
    with pytest.raises(AssertionError, match=f"counted 1(.|\n)*replay: .*'{schedule}'"):
        found.verify()


def test_a_correct_one_passes_every_schedule() -> None:
    """All of them, and the search says that these were all."""
    found = explore_schedules(atomic, exhaustive=True)

    found.verify()
    assert found.complete
    assert found.runs == 2  # who adds first


def test_steps_that_commute_are_run_in_one_order_only() -> None:
    """Workers that touch different things need one schedule; with no labels there are 70."""

    async def apart(schedule: Schedule) -> None:
        async def work(name: str) -> None:
            register = schedule.port(Register(), name)
            for _ in range(4):
                await register.add(1)

        await schedule.together(work("a"), work("b"))

    async def same(schedule: Schedule) -> None:
        register = schedule.port(Register(), "one")

        async def work() -> None:
            for _ in range(4):
                await register.add(1)

        await schedule.together(work(), work())

    assert explore_schedules(apart, exhaustive=True).runs == 1
    assert explore_schedules(same, exhaustive=True).runs == 70  # 8 over 4


def test_a_bound_on_switches_makes_the_tree_small() -> None:
    """No switch: one worker after the other, either first; one switch finds the lost update."""

    async def three(schedule: Schedule) -> None:
        register = Register()
        shared = schedule.port(register, "register")
        await schedule.together(*(_count(shared) for _ in range(3)))
        assert register.value == 3

    assert explore_schedules(three, exhaustive=True, switches=0).failure is None
    found = explore_schedules(three, exhaustive=True, switches=1)
    assert found.failure is not None


def test_time_jumps_and_ties_of_timers_are_choices() -> None:
    """Two that sleep for the same time may wake in either order; an hour takes no time."""

    async def tie(schedule: Schedule) -> None:
        order: list[str] = []

        async def sleeper(name: str) -> None:
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 3600)

        async def named(name: str) -> None:
            try:
                await sleeper(name)
            except TimeoutError:
                order.append(name)

        start = schedule.clock.now()
        await schedule.together(named("a"), named("b"))
        assert (schedule.clock.now() - start).total_seconds() == 3600
        sometimes("a woke first", when=order == ["a", "b"])
        sometimes("b woke first", when=order == ["b", "a"])

    found = explore_schedules(tie, exhaustive=True)

    found.verify()
    assert found.marks.keys() == {"a woke first", "b woke first"}


def test_a_deadlock_is_told_with_who_waits_where() -> None:
    """Two locks in two orders: some schedule never ends, and says at which lines."""

    async def crossed(schedule: Schedule) -> None:
        a, b = asyncio.Lock(), asyncio.Lock()

        async def take(first: asyncio.Lock, second: asyncio.Lock) -> None:
            async with first:
                await schedule.meet("between")
                async with second:
                    pass

        await schedule.together(take(a, b), take(b, a))

    found = explore_schedules(crossed, exhaustive=True)

    assert found.failure is not None
    assert "nothing can go on" in str(found.failure)
    assert "worker 1 at" in str(found.failure)


def test_a_loop_without_a_pause_is_told_from_a_long_one() -> None:
    """What goes on for ever fails, although something can always run."""

    async def spins(schedule: Schedule) -> None:
        register = schedule.port(Register(), "register")
        while await register.get() == 0:
            pass

    found = explore_schedules(spins, runs=1)

    assert found.failure is not None
    assert "goes on for ever" in str(found.failure)
    assert Stuck.__name__ == "Stuck"


async def test_schedules_can_be_explored_inside_a_running_loop() -> None:
    """An async test may use them too."""
    assert explore_schedules(atomic, runs=3).runs == 3


def test_a_scenario_that_changes_is_refused() -> None:
    """A failure that is not there again could not be replayed."""
    calls: list[int] = []

    async def once(schedule: Schedule) -> None:
        calls.append(1)
        assert len(calls) != 2

    with pytest.raises(AssertionError, match="not the same at every call"):
        explore_schedules(once, runs=5)


def test_two_consumers_of_a_group_race_under_every_kind_of_schedule() -> None:
    """Our consumer, two at once over one broker and one store: nothing lost or doubled."""
    found = explore_schedules(racing(lambda: World(max_batch=2).scenario()), runs=40, seed=1)

    found.verify()
    assert found.runs == 40


def test_a_consumer_without_an_inbox_is_caught_racing() -> None:
    """The twin doubles whatever is redelivered."""
    race = racing(lambda: World(ForgetsClaims, max_batch=9).scenario())

    assert explore_schedules(race, runs=20).failure is not None


def look_then_put(messages: int) -> Scenario:
    """Each of the messages is put on a shelf by whoever does not see it there: a race."""
    shelf: list[int] = []

    class Shelf:
        async def has(self, n: int) -> bool:
            return n in shelf

        async def put(self, n: int) -> None:
            shelf.append(n)

    async def run(reaper: Reaper) -> None:
        mine = reaper.mortal(Shelf(), "shelf")
        for n in range(messages):
            if not await mine.has(n):
                await mine.put(n)

    async def effects() -> list[Effect]:
        return [Effect(n) for n in shelf]

    async def state() -> dict[str, object]:
        return {"shelf": sorted(shelf)}

    expected = [Effect(n) for n in range(messages)]
    return Scenario(run=run, expected=expected, effects=effects, state=state)


def test_a_race_is_shown_with_the_fewest_messages_and_what_it_left() -> None:
    """Of five messages one is enough; the report tells the promise, the state, the replay."""
    race = racing(look_then_put)

    found = explore_schedules(race, messages=5)

    assert found.failure is not None
    assert found.failure.messages == 1
    report = str(found.failure)
    assert "doubled: 0, 2 times" in report
    assert "- shelf = [0]" in report
    assert "+ shelf = [0, 0]" in report
    assert f"replay: explore_schedules(…, replay='{found.failure.fates} @1')" in report
    again = explore_schedules(race, messages=5, replay=f"{found.failure.fates} @1")
    assert str(again.failure) == report
