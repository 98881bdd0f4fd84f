"""A process that replays dead letters dies at every boundary; each is applied once, or stays."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from tests.integration.engine.test_consumer import surroundings

from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.delivery import Delivery, HandlerTransaction
from onefold.ports.ledger import letter_message
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario, explore
from onefold.testing.crash.points import Mortal, MortalUnitOfWork, Reaper

MENDED, APPLIED_MEANWHILE, HOPELESS = ALL = range(3)


class World:
    """Three dead letters whose replay was asked for; those of *mended* can succeed now."""

    def __init__(
        self,
        build: type[Consumer] = Consumer,
        *,
        mended: Sequence[int] = (MENDED, APPLIED_MEANWHILE),
    ) -> None:
        self.clock = ManualClock()
        self.uow = MemoryUnitOfWork()
        self.ledger = MemoryLedger(self.uow)
        self.transport = MemoryTransport(partitions=1)
        self._build = build
        self._asked, self._mended, self._succeed = False, mended, set[int]()

    async def run(self, reaper: Reaper) -> None:
        """One process: replay until nothing is asked for."""
        if not self._asked:
            await self._park_and_ask()
        consumer = await self._consumer(reaper)
        while await consumer.replay_asked():
            pass

    async def _park_and_ask(self) -> None:
        """Three are parked, all are asked for, and one of them comes again and succeeds."""
        consumer = await self._consumer(Reaper())
        await self._send(MENDED, APPLIED_MEANWHILE, HOPELESS)
        await consumer.drain()
        ids = [letter["id"] for letter in await self.ledger.letters(state="parked")]
        await self.ledger.move(ids, to="asked", note="mended", now=self.clock.now())
        self._succeed.update(self._mended)
        await self._send(APPLIED_MEANWHILE)
        await consumer.drain()
        self._asked = True

    async def _send(self, *numbers: int) -> None:
        facts: dict[str, Any] = {"source": "s", "now": self.clock.now()}
        events = [Event.new("t", {"n": n}, random=Random(n).randbytes, **facts) for n in numbers]
        sent = [Outgoing(topic="t", key=None, value=encode_native(event)) for event in events]
        assert await self.transport.publish(sent) == [None] * len(sent)

    async def _consumer(self, reaper: Reaper) -> Consumer:
        return self._build(
            ConsumerSpec(name="c", topics=("t",), handler=self._effect, max_attempts=1),
            subscription=await self.transport.subscribe("c", ["t"]),
            uow=MortalUnitOfWork(self.uow, reaper),
            ledger=Mortal(self.ledger, reaper, "ledger"),
            env=surroundings(self.clock),
            poll_s=0,
        )

    async def _effect(self, event: Event, tx: HandlerTransaction) -> None:
        tx.tx.records.setdefault("effects", []).append(event.data["n"])  # type: ignore[attr-defined]
        await tx.publish("u", {"of": event.data["n"]})
        if event.data["n"] not in self._succeed:
            raise ValueError("not mended")

    async def check(self) -> None:
        """What can succeed did so once, with what it publishes; the hopeless one is parked."""
        effects = sorted(self.uow.committed.records.get("effects", []))
        assert effects == list(self._mended), effects
        assert len(self.uow.committed.outbox) == len(self._mended), "outbox"
        states = [letter["state"] for letter in await self.ledger.letters()]
        assert states == ["replayed" if n in self._mended else "parked" for n in ALL], states

    def scenario(self) -> Scenario:
        """This world, to be explored."""
        return Scenario(run=self.run, check=self.check)


async def test_no_death_loses_or_doubles_a_replay() -> None:
    """Whatever the replaying process dies in, the next one ends with each effect once."""
    found = await explore(lambda: World().scenario())

    assert found.broken == {}
    assert {"ledger.replayed#1:before", "transaction#1.commit:after"} <= set(found.deaths)
    assert {"ledger.move#1:before", "ledger.letters#1:after"} <= set(found.deaths)


class MarksFirst(Consumer):
    """Twin: the letter is marked as replayed in a transaction before the one that applies it."""

    async def _replay(self, letter: Mapping[str, Any]) -> None:
        async with self._uow.begin() as tx:
            await self._ledger.replayed(tx, letter["id"], now=self._env.clock.now())
        await super()._replay(letter)


class AppliesWithoutClaim(Consumer):
    """Twin: applies the letter as it is, and marks it in a transaction of its own."""

    async def _replay(self, letter: Mapping[str, Any]) -> None:
        async with self._uow.begin() as tx:
            await self._run_handlers(tx, [Delivery.of(letter_message(letter))], [0])
        async with self._uow.begin() as tx:
            await self._ledger.replayed(tx, letter["id"], now=self._env.clock.now())


async def test_a_replay_that_is_marked_first_is_caught() -> None:
    """Marking before applying loses, and the explorer says where."""
    found = await explore(lambda: World(MarksFirst, mended=ALL).scenario())

    assert "transaction#1.commit:after" in found.broken


async def test_a_replay_beside_the_inbox_is_caught() -> None:
    """Without the claim, what succeeded meanwhile is applied again though nothing dies."""
    world = World(AppliesWithoutClaim, mended=ALL)

    await world.run(Reaper())

    assert sorted(world.uow.committed.records["effects"]) == [0, 1, 1, 2]
