"""Records that are kept apart from the effect, each broken in its own way, are caught."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.crash.test_consumer_deaths import World

from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.memory.watermarks import MemoryWatermarks
from onefold.core.envelope import Event
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.dedup import AtWatermark, InboxFirst, InboxLast, Leased, Run
from onefold.engine.delivery import Delivery, Environment, HandlerTransaction
from onefold.engine.failure_policy import Park
from onefold.engine.idempotent import AsyncConfirm
from onefold.engine.repeat_cache import RepeatCache
from onefold.ports.unit_of_work import Claimed, UnitOfWork
from onefold.testing.crash.explorer import explore
from onefold.testing.crash.points import Mortal, Reaper


def recording(record: Callable[..., InboxFirst]) -> Callable[..., Consumer]:
    """Consumers whose record is this one."""

    def build(spec: ConsumerSpec, **parts: Any) -> Consumer:
        consumer = Consumer(spec, **parts)
        consumer._record = record(spec, parts["uow"], parts["env"])
        return consumer

    return build


class CommitsRepeats(InboxLast):
    """Twin: the row is written last, and the effect of a repeat stays."""

    async def apply(self, part: Sequence[Delivery], run: Run) -> Sequence[Claimed]:
        async with self._uow.begin() as tx:
            await run(tx, part, range(len(part)))
            return await self._claim(tx, part)


class _Apart(AtWatermark):
    def __init__(self, spec: ConsumerSpec, uow: UnitOfWork, env: Environment) -> None:
        super().__init__(spec, uow, env, MemoryWatermarks())


class MarksFirst(_Apart):
    """Twin: the mark moves in a transaction of its own, before the effect."""

    async def apply(self, part: Sequence[Delivery], run: Run) -> Sequence[Claimed]:
        async with self._uow.begin() as tx:
            new = await self._pass(tx, part)
        async with self._uow.begin() as tx:
            await run(tx, part, new)
        return [Claimed.FIRST] * len(part)


class MarksLater(_Apart):
    """Twin: the mark moves in a transaction of its own, after the effect."""

    async def apply(self, part: Sequence[Delivery], run: Run) -> Sequence[Claimed]:
        async with self._uow.begin() as tx:
            held = await self._marks.held(tx, "c", [d.message.partition for d in part])
            places = [(d.message.position, held.get(d.message.partition, -1)) for d in part]
            await run(tx, part, [i for i, (here, mark) in enumerate(places) if here > mark])
        async with self._uow.begin() as tx:
            await self._pass(tx, part)
        return [Claimed.FIRST] * len(part)


async def test_an_optimist_that_commits_repeats_is_caught() -> None:
    """A repeat doubles even if nothing dies."""
    with pytest.raises(AssertionError, match="2, 4, 2"):
        await explore(lambda: World(recording(CommitsRepeats), max_batch=9).scenario())


async def test_a_mark_that_moves_before_the_effect_is_caught() -> None:
    """What was marked and not applied is lost."""
    build = recording(MarksFirst)
    found = await explore(lambda: World(build, producer_repeats=False).scenario())

    assert "transaction#1.commit:after" in found.broken


async def test_a_mark_that_moves_after_the_effect_is_caught() -> None:
    """What was applied and not marked is doubled."""
    build = recording(MarksLater)
    found = await explore(lambda: World(build, producer_repeats=False).scenario())

    assert "transaction#1.commit:after" in found.broken


class FailingWorld(World):
    """Event 2 can never succeed: it is parked, once, whatever dies meanwhile."""

    def __init__(self, record: str) -> None:
        repeats = record != "watermark"
        super().__init__(producer_repeats=repeats, max_batch=3, record=record, max_attempts=9)

    def spec(self, reaper: Reaper) -> ConsumerSpec:
        """Parks at once."""
        spec = super().spec(reaper)

        async def handler(event: Event, tx: HandlerTransaction) -> None:
            if event.data["n"] == 2:
                raise Park("never")
            await spec.handler(event, tx)

        return replace(spec, handler=handler)

    async def check(self) -> None:
        """All others have their effect once and in order, and there is one dead letter."""
        effects: list[int] = self.uow.committed.records.get("effects", [])
        odd, even = ([n for n in effects if n % 2 == key] for key in (1, 0))
        assert (odd, even) == ([1, 3, 5], [0, 4]), effects
        reasons = [(each["event_id"], each["reason"]) for each in await self.ledger.letters()]
        wanted = [(self.events[2].identity, "never")] * (1 + self._producer_repeats)
        assert reasons == wanted, reasons


@pytest.mark.parametrize("record", ["transaction", "optimistic", "watermark"])
async def test_no_death_while_parking_loses_or_doubles(record: str) -> None:
    """Dead letter and record move together, or not at all."""
    found = await explore(lambda: FailingWorld(record).scenario())

    assert found.broken == {}
    assert "ledger.park#1:after" in found.deaths


# -- lease: run at least once, recorded at most once ----------------------------------------


class LeaseWorld(World):
    """Effects in a foreign system, which no transaction takes back."""

    def __init__(self, build: Callable[..., Consumer] = Consumer) -> None:
        super().__init__(build, max_batch=3)
        self.guard, self.told = MemoryGuard(), list[int]()

    def spec(self, reaper: Reaper) -> ConsumerSpec:
        """The guard is durable; calling it may be the last thing a process does."""
        guard: Any = Mortal(self.guard, reaper, "guard")
        return ConsumerSpec(
            name="c", topics=("t",), handler=self._tell, record="lease", guard=guard
        )

    async def _tell(self, event: Event, tx: HandlerTransaction) -> None:
        self.told.append(event.data["n"])

    async def check(self) -> None:
        """Nothing lost, order per key, and at most one event told twice by the one death."""
        firsts = list(dict.fromkeys(self.told))
        assert sorted(firsts) == [0, 1, 2, 3, 4, 5], f"lost: {firsts}"
        for key in (0, 1):
            got = [n for n in firsts if n % 2 == key]
            assert got == sorted(got), got
        assert len(self.told) <= len(self.events) + 1, f"doubled: {self.told}"
        assert await self.ledger.letters() == [], "parked"


class ConfirmsFirst(Leased):
    """Twin: recorded before it is run."""

    def __init__(self, spec: ConsumerSpec, uow: UnitOfWork, env: Environment) -> None:
        assert spec.guard is not None
        super().__init__(spec, uow, env, spec.guard)

    async def _under_lease(
        self, _: object, delivery: Delivery, run: Run, *, confirm: AsyncConfirm
    ) -> None:
        await confirm()
        await super()._under_lease(_, delivery, run, confirm=confirm)


async def test_no_death_of_a_lease_holder_loses_an_effect() -> None:
    """One death costs one repetition at the most, and only between effect and confirmation."""
    found = await explore(lambda: LeaseWorld().scenario())

    assert found.broken == {}
    assert {"guard.claim#1:after", "guard.confirm#1:before"} <= set(found.deaths)


async def test_a_lease_holder_that_confirms_first_is_caught() -> None:
    """What was recorded and not run is lost."""
    found = await explore(lambda: LeaseWorld(recording(ConfirmsFirst)).scenario())

    assert "guard.confirm#1:after" in found.broken


# -- a guard as the front of the inbox ------------------------------------------------------


class FrontWorld(World):
    """As `World`, with a front that survives the process."""

    def __init__(self, build: Callable[..., Consumer] = Consumer) -> None:
        super().__init__(build, max_batch=3)
        self.guard = MemoryGuard()

    def spec(self, reaper: Reaper) -> ConsumerSpec:
        """The front is durable too."""
        self._options["front"] = Mortal(self.guard, reaper, "front")
        return super().spec(reaper)


class TaughtEarly(RepeatCache):
    """Twin: told that events are done before they are committed."""

    async def repeats(self, batch: Sequence[Delivery]) -> Any:
        known = await super().repeats(batch)
        open_ = [delivery for delivery in batch if delivery not in known]
        await self.learn(open_, [Claimed.FIRST] * len(open_))
        return known


def taught_early(spec: ConsumerSpec, **parts: Any) -> Consumer:
    """A consumer with that twin."""
    consumer = Consumer(spec, **parts)
    assert consumer._front is not None
    consumer._front.__class__ = TaughtEarly
    return consumer


async def test_no_death_makes_a_front_lie() -> None:
    """It is taught after the commit, so that what it calls done is done."""
    found = await explore(lambda: FrontWorld().scenario())

    assert found.broken == {}
    assert {"front.claim#1:after", "front.confirm#1:before"} <= set(found.deaths)


async def test_a_front_that_is_taught_early_is_caught() -> None:
    """A death between its record and the commit loses the effect."""
    found = await explore(lambda: FrontWorld(taught_early).scenario())

    assert "front.confirm#1:after" in found.broken
