"""The crash explorer itself: what it finds, what it says, what it takes for a death."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import pytest

from onefold.errors import CommitUnknown
from onefold.testing.crash.explorer import Scenario, explore
from onefold.testing.crash.invariants import Effect, judged
from onefold.testing.crash.points import Crash, Mortal, Reaper
from onefold.testing.marks import sometimes


@dataclass
class Shelf:
    """A durable list, a durable set of marks, and a lease on the whole."""

    items: list[int] = field(default_factory=list)
    marks: set[int] = field(default_factory=set)
    held: bool = False

    async def put(self, item: int) -> None:
        self.items.append(item)

    async def mark(self, item: int) -> None:
        self.marks.add(item)

    async def take(self) -> bool:
        taken, self.held = not self.held, True
        return taken

    async def give_back(self) -> None:
        self.held = False


def scenario(work: Callable[[Any, int], Any], messages: int = 2, **more: Any) -> Scenario:
    """Every message is to be put on the shelf once; *work* does one of them."""
    shelf = Shelf()

    async def run(reaper: Reaper) -> None:
        mine = Mortal(shelf, reaper, "shelf")
        for n in range(messages):
            if n not in shelf.marks:
                await work(mine, n)

    async def effects() -> list[Effect]:
        return [Effect(item, "all") for item in shelf.items]

    async def state() -> dict[str, object]:
        return {"items": list(shelf.items), "marks": sorted(shelf.marks)}

    expected = [Effect(n, "all") for n in range(messages)]
    return Scenario(run=run, expected=expected, effects=effects, state=state, **more)


async def mark_first(shelf: Any, n: int) -> None:
    await shelf.mark(n)
    await shelf.put(n)


async def put_first(shelf: Any, n: int) -> None:
    await shelf.put(n)
    await shelf.mark(n)


async def test_a_report_says_what_was_lost_where_and_how_to_see_it_again() -> None:
    """Promise, death, difference of durable state, one line to replay."""
    found = await explore(lambda: scenario(mark_first))

    with pytest.raises(AssertionError) as raised:
        found.verify()
    report = str(raised.value)
    assert "dying at shelf.mark#1:after" in report
    assert "lost: 0" in report
    assert "- items = [0, 1]" in report
    assert "+ items = [1]" in report
    assert "replay: explore(…, replay='shelf.mark#1:after')" in report


async def test_a_replay_runs_that_death_alone() -> None:
    """What the report's line says is enough."""
    found = await explore(lambda: scenario(mark_first), replay="shelf.mark#2:after")

    assert list(found.broken) == ["shelf.mark#2:after"]
    assert found.deaths == ["shelf.mark#2:after"]


async def test_worlds_side_by_side_find_what_they_find_one_by_one() -> None:
    """In threads of their own: the same deaths in the same order, reports, runs and marks."""

    async def marked(shelf: Any, n: int) -> None:
        sometimes("worked")
        await mark_first(shelf, n)

    alone = await explore(lambda: scenario(marked), deaths=2)
    beside = await explore(lambda: scenario(marked), deaths=2, at_once=4)

    assert beside.deaths == alone.deaths
    assert {name: str(it) for name, it in beside.broken.items()} == {
        name: str(it) for name, it in alone.broken.items()
    }
    assert (beside.runs, beside.marks) == (alone.runs, alone.marks)
    assert "shelf.mark#1:after" in beside.broken


async def test_a_failure_is_shown_with_the_fewest_messages() -> None:
    """Of five messages one is enough to lose one."""
    found = await explore(lambda n: scenario(mark_first, n), messages=5)

    failure = next(iter(found.broken.values()))
    assert failure.messages == 1
    again = await explore(
        lambda n: scenario(mark_first, n), messages=5, replay="shelf.mark#1:after @1"
    )
    assert (
        str(again.broken["shelf.mark#1:after"]).partition("replay")[2]
        == (str(failure).partition("replay")[2])
    )


async def test_a_process_that_waits_for_ever_breaks_a_promise() -> None:
    """What a dead process held and nobody gives back: told, not waited for."""

    def make() -> Scenario:
        lock = asyncio.Lock()

        async def run(reaper: Reaper) -> None:
            await lock.acquire()
            await reaper.pass_by("locked:after")
            lock.release()

        return Scenario(run=run, patience_s=0.05)

    found = await explore(make)

    assert "Hung" in str(found.broken["locked:after"])


async def test_doubled_is_told_from_lost() -> None:
    """Putting before marking doubles, unless repeats are allowed."""
    found = await explore(lambda: scenario(put_first))
    allowed = await explore(lambda: scenario(put_first, repeats=True))

    assert "doubled: 0, 2 times" in str(found.broken["shelf.put#1:after"])
    assert allowed.broken == {}


async def test_a_healthy_run_that_fails_is_told_at_once() -> None:
    """If nothing need die to break a promise, no death is blamed for it."""

    async def twice(shelf: Any, n: int) -> None:
        await shelf.put(n)
        await shelf.put(n)
        await shelf.mark(n)

    with pytest.raises(AssertionError, match="nothing dies"):
        await explore(lambda: scenario(twice))


async def test_the_second_of_two_deaths_is_found() -> None:
    """What one death leaves, a second one can break; a pair is reported only then."""
    shelf_of: list[Shelf] = []

    def make() -> Scenario:
        shelf, starts = Shelf(), []
        shelf_of.append(shelf)

        async def run(reaper: Reaper) -> None:
            starts.append(reaper)
            mine = Mortal(shelf, reaper, "shelf")
            if not shelf.items and len(starts) < 3:  # whoever starts third takes it for done
                await mine.mark(0)
                await mine.put(0)

        async def effects() -> list[Effect]:
            return [Effect(item) for item in shelf.items]

        return Scenario(run=run, expected=[Effect(0)], effects=effects)

    assert (await explore(make)).broken == {}
    deep = await explore(make, deaths=2)
    assert "shelf.mark#1:before + shelf.mark#1:after" in deep.broken
    assert deep.runs == 1 + 4 + 3 * 4 + 0  # the fourth death had put it: nothing is left to die in


