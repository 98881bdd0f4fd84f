"""
A courier that is killed: a process of its own, with its own connections.

It dies by itself at the boundary that its order names, or is killed by whoever started it.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from onefold.adapters.sinks import registry
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.core.clock import Clock, SystemClock
from onefold.engine.courier import Courier
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome, Sink, most_at_once
from onefold.testing.clock import ManualClock
from onefold.testing.crash.points import Mortal, MortalUnitOfWork, Reaper
from onefold_server.domains.directory.rules import Principal
from onefold_server.domains.trades.attempts import TradeDeliveries
from onefold_server.domains.trades.service import TraceService
from onefold_server.installation import build
from onefold_server.settings import Settings


class Killer(Reaper):
    """Ends the whole process, by the signal that nothing can answer."""

    def strike(self, death: str) -> None:
        self.seen.append(death)
        if death == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


class _Deadly:
    """A real sink that the process can die in."""

    def __init__(self, inner: Sink, reaper: Reaper) -> None:
        self._inner, self._mortal = inner, Mortal(inner, reaper, "sink")
        self.most_at_once = most_at_once(inner)

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        outcome: SendOutcome = await self._mortal.send(parcel, now=now)
        return outcome

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        outcomes: Sequence[SendOutcome] = await self._mortal.send_many(parcels, now=now)
        return outcomes

    async def aclose(self) -> None:
        await self._inner.aclose()


class _SettlesFirst(Courier):
    """Twin: writes the receipt, and then sends."""

    async def _deliver(self, sink: Sink, sendings: Any, claimed: Any, until: Any) -> None:
        received, now = SendOutcome(OutcomeKind.DELIVERED, "ok", 200), self._clock.now()
        await self._settle_all([[(one, received, now, claimed[one.key]) for one in sendings]])
        for one in sendings:
            await sink.send(one.parcel, now=now)


class _NamesAnew(_Deadly):
    """Twin: every attempt is a message of its own to the receiver."""

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        return [await self.send(one, now=now) for one in parcels]

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        other = UUID(int=UUID(parcel.message_id).int ^ parcel.attempt)
        return await super().send(
            Parcel(
                message_id=str(other),
                body=parcel.body,
                occurred_at=parcel.occurred_at,
                attempt=parcel.attempt,
            ),
            now=now,
        )


class _Hasty:
    """Twin: a clock that is ahead, so that whatever is armed may leave."""

    def now(self) -> datetime:
        return SystemClock().now() + timedelta(days=1)


async def _work(order: dict[str, Any]) -> list[str]:
    """Record what is to be recorded, then deliver what is due; the boundaries passed."""
    at = order.get("at")
    twin, reaper = order.get("twin"), Killer(fatal=order.get("die_at"))
    clock: Clock = _Hasty() if twin == "hasty" else SystemClock()
    if at:
        clock = ManualClock(datetime.fromisoformat(at))
    settings = Settings(
        database_url=SecretStr(order["database"]),
        trace_loopback=True,
        trace_folder=Path(order["folder"]),
    )
    onefold = build(settings, clock=clock)
    uow: Any = MortalUnitOfWork(onefold.uow, reaper)
    service = TraceService(uow, clock=clock, random=onefold.trace.random, make=registry.make)
    caller = Principal.local(UUID(order["school"]))
    for id_, given in order["trades"]:
        times = {k: datetime.fromisoformat(given[k]) for k in ("entry_time", "exit_time")}
        await service.record(caller, given | times, trade_id=UUID(id_))
    lease = timedelta(seconds=order["lease_s"])
    if isinstance(clock, ManualClock):
        clock.advance(timedelta(minutes=6))  # due, and the lease of one that died is over
    desk = TradeDeliveries(
        uow, random=onefold.trace.random, jitter=lambda: 0.1, watch=lambda *_: None
    )
    deadly = _NamesAnew if twin == "names anew" else _Deadly
    courier = (_SettlesFirst if twin == "settles first" else Courier)(
        reaper.mortal(SqlDeadlines(uow), "deadlines"),
        reaper.mortal(desk, "desk"),
        lambda route: deadly(onefold.trace.make(route), reaper),
        clock=clock,
        lease=lease,
    )
    while True:
        await courier.work_off()
        if isinstance(clock, ManualClock):
            break
        await asyncio.sleep(courier.pause_s())  # until it is killed
    await courier.aclose()
    await onefold.aclose()
    return reaper.seen


def main() -> None:
    """Work as the order says, a JSON object in the first argument; leave there what was passed."""
    order = json.loads(sys.argv[1])
    seen = asyncio.run(_work(order))
    Path(order["seen"]).write_text(json.dumps(seen))
