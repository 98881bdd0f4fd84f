"""A relay's process dies at every boundary; nothing is lost, and only repeats go out twice."""

from datetime import timedelta
from random import Random
from typing import Any

from tests.integration.engine.test_consumer import surroundings
from tests.integration.engine.test_relay import Broker

from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.core.envelope import Event
from onefold.engine.relay import Relay
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario, explore
from onefold.testing.crash.points import Mortal, Reaper


class World:
    """An outbox with events of two keys, and a broker that remembers what it got."""

    def __init__(self, build: type[Relay] = Relay) -> None:
        self.clock, self.broker = ManualClock(), Broker()
        self.uow = MemoryUnitOfWork()
        self.outbox = MemoryOutbox(self.uow)
        self._build = build
        facts: dict[str, Any] = {"source": "s", "now": self.clock.now()}
        self.events = [
            Event.new("t", {"n": n}, key="ab"[n % 2], random=Random(n).randbytes, **facts)
            for n in range(4)
        ]

    async def run(self, reaper: Reaper) -> None:
        """One process: publish what is to be published once, then relay all of it."""
        async with self.uow.begin() as tx:
            await tx.publish(*self.events, now=self.clock.now())
        self.clock.advance(timedelta(minutes=1))  # a lease of the process before has ended
        relay = self._build(
            Mortal(self.outbox, reaper, "outbox"),
            Mortal(self.broker, reaper, "broker"),
            owner="r",
            env=surroundings(self.clock),
        )
        while await relay.step():
            pass

    async def check(self) -> None:
        """All four went out, in order per key once repeats are discarded by their id."""
        firsts = list(dict.fromkeys(self.broker.numbers()))
        assert sorted(firsts) == [0, 1, 2, 3], f"lost: sent {firsts}"
        assert [n for n in firsts if n % 2] == [1, 3]
        assert len(self.broker.ids()) == 4
        assert await self.outbox.unsent(limit=9) == []

    def scenario(self) -> Scenario:
        """This world, to be explored."""
        return Scenario(run=self.run, check=self.check)


class MarksFirst(Relay):
    """Twin: marks before it publishes."""

    async def step(self) -> bool:
        now = self._env.clock.now()
        shipment = await self._outbox.lease("r", now=now, lease=self._lease, limit=9)
        if shipment is None:
            return False
        sent = [waiting.position for waiting in shipment.waiting]
        await self._outbox.mark(shipment, sent=sent, failed=[], now=now)
        await self._publish(shipment)
        return True


async def test_no_death_of_a_relay_loses_an_event() -> None:
    """Publish before mark: every death repeats at the most, under the same ids."""
    found = await explore(lambda: World().scenario())

    assert found.broken == {}
    assert {"broker.publish#1:after", "outbox.mark#1:before"} <= set(found.deaths)


async def test_a_relay_that_marks_first_is_caught() -> None:
    """Mark before publish loses, and the explorer names the deaths."""
    found = await explore(lambda: World(MarksFirst).scenario())

    assert {"outbox.mark#1:after", "broker.publish#1:before"} <= set(found.broken)
