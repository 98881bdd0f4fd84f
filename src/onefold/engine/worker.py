"""The loops of one process: consumers, relay, retention, and those of an application's own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from onefold.engine.consumer import ConsumerSpec, Counts
from onefold.engine.consumer_loop import POLL_S, ConsumerLoop, ConsumerState
from onefold.engine.delivery import Environment
from onefold.engine.loop import Loop
from onefold.engine.relay import Relay
from onefold.engine.retention import Keeps, RetentionLoop, short_keeps
from onefold.ports.ledger import Ledger
from onefold.ports.retention import BrokerRetention, Retention
from onefold.ports.transport import Transport
from onefold.ports.unit_of_work import UnitOfWork
from onefold.ports.watermarks import Watermarks

log = logging.getLogger("onefold.worker")

LISTEN_AGAIN_S: Final = 1.0  # after the connection that receives notifications was lost

Listen = Callable[[Callable[[], None]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """
    What a worker works with.

    Attributes:
        uow: Where effects are.
        ledger: Where starts and dead letters are.
        transport: Where messages come from and go to.
        relay: Sends the outbox.
        env: Time and chance.
        watermarks: Where `record="watermark"` keeps its positions.
        retention: Removes old rows; None: nothing is removed.
        broker_retention: What the transport keeps.
        keeps: How long rows are kept.
        listen: Calls what it is given when another process has published, and returns when
            its connection is lost; None where the store cannot notify.
        poll_s: How long a poll waits for messages.
        relay_every_s: How often the relay looks for events without a notification.
        loops: Of the application: run, drained and counted beside the others.
    """

    uow: UnitOfWork
    ledger: Ledger
    transport: Transport
    relay: Relay
    env: Environment
    watermarks: Watermarks | None = None
    retention: Retention | None = None
    broker_retention: BrokerRetention | None = None
    keeps: Keeps = field(default_factory=Keeps)
    listen: Listen | None = None
    poll_s: float = POLL_S
    relay_every_s: float = POLL_S
    loops: Sequence[Loop] = ()


class Worker:
    """
    Runs consumers, the relay and the other loops until drained or left.

    Args:
        specs: The consumers.
        parts: What they work with.
    """

    def __init__(self, specs: Sequence[ConsumerSpec], parts: Parts) -> None:
        self._specs, self._parts = specs, parts
        self.consumers = [self._consumer(spec) for spec in specs]
        self.relay = parts.relay
        self._relaying = Loop("relay", parts.relay.step, every_s=parts.relay_every_s)
        self._removing = self._retention_loop()
        self._loops: list[Loop] = [
            self._relaying,
            *self._removal(),
            *self._listening(),
            *parts.loops,
        ]

    @property
    def loops(self) -> list[Loop]:
        """Every loop, those of the consumers first."""
        return [*(loop for one in self.consumers for loop in one.loops), *self._loops]

    @property
    def removed(self) -> Mapping[str, int]:
        """How many rows retention has removed since the start, by kind."""
        return {} if self._removing is None else self._removing.removed

    def start(self) -> None:
        """Begin; a worker that runs already goes on."""
        for consumer in self.consumers:
            consumer.start()
        for loop in self._loops:
            loop.start()

    def wake(self) -> None:
        """Let the relay look at once: an event was published."""
        self._relaying.wake()

    async def drain(self) -> None:
        """Finish the steps under way, leave the groups; returns when all is over."""
        ends = [one.drain() for one in self.consumers] + [one.drain() for one in self._loops]
        await asyncio.gather(*ends)

    async def leave(self) -> None:
        """Cancel the steps under way: what was not committed is delivered again elsewhere."""
        ends = [one.stop() for one in self.consumers] + [one.stop() for one in self._loops]
        await asyncio.gather(*ends)

    def states(self) -> list[ConsumerState]:
        """What each consumer is doing now; no round trip."""
        return [one.state() for one in self.consumers]

    def counts(self) -> dict[str, Counts]:
        """What became of messages since the start, by consumer."""
        return {one.spec.name: one.counts for one in self.consumers}

    def _consumer(self, spec: ConsumerSpec) -> ConsumerLoop:
        parts = self._parts
        return ConsumerLoop(
            spec,
            uow=parts.uow,
            ledger=parts.ledger,
            transport=parts.transport,
            env=parts.env,
            watermarks=parts.watermarks,
            poll_s=parts.poll_s,
        )

    def _retention_loop(self) -> RetentionLoop | None:
        parts = self._parts
        if parts.retention is None or parts.broker_retention is None:
            return None
        return RetentionLoop(
            parts.retention,
            parts.broker_retention,
            specs=self._specs,
            keeps=parts.keeps,
            clock=parts.env.clock,
            topics=parts.relay.topics,
        )

    def _removal(self) -> list[Loop]:
        removing, broker = self._removing, self._parts.broker_retention
        if removing is None or broker is None:
            return []
        warned = False

        async def step() -> bool:
            nonlocal warned
            if not warned:
                for short in await short_keeps(self._specs, broker):
                    log.warning("%s", short)
                warned = True
            return await removing.step()

        return [Loop("retention", step, every_s=self._parts.keeps.every.total_seconds())]

    def _listening(self) -> list[Loop]:
        listen = self._parts.listen
        if listen is None:
            return []

        async def step() -> bool:
            await listen(self.wake)
            return False  # the connection was lost: listen again after a pause

        return [Loop("listening", step, every_s=LISTEN_AGAIN_S, waits=True)]
