"""
A courier dies on the way into a journal: each record has its own end, and is there once.

At the boundaries that are about it: each request, and each opening and settling of an attempt,
which are one transaction each. What dies inside of those, and at deadlines, is looked at in
`test_courier_deaths`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.crash.couriers import OneAtATime, school_alone
from tests.support_journal import Journal
from tests.support_receiver import Received
from tests.support_trace import Scripted, World, trade

from onefold.adapters.sinks.posting import HttpAnswer
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.core.ids import derived_id
from onefold.ports.sink import SendOutcome
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario, explore
from onefold.testing.crash.points import Mortal, Reaper
from onefold_server.adapters.tradervue import Pace, TradervueSink
from onefold_server.domains.trades.attempts import TradeDeliveries
from onefold_server.installation import Installation

pytestmark = pytest.mark.timeout(120)

ENDS = {"BAD": "dead", "GOOD": "delivered"}


class _Wire:
    """The way to a journal in memory, in the place of HTTP."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def request(
        self, method: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> HttpAnswer:
        lines = [f"{method} /x HTTP/1.1", *(f"{name}: {said}" for name, said in headers.items())]
        raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")
        said = self._journal(Received(raw))
        assert isinstance(said, tuple)
        return HttpAnswer(*said)

    async def aclose(self) -> None:
        """Nothing is open."""


class _DeadlyDesk(TradeDeliveries):
    """A desk a process can die at: before an attempt is opened or settled, or after."""

    def __init__(self, reaper: Reaper, uow: Any, **how: Any) -> None:
        super().__init__(uow, **how)
        mortal = Mortal(super(), reaper, "desk")
        self.open, self.settle = mortal.open, mortal.settle  # type: ignore[method-assign]


class _BelievesAnyEnd(TradervueSink):
    """Twin: asks first, and takes whatever end it is told for that of its own import."""

    async def _import(self, body: bytes, now: datetime) -> SendOutcome:
        seen = await self._end("whoever's", now)
        return await super()._import(body, now) if seen.reason == "end_unknown" else seen


class Deaths:
    """Two trades on their way into a journal, one of which it refuses."""

    def __init__(self, onefold: Installation, sink: type[TradervueSink]) -> None:
        self._onefold, self._sink = onefold, sink
        self.clock: ManualClock = onefold.clock  # type: ignore[assignment]
        self.journal = Journal(takes=2, refuses={"BAD": {"error_execnumber": 1}})
        self._made = False

    async def run(self, reaper: Reaper) -> None:
        """A process: deliver what is due, look again every ten seconds, until nothing waits."""
        onefold = self._onefold
        if not self._made:
            self.school, self._made = await school_alone(onefold), True
            world = World(onefold, self.school)
            await world.destination(sink=Scripted(), concurrency=1)
            await world.subscribe()
            given = [
                (derived_id("crash", name), trade(self.clock.now(), instrument=name))
                for name in ENDS
            ]
            await world.service.record_many(self.school.service, given)
        self.clock.advance(timedelta(minutes=6))  # due, and any lease of a dead process over
        courier = self._courier(onefold, reaper)
        waits = World(onefold, self.school).deliveries
        for _ in range(30):
            while await courier.step():
                pass
            if not await waits("pending", "leased"):
                break
            self.clock.advance(timedelta(seconds=10))
        await courier.aclose()

    def _courier(self, onefold: Installation, reaper: Reaper) -> OneAtATime:
        sink = self._sink(
            {"contact": "ops"}, {"username": "u", "password": "p"}, pace=Pace(watch_s=0)
        )
        sink._poster = Mortal(_Wire(self.journal), reaper, "tradervue")  # type: ignore[assignment]
        uow, random = onefold.uow, onefold.trace.random
        desk = _DeadlyDesk(reaper, uow, random=random, jitter=lambda: 0.001, watch=lambda *_: None)
        return OneAtATime(SqlDeadlines(uow), desk, lambda _: sink, clock=self.clock)

    async def check(self) -> None:
        """Delivered is what the journal holds, once; dead is what it refused."""
        world = World(self._onefold, self.school)
        found = {
            (await world.service.trade(self.school.admin, row["trade_id"]))["instrument"]: row
            for row in await world.deliveries()
        }
        states = {name: row["state"] for name, row in found.items()}
        assert states == ENDS, f"are {states}"
        held = sorted(one[1] for one in self.journal.executions)
        assert held == ["GOOD"] * 2, f"the journal holds {held}"

    def scenario(self) -> Scenario:
        """This world, to be explored."""
        return Scenario(run=self.run, check=self.check)


async def test_no_death_gives_a_record_the_end_of_another(lasting: Installation) -> None:
    """Asked, looked, settled: died at before and after each, and imported once."""
    found = await explore(lambda: Deaths(lasting, TradervueSink).scenario())

    assert found.broken == {}
    asked = {name for name in found.deaths if name.startswith("tradervue.request")}
    assert asked == {
        f"tradervue.request#{n}:{at}" for n in range(1, 7) for at in ("before", "after")
    }
    settled = {f"desk.settle#{n}:{at}" for n in range(1, 5) for at in ("before", "after")}
    assert settled <= set(found.deaths)


async def test_a_sink_that_believes_any_end_is_caught(lasting: Installation) -> None:
    """Its process died after the request; the next one is told the end of another's import."""
    found = await explore(
        lambda: Deaths(lasting, _BelievesAnyEnd).scenario(), replay="tradervue.request#2:after"
    )

    assert found.broken.keys() == {"tradervue.request#2:after"}
