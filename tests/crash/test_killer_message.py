"""A message whose handler takes the process with it is found, counted, and parked."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest
from tests.crash.test_consumer_deaths import World, _effect

from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.core.envelope import Event
from onefold.engine.consumer import Consumer
from onefold.engine.delivery import HandlerTransaction
from onefold.testing.crash.points import Crash, Reaper

KILLER = 3


async def _killed_by_one(event: Event, tx: HandlerTransaction) -> None:
    await _effect(event, tx)
    if event.data["n"] == KILLER:
        raise Crash("the handler segfaults")


class Forgetful(Consumer):
    """Twin: starts are not noted, so that every process begins as if nothing had happened."""

    async def _note(self, fresh: Sequence[Any]) -> Any:
        return ()


class NotesTheWhole(Consumer):
    """Twin: what is begun in pieces stays noted as a whole, and is never cut further."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._noted = False

    async def step(self) -> bool:
        self._noted = False
        return await super().step()

    async def _note(self, fresh: Sequence[Any]) -> Any:
        if self._noted:
            return ()
        self._noted = True
        return await super()._note(fresh)


async def _processes_until_one_lives(world: World, *, most: int) -> int:
    for number in range(1, most + 1):
        try:
            await world.run(Reaper())
        except Crash:
            continue
        return number
    raise AssertionError(f"the message has killed {most} processes")


def _world(build: type[Consumer] = Consumer, *, count: int = 6) -> World:
    return World(build, handler=_killed_by_one, count=count, max_batch=count, max_attempts=3)


@pytest.mark.parametrize(
    ("count", "cuts"), [(6, 0), (30, 0), (70, 1), (1000, 1), (1300, 2)], ids=lambda n: f"{n}"
)
async def test_a_message_that_kills_its_process_is_parked(count: int, cuts: int) -> None:
    """
    After the poll it died in it is begun three times alone; its neighbours count once.

    In a poll of more than 32 messages it dies in a piece too before it stands alone, and in
    two where there are more than a thousand.
    """
    world = _world(count=count)

    died = await _processes_until_one_lives(world, most=20) - 1

    (letter,) = await world.ledger.letters()
    assert (letter["reason"], letter["attempts"]) == ("killed_its_worker", 4)
    assert died == 1 + cuts + 3
    effects = world.uow.committed.records["effects"]
    assert sorted(effects) == [n for n in range(count) if n != KILLER]


@pytest.mark.parametrize(("twin", "count"), [(Forgetful, 6), (NotesTheWhole, 70)])
async def test_a_consumer_that_forgets_its_starts_is_caught(
    twin: type[Consumer], count: int
) -> None:
    """Without the note, the same message kills every process there is."""
    world = _world(twin, count=count)

    with pytest.raises(AssertionError, match="has killed 20 processes"):
        await _processes_until_one_lives(world, most=20)


class Counting(MemoryUnitOfWork):
    """Counts its transactions."""

    begun = 0

    def begin(self) -> Any:
        self.begun += 1
        return super().begin()


async def test_a_process_that_was_killed_costs_few_transactions() -> None:
    """It was no message's fault: 500 are begun in pieces, 16 transactions and 17 notes."""
    world = World(count=500, max_batch=1000, producer_repeats=False)
    world.uow = Counting()
    ledger = Counted(world.ledger)
    world.ledger = cast("MemoryLedger", ledger)
    with pytest.raises(Crash):
        await world.run(Reaper(fatal="transaction#1.commit:before"))
    world.uow.begun, ledger.calls = 0, Counter()

    await world.run(Reaper())

    await world.check()
    assert (world.uow.begun, ledger.calls) == (16, {"begin": 17})


class Counted:
    """A ledger whose calls are counted; each is a transaction of its own."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger, self.calls = ledger, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        if name in {"begin", "count"}:
            self.calls[name] += 1
        return getattr(self._ledger, name)