async def test_the_dead_do_nothing_more() -> None:
    """A `finally` of a process that died gives nothing back."""

    async def tidy(shelf: Any, n: int) -> None:
        if not await shelf.take():
            return
        try:
            await shelf.put(n)
            await shelf.mark(n)
        finally:
            await shelf.give_back()

    found = await explore(lambda: scenario(tidy, repeats=True))

    assert "lost: 0" in str(found.broken["shelf.take#1:after"])
    assert found.broken.keys() >= {"shelf.put#1:before", "shelf.mark#1:before"}


async def test_tasks_of_a_dead_process_end_with_it() -> None:
    """What it had begun in the background does not work on over the restarted one."""
    shelf = Shelf()

    async def beat(mine: Any) -> None:
        while True:
            await asyncio.sleep(0)
            await mine.put(1)

    async def run(reaper: Reaper) -> None:
        mine = Mortal(shelf, reaper, "shelf")
        beating = asyncio.create_task(beat(mine))
        await asyncio.sleep(0)
        try:
            await mine.mark(0)
        finally:
            beating.cancel()

    await explore(lambda: Scenario(run=run), replay="shelf.mark#1:after")

    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []


async def test_a_lost_answer_leaves_the_process_alive() -> None:
    """`commit:unknown` raises CommitUnknown after the commit, and the process may go on."""

    class Store:
        def __init__(self) -> None:
            self.committed: list[str] = []

        def begin(self) -> Any:
            from contextlib import asynccontextmanager

            @asynccontextmanager
            async def begun() -> Any:
                yield self
                self.committed.append("x")

            return begun()

    def make() -> Scenario:
        store = Store()

        async def run(reaper: Reaper) -> None:
            if store.committed:
                return
            try:
                async with reaper.mortal(store, "store").begin():
                    pass
            except CommitUnknown:
                sometimes("asked again")
                async with reaper.mortal(store, "store").begin():
                    pass

        async def effects() -> list[Effect]:
            return [Effect(one) for one in store.committed]

        return Scenario(run=run, expected=[Effect("x")], effects=effects)

    found = await explore(make)

    assert list(found.broken) == ["transaction#1.commit:unknown"]
    assert found.marks["asked again"] == 1


async def test_a_stalled_process_goes_on_after_another_has_worked() -> None:
    """Where there are leases, a process that sleeps through its own is tried as well."""

    def make() -> Scenario:
        shelf = Shelf()

        async def run(reaper: Reaper) -> None:
            mine = Mortal(shelf, reaper, "shelf")
            if 0 not in shelf.marks and await mine.take():
                await mine.put(0)  # without asking whether the lease still stands
                await mine.mark(0)
                await mine.give_back()

        async def effects() -> list[Effect]:
            return [Effect(item) for item in shelf.items]

        def expire() -> None:
            shelf.held = False

        return Scenario(run=run, expected=[Effect(0)], effects=effects, expire=expire)

    found = await explore(make)

    assert "shelf.take#1:after:stalled" in found.broken
    assert "shelf.mark#1:after:stalled" not in found.broken


async def test_a_claim_that_nobody_ends_is_a_broken_promise() -> None:
    """Every claim ends: what a dead process held must not be held for ever."""
    held: list[str] = []

    async def run(reaper: Reaper) -> None:
        held.append("one")
        await reaper.pass_by("held:after")
        held.clear()

    async def claims() -> list[str]:
        return held

    found = await explore(lambda: Scenario(run=run, claims=claims), replay="held:after")
    assert found.broken == {}

    async def never(reaper: Reaper) -> None:
        held.append("one")
        await reaper.pass_by("held:after")

    with pytest.raises(AssertionError, match="claim: one never ends"):
        await explore(lambda: Scenario(run=never, claims=claims))


async def test_a_scenario_that_changes_is_refused() -> None:
    """A death that is not reached again would be a test of nothing."""
    sizes = chain([3], repeat(1))

    with pytest.raises(AssertionError, match="not the same at every call"):
        await explore(lambda: scenario(put_first, next(sizes), repeats=True))


async def test_a_batch_can_be_cut_between_two_acknowledgements() -> None:
    """Of three messages the broker took one, and the process died."""

    class Broker:
        def __init__(self) -> None:
            self.got: list[int] = []

        async def publish(self, messages: list[int]) -> list[None]:
            self.got += messages
            return [None] * len(messages)

    broker, reaper = Broker(), Reaper(fatal="broker.ack#1:after")

    with pytest.raises(Crash):
        await Mortal(broker, reaper, "broker").publish([1, 2, 3])

    assert broker.got == [1]


def test_what_our_own_promises_are() -> None:
    """Lost, doubled, never asked for, out of order: each is told by its name."""
    asked = [Effect(1, "a"), Effect(2, "a"), Effect(3, "b")]

    def promises(*got: Effect) -> list[str]:
        return [broken.promise for broken in judged(asked, got)]

    assert promises(*asked) == []
    assert promises(*asked[:2]) == ["lost"]
    assert promises(*asked, asked[0]) == ["doubled"]
    assert promises(*asked, Effect(4)) == ["unasked"]
    assert promises(asked[1], asked[0], asked[2]) == ["order"]
