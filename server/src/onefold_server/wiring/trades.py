"""Builds trades and their couriers; `onefold_server.installation` calls it."""

import random as chance
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from onefold.adapters.sinks import registry
from onefold.adapters.sinks.file import compact
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.core.clock import Clock, SystemClock
from onefold.engine.courier import Courier, MakeSink, sent_once
from onefold.engine.loop import Loop
from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.deadlines import Deadlines
from onefold.ports.meter import Measure, Meter
from onefold.ports.sink import Sink
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import UnitOfWork
from onefold_server.adapters.delivery_metrics import TraceMetrics
from onefold_server.domains.trades.attempts import TradeDeliveries, Watch
from onefold_server.domains.trades.service import MakeSink as MakeBySettings
from onefold_server.domains.trades.service import TraceService
from onefold_server.settings import Settings

_FEED_S = 0.25  # how soon Valkey learns of what a transaction has scheduled
_AHEAD = timedelta(minutes=1)  # and how long before it is due
_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The domain, and what makes couriers for it."""

    service: TraceService
    uow: UnitOfWork
    deadlines: Deadlines
    clock: Clock
    random: Callable[[int], bytes]
    metrics: TraceMetrics
    make: MakeSink
    close: Callable[[], object]

    @property
    def watch(self) -> Watch:
        """Told of every attempt."""
        return self.metrics.watch

    def courier(self, *, jitter: Callable[[], float] = chance.random) -> Courier:
        """A courier of its own; whoever asked closes it."""
        desk = TradeDeliveries(self.uow, random=self.random, jitter=jitter, watch=self.watch)
        return Courier(self.deadlines, desk, self.make, clock=self.clock)

    async def feed(self) -> bool:
        """Bring over to Valkey what transactions have scheduled; True when there may be more."""
        if isinstance(self.deadlines, SqlDeadlines):
            return False
        from onefold.adapters.valkey.deadlines import feed  # noqa: PLC0415 (an extra)

        source = SqlDeadlines(self.uow)
        kinds, until = await self.service.kinds(), self.clock.now() + _AHEAD
        return await feed(source, self.deadlines, kinds, until=until, limit=_BATCH) >= _BATCH

    def loops(self, courier: Courier, *, reconcile_every_s: float) -> list[Loop]:
        """What a worker runs for trace."""
        deliver = Loop(
            "deliver traces", courier.step, every_s=courier.pause_s, finish=courier.settled
        )
        courier.ended = deliver.wake  # there is room again

        async def reconcile() -> bool:
            return await self.service.reconcile(limit=_BATCH) >= _BATCH

        loops = [deliver, Loop("reconcile traces", reconcile, every_s=reconcile_every_s)]
        if not isinstance(self.deadlines, SqlDeadlines):
            loops.append(Loop("feed Valkey", self.feed, every_s=_FEED_S))
        return loops

    async def aclose(self) -> None:
        """Close what the deadlines need. Safe twice."""
        closing = self.close()
        if closing is not None:
            await closing  # type: ignore[misc]


def trace_over(
    uow: UnitOfWork,
    *,
    settings: Settings,
    clock: Clock,
    random: Callable[[int], bytes],
) -> Trace:
    """Trace over *uow*; the settings say who tells what is due."""
    deadlines, close = _deadlines(uow, settings)
    make = _guarded(loopback=settings.trace_loopback, folder=settings.files_of_traces)
    return Trace(
        service=TraceService(uow, clock=clock, random=random, make=make, send=sent_once),
        uow=uow,
        deadlines=deadlines,
        clock=clock,
        random=random,
        metrics=_metrics(),
        make=lambda route: make(route.sink, route.config, route.secrets, school=UUID(route.school)),
        close=close,
    )


def delivery_meter(trace: Trace) -> Meter:
    """What waits, is dead or held, and for how long the first has been due, by destination."""

    async def meter() -> Sequence[Measure]:
        rows, now = await trace.service.gauges(), trace.clock.now()
        return [
            Measure(
                name=name, help=said, value=float(value(row, now)), labels={"adapter": row["name"]}
            )
            for name, said, value in _GAUGES
            for row in rows
        ]

    return meter


def _oldest_s(row: Row, now: datetime) -> float:
    return max((now - row["oldest"]).total_seconds(), 0.0) if row["oldest"] else 0.0


_GAUGES: tuple[tuple[str, str, Callable[[Row, datetime], float]], ...] = (
    ("trust_trace_pending", "Deliveries that wait", lambda row, _: row["pending"]),
    ("trust_trace_dead", "Deliveries that were given up", lambda row, _: row["dead"]),
    ("trust_trace_held", "Deliveries that wait for a decision", lambda row, _: row["held"]),
    (
        "trust_trace_oldest_age_seconds",
        "How long the first of those that wait has been due",
        _oldest_s,
    ),
)


@cache
def _metrics() -> TraceMetrics:
    """One of a process: a registry takes a name once."""
    return TraceMetrics()


def _deadlines(uow: UnitOfWork, settings: Settings) -> tuple[Deadlines, Callable[[], object]]:
    url = settings.trace_valkey_url
    if url is None:
        return SqlDeadlines(uow), lambda: None
    from onefold.adapters.valkey.connection import connect  # noqa: PLC0415 (an extra)
    from onefold.adapters.valkey.deadlines import ValkeyDeadlines  # noqa: PLC0415 (an extra)

    server = connect(url.get_secret_value())
    return ValkeyDeadlines(server, prefix=settings.trace_valkey_prefix), server.aclose


def compacted(folder: Path) -> dict[str, int]:
    """Make the daily files of a file destination's folder; how many lines each has."""
    return compact(folder, now=SystemClock().now())


def folder_of(settings: Settings, school: UUID, place: Mapping[str, Any]) -> Path:
    """
    Where a file destination of a school writes.

    Raises:
        InvalidInput: it is of another kind, and has no folder.
    """
    if place["sink"] != "file":
        reason = f"{place['name']} is a {place['sink']}, and writes no files"
        raise InvalidInput([FieldProblem("destination", "sink", reason)])
    return settings.files_of_traces / str(school) / str(place["config"]["path"])


def _guarded(*, loopback: bool, folder: Path) -> MakeBySettings:
    """Sinks as configured, within what whoever runs this machine says of it."""

    def make(
        kind: str, config: Mapping[str, Any], secrets: Mapping[str, Any], *, school: UUID
    ) -> Sink:
        if config.get("loopback") and not loopback:
            reason = "this server's settings do not allow it"
            raise InvalidInput([FieldProblem("config.loopback", "config", reason)])
        return registry.make(kind, config, secrets, folder=folder, school=school)

    return make
