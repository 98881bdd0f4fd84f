"""The part of the wiring that puts trace together; `onefold.wiring` calls it."""

import random as chance
from collections.abc import Callable
from dataclasses import dataclass

from onefold.adapters.sinks import registry
from onefold.core.clock import Clock
from onefold.domains.trace.desk import TraceDesk, Watch
from onefold.domains.trace.service import TraceService
from onefold.engine.courier import Courier, MakeSink
from onefold.ports.deadlines import Deadlines
from onefold.ports.desk import Route
from onefold.ports.sink import Sink
from onefold.ports.unit_of_work import UnitOfWork


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The domain, and what makes couriers for it."""

    service: TraceService
    uow: UnitOfWork
    deadlines: Deadlines
    clock: Clock
    random: Callable[[int], bytes]
    watch: Watch
    make: MakeSink

    def courier(self, *, jitter: Callable[[], float] = chance.random) -> Courier:
        """A courier of its own; whoever asked closes it."""
        desk = TraceDesk(self.uow, random=self.random, jitter=jitter, watch=self.watch)
        return Courier(self.deadlines, desk, self.make, clock=self.clock)


def trace_over(
    uow: UnitOfWork,
    deadlines: Deadlines,
    *,
    clock: Clock,
    random: Callable[[int], bytes],
    watch: Watch,
) -> Trace:
    """Trace over *uow*; *deadlines* say what is due."""
    return Trace(
        service=TraceService(uow, clock=clock, random=random, make=registry.make),
        uow=uow,
        deadlines=deadlines,
        clock=clock,
        random=random,
        watch=watch,
        make=_make,
    )


def _make(route: Route) -> Sink:
    return registry.make(route.sink, route.config, route.secrets)
