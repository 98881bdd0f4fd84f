"""A consumer's process dies at every boundary; no effect is lost, doubled or out of order."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from tests.integration.engine.test_consumer import surroundings

from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.adapters.memory.watermarks import MemoryWatermarks
from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.delivery import HandlerTransaction
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario, explore
from onefold.testing.crash.points import Mortal, MortalUnitOfWork, Reaper

Build = Callable[..., Consumer]


class World:
    """Durable parts; a process over them is a consumer that may die."""

    def __init__(
        self,
        build: Build = Consumer,
        *,
        count: int = 6,
        producer_repeats: bool = True,
        **options: Any,
    ) -> None:
        self.clock = ManualClock()
        self.uow = MemoryUnitOfWork()
        self.ledger = MemoryLedger(self.uow)
        self.transport = MemoryTransport(partitions=2)
        self.events = [self._event(n) for n in range(count)]
        self._build, self._options = build, options
        self._producer_repeats = producer_repeats
        self._sent = False
        self._processes = 0

    def _event(self, n: int) -> Event:
        facts: dict[str, Any] = {"now": self.clock.now(), "random": Random(n).randbytes}
        return Event.new("t", {"n": n}, source="s", key="ab"[n % 2], **facts)

    async def _send(self) -> None:
        if not self._sent:
            self._sent = True
            repeated = self.events + self.events[2:3] * self._producer_repeats
            await self.transport.publish(
                [
                    Outgoing(topic="t", key=(e.key or "").encode(), value=encode_native(e))
                    for e in repeated
                ]
            )

    async def run(self, reaper: Reaper) -> None:
        """One process: from joining the group until nothing is left."""
        await self._send()
        self._processes += 1  # its chance differs from that of the one before
        subscription = await self.transport.subscribe("c", ["t"])
        spec = self.spec(reaper)
        consumer = self._build(
            spec,
            subscription=Mortal(subscription, reaper, "subscription"),
            uow=MortalUnitOfWork(self.uow, reaper),
            ledger=Mortal(self.ledger, reaper, "ledger"),
            env=surroundings(self.clock, seed=self._processes),
            watermarks=MemoryWatermarks(),
            poll_s=0,
        )
        try:
            while await consumer.step() or consumer.waiting:
                self.clock.advance(timedelta(seconds=1))
        finally:
            await subscription.kill()

    def spec(self, _: Reaper) -> ConsumerSpec:
        """The consumer of one process."""
        return ConsumerSpec(name="c", topics=("t",), **{"handler": _effect, **self._options})

    async def check(self) -> None:
        """Each event once, in order per key, each with its published event, nothing parked."""
        effects: list[int] = self.uow.committed.records.get("effects", [])
        for key in (0, 1):
            got = [n for n in effects if n % 2 == key]
            assert got == [e.data["n"] for e in self.events if e.data["n"] % 2 == key], got
        assert len(self.uow.committed.outbox) == len(self.events), "outbox"
        assert await self.ledger.letters() == [], "parked"

    def scenario(self) -> Scenario:
        """This world, to be explored."""
        return Scenario(run=self.run, check=self.check)


async def _effect(event: Event, tx: HandlerTransaction) -> None:
    tx.tx.records.setdefault("effects", []).append(event.data["n"])  # type: ignore[attr-defined]
    await tx.publish("u", {"of": event.data["n"]})


async def test_no_death_loses_or_doubles_an_effect() -> None:
    """Whatever it dies in, a restarted consumer ends with each effect once."""
    found = await explore(lambda: World(max_batch=3).scenario())

    assert found.broken == {}
    assert {"transaction#1.commit:before", "transaction#1.commit:after"} <= set(found.deaths)
    assert "subscription.settle#1:before" in found.deaths
    assert len(found.deaths) > 20


@pytest.mark.parametrize("record", ["optimistic", "watermark"])
async def test_no_death_breaks_another_record_in_the_transaction(record: str) -> None:
    """Written last, or as a position: what dies between two writes dies with both."""
    repeats = record != "watermark"  # which does not know a producer's
    found = await explore(
        lambda: World(max_batch=3, producer_repeats=repeats, record=record).scenario()
    )

    assert found.broken == {}
    assert "transaction#1.commit:after" in found.deaths


async def test_no_two_deaths_break_a_poll_that_is_begun_in_pieces() -> None:
    """More messages than are begun one by one: it dies in the poll, and again in any piece."""
    found = await explore(lambda: World(count=34, max_batch=99).scenario(), deaths=2)

    assert found.broken == {}
    assert any("ledger.begin#3:after" in death for death in found.deaths)


class Parks(World):
    """One of its messages can never succeed."""

    def __init__(self) -> None:
        super().__init__(handler=_refuses_three, max_batch=3, max_attempts=2)

    async def check(self) -> None:
        """The failing one is parked, once; each other one has its effect, in order."""
        effects = self.uow.committed.records["effects"]
        assert [n for n in effects if n % 2 == 0] == [0, 2, 4], effects
        assert [n for n in effects if n % 2] == [1, 5], effects
        assert len(self.uow.committed.outbox) == 5, "outbox"
        letters = await self.ledger.letters()
        assert [letter["event_id"] for letter in letters] == [self.events[3].identity]


async def _refuses_three(event: Event, tx: HandlerTransaction) -> None:
    await _effect(event, tx)
    if event.data["n"] == 3:
        raise ValueError(event.data["n"])


async def test_no_death_loses_a_parked_message_or_its_neighbours() -> None:
    """Counting, retrying and parking survive every death too."""
    found = await explore(lambda: Parks().scenario())

    assert found.broken == {}
    assert {"ledger.count#1:after", "ledger.park#1:before"} <= set(found.deaths)


async def test_no_death_breaks_isolated_handlers() -> None:
    """A transaction per event survives every death as a shared one does."""
    found = await explore(lambda: World(max_batch=3, isolated=True).scenario())

    assert found.broken == {}


class SettlesFirst(Consumer):
    """Twin: the offset moves before the effect is committed."""

    async def _apply(self, batch: Sequence[Any]) -> list[Any]:
        await self._settle(batch)
        return await super()._apply(batch)


class ForgetsClaims(Consumer):
    """Twin: no inbox; whatever comes again is applied again."""

    async def _transact_once(self, part: Sequence[Any]) -> Any:
        async with self._uow.begin() as tx:
            await self._run_handlers(tx, part, range(len(part)))
        return [None] * len(part)

    def _count(self, part: Sequence[Any], verdicts: object) -> None:
        """Nothing is counted."""


async def test_a_consumer_that_settles_first_is_caught() -> None:
    """Moving the offset before the commit loses, and the explorer says where."""
    found = await explore(lambda: World(SettlesFirst, max_batch=3).scenario())

    assert "subscription.settle#1:after" in found.broken


async def test_a_consumer_without_an_inbox_is_caught() -> None:
    """Without claims a repeat doubles even if nothing dies."""
    with pytest.raises(AssertionError, match="2, 4, 2"):
        await explore(lambda: World(ForgetsClaims, max_batch=9).scenario())
