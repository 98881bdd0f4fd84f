"""A handler held between its work and its confirm."""

import asyncio
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.core.envelope import Event
from onefold.engine.idempotent import idempotent_consumer
from onefold.engine.outcome import Applied, Repeated
from onefold.testing.clock import ManualClock
from onefold.testing.confirm import ControlledConfirm
from onefold.testing.crash.points import Crash


class World:
    """A guarded handler whose confirm waits at a gate."""

    def __init__(self) -> None:
        self.clock, self.guard, self.gate = ManualClock(), MemoryGuard(), ControlledConfirm()
        self.applied = 0
        facts: dict[str, Any] = {"now": self.clock.now(), "random": Random(1).randbytes}
        self.event = Event.new("t", {}, source="s", **facts)
        decorate = idempotent_consumer(
            self.guard,
            name="c",
            lease=timedelta(seconds=30),
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        self.handle = decorate(self.gate.around(self.work))

    async def work(self, _event: Event, *, confirm: Any) -> str:
        self.applied += 1
        await confirm()
        return "done"

    @property
    def state(self) -> str:
        """What the guard has written down."""
        (record,) = self.guard.records.values()
        return record.state


async def test_between_work_and_confirm_the_claim_is_a_lease() -> None:
    """The work is done and not confirmed; let go, it is completed."""
    world = World()
    handling = asyncio.create_task(world.handle(world.event))
    await world.gate.reached()
    assert (world.applied, world.state) == (1, "leased")

    world.gate.let_go()

    assert isinstance(await handling, Applied)
    assert world.state == "completed"
    assert isinstance(await world.handle(world.event), Repeated)


async def test_a_failed_confirm_gives_the_claim_back() -> None:
    """The handler sees the error, and another attempt may begin at once."""
    world = World()
    world.gate.fail(RuntimeError("no"))

    with pytest.raises(RuntimeError, match="no"):
        await world.handle(world.event)

    assert world.state == "released"


async def test_a_killed_handler_leaves_its_lease() -> None:
    """Nothing is given back: others wait for the end of the lease, then apply it."""
    world = World()
    world.gate.kill()
    with pytest.raises(Crash):
        await world.handle(world.event)
    assert world.state == "leased"

    world.clock.advance(timedelta(minutes=1))
    world.gate.close()
    handling = asyncio.create_task(world.handle(world.event))
    await world.gate.reached()
    world.gate.let_go()

    assert isinstance(await handling, Applied)
    assert (world.applied, world.gate.stops) == (2, 2)


async def test_the_gate_stands_before_a_commit_too() -> None:
    """All is written and nothing is seen."""
    gate, uow = ControlledConfirm(), MemoryUnitOfWork()

    async def work() -> None:
        async with gate.before_commit(uow).begin() as tx:
            tx.records["done"] = True

    working = asyncio.create_task(work())
    await gate.reached()
    assert uow.committed.records == {}
    gate.let_go()
    await working

    assert uow.committed.records == {"done": True}
