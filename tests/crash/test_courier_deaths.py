"""A courier's process dies at every boundary, from the close to the receipt; nothing is lost."""

from datetime import timedelta
from typing import Any

import pytest
from tests.crash.couriers import OneAtATime, school_alone
from tests.support_trace import OK, Scripted, World, trade

from onefold.adapters.sinks import registry
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.core.ids import derived_id
from onefold.engine.courier import Courier
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario, explore
from onefold.testing.crash.points import Mortal, MortalUnitOfWork, Reaper
from onefold_server.domains.trades.attempts import TradeDeliveries
from onefold_server.domains.trades.service import TraceService
from onefold_server.installation import Installation

pytestmark = pytest.mark.timeout(120)


class _Deadly:
    """A sink a process can die in: before it sends, or after the receiver has it."""

    def __init__(self, inner: Scripted, reaper: Reaper) -> None:
        self._inner, self._mortal = inner, Mortal(inner, reaper, "sink")

    async def send(self, parcel: Any, *, now: Any) -> Any:
        return await self._mortal.send(parcel, now=now)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _DeadlyOfMany(_Deadly):
    """The same, of many in one call: before each of them and after it."""

    most_at_once = 10

    async def send_many(self, parcels: Any, *, now: Any) -> Any:
        return [await self.send(one, now=now) for one in parcels]


class _SettlesFirst(OneAtATime):
    """Twin: records that it was received before it is sent."""

    async def _deliver(self, sink: Any, sendings: Any, claimed: Any, until: Any) -> None:
        now = self._clock.now()
        await self._settle_all([[(one, OK, now, claimed[one.key]) for one in sendings]])
        for one in sendings:
            await sink.send(one.parcel, now=now)


class Deaths:
    """
    Trades on their way to one destination, of a school of their own.

    A process has parts of its own; the connections, which hold nothing after a death, and
    what SQLAlchemy compiled are those of all.
    """

    def __init__(self, onefold: Installation, build_: type[Courier], *, trades: int = 1) -> None:
        self._ids = [derived_id("crash", str(n)) for n in range(trades)]
        self._onefold, self._build = onefold, build_
        self.clock: ManualClock = onefold.clock  # type: ignore[assignment]
        self.sink, self._given = Scripted(), trade(self.clock.now())
        self._made = False

    async def run(self, reaper: Reaper) -> None:
        """A process: record the trade, wait, deliver what is due."""
        onefold = self._onefold
        if not self._made:
            self.school, self._made = await school_alone(onefold), True
            world = World(onefold, self.school)
            await world.destination(sink=self.sink)
            await world.subscribe()
        uow: Any = MortalUnitOfWork(onefold.uow, reaper)
        service = TraceService(
            uow, clock=self.clock, random=onefold.trace.random, make=registry.make
        )
        await service.record_many(self.school.service, [(id_, self._given) for id_ in self._ids])
        self.clock.advance(timedelta(minutes=6))  # due, and any lease of a dead process over
        desk = TradeDeliveries(
            uow, random=onefold.trace.random, jitter=lambda: 0.5, watch=lambda *_: None
        )
        deadly = (_Deadly if len(self._ids) == 1 else _DeadlyOfMany)(self.sink, reaper)
        courier = self._build(
            SqlDeadlines(uow), desk, lambda _: deadly, clock=self.clock, lease=timedelta(minutes=1)
        )
        while await courier.step():
            pass
        await courier.aclose()

    async def check(self) -> None:
        """Received, never early, the same id and bytes; at most one repeat for one death."""
        every = await World(self._onefold, self.school).deliveries()
        assert len(every) == len(self._ids), f"{len(every)} deliveries"
        assert set(self.sink.ids) == {str(row["id"]) for row in every}, "lost, or doubled"
        for found in every:
            got = [(at, one) for at, one in self.sink.got if one.message_id == str(found["id"])]
            assert found["state"] == "delivered", f"is {found['state']}"
            assert 1 <= len(got) <= 2, f"received {len(got)} times"
            assert len({one.body for _, one in got}) == 1, "doubled"
            assert all(at >= found["not_before"] for at, _ in got), "early"

    def scenario(self) -> Scenario:
        """This world, to be explored."""
        return Scenario(run=self.run, check=self.check)


async def test_no_death_of_a_courier_loses_or_doubles(lasting: Installation) -> None:
    """Close, claim, open, send, settle, complete: each is died at, before it and after it."""
    found = await explore(lambda: Deaths(lasting, OneAtATime).scenario())

    assert found.broken == {}
    assert {"sink.send#1:before", "sink.send#1:after"} <= set(found.deaths)
    assert len(found.deaths) >= 30


async def test_no_death_among_many_in_one_call_loses_or_doubles(lasting: Installation) -> None:
    """Two go to the sink in one call; who dies between them repeats, and nothing else."""
    found = await explore(lambda: Deaths(lasting, OneAtATime, trades=2).scenario())

    assert found.broken == {}
    assert {f"sink.send#{n}:{at}" for n in (1, 2) for at in ("before", "after")} <= set(
        found.deaths
    )


async def test_a_courier_that_settles_first_is_caught(lasting: Installation) -> None:
    """A receipt before its delivery loses; the explorer names the death."""
    found = await explore(lambda: Deaths(lasting, _SettlesFirst).scenario())

    assert "sink.send#1:before" in found.broken
