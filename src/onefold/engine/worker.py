"""Consumers, relay and replays of one process: supervised, drained, or left at once."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from onefold.core.backoff import Backoff
from onefold.engine.consumer import Consumer, ConsumerSpec, Counts
from onefold.engine.delivery import Environment
from onefold.engine.loop import Loop
from onefold.engine.relay import Relay
from onefold.engine.retention import Keeps, RetentionLoop, short_keeps
from onefold.errors import Unavailable
from onefold.ports.ledger import Ledger
from onefold.ports.retention import BrokerRetention, Retention
from onefold.ports.transport import Transport
from onefold.ports.unit_of_work import UnitOfWork
from onefold.ports.watermarks import Watermarks

log = logging.getLogger("onefold.worker")

Step = Callable[[], Awaitable[bool]]
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
        storeroom: What is over is removed from here; None: nothing is.
        retention: What the transport keeps.
        keeps: How long.
        listen: Calls what it is given when another process has published, and returns when
            it can no longer hear; None where there is no such thing.
        poll_s: How often to look whether there is anything to do.
    """

    uow: UnitOfWork
    ledger: Ledger
    transport: Transport
    relay: Relay
    env: Environment
    watermarks: Watermarks | None = None
    storeroom: Retention | None = None
    retention: BrokerRetention | None = None
    keeps: Keeps = field(default_factory=Keeps)
    listen: Listen | None = None
    poll_s: float = 0.5


class Worker:
    """
    Runs consumers and the relay until told to stop.

    A consumer that fails for a reason of its own leaves its group and joins it again: what
    it had not settled comes again. Dying at any moment is the same, without the leaving.
    """

    def __init__(self, specs: Sequence[ConsumerSpec], parts: Parts) -> None:
        self._specs, self._parts = specs, parts
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = asyncio.Event()
        self._to_send = asyncio.Event()
        self._listening: Loop | None = None
        self._counts = {spec.name: Counts() for spec in specs}
        self.consumers: dict[str, Consumer] = {}
        self.errors: Counter[str] = Counter()  # of loops, by their names
        self.removed: Mapping[str, int] = {}  # rows, by kind

    def start(self) -> None:
        """Begin; a worker that runs already goes on."""
        if not self._tasks:
            runs = [self._consume(spec) for spec in self._specs]
            loops = [*runs, self._repeat("relay", self._parts.relay.step, wake=self._to_send)]
            loops += [self._repeat(f"replays of {s.name}", self._replays(s)) for s in self._specs]
            loops += self._keep_house()
            self._tasks = [asyncio.create_task(loop) for loop in loops]
            self._listen()

    @property
    def relay(self) -> Relay:
        """The relay of this worker."""
        return self._parts.relay

    def wake(self) -> None:
        """There is something to send: the relay need not wait for its poll."""
        self._to_send.set()

    async def drain(self) -> None:
        """Finish the steps under way, leave the groups; returns when all is over."""
        self._draining.set()
        self._to_send.set()
        if self._listening is not None:
            await self._listening.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def leave(self) -> None:
        """Drop everything at once: what was not committed comes again elsewhere."""
        for task in self._tasks:
            task.cancel()
        await self.drain()

    def counts(self) -> dict[str, Counts]:
        """What became of messages since the start, by consumer."""
        return self._counts

    def _keep_house(self) -> list[Coroutine[Any, Any, None]]:
        parts = self._parts
        if parts.storeroom is None or parts.retention is None:
            return []
        keeping = RetentionLoop(
            parts.storeroom,
            parts.retention,
            specs=self._specs,
            keeps=parts.keeps,
            clock=parts.env.clock,
            topics=parts.relay.topics,
        )
        self.removed = keeping.removed
        every_s = parts.keeps.every.total_seconds()
        warned = self._warn_of_short_keeps(parts.retention)
        return [self._repeat("housekeeping", keeping.step, every_s=every_s), warned]

    async def _warn_of_short_keeps(self, retention: BrokerRetention) -> None:
        for short in await short_keeps(self._specs, retention):
            log.warning("%s", short)

    def _listen(self) -> None:
        listen = self._parts.listen
        if listen is not None:

            async def step() -> bool:
                await listen(self.wake)
                return False  # it was lost: after a pause, listen again

            self._listening = Loop("listening", step, every_s=self._parts.poll_s)
            self._listening.start()

    async def _consume(self, spec: ConsumerSpec) -> None:
        attempt = 0
        while not self._draining.is_set():
            try:
                attempt += 1
                await self._member(spec)
                attempt = 0
            except Exception as error:  # whatever it is, the consumer begins again
                _tell("consumer %s begins again", spec.name, error)
                self.errors[f"consumer {spec.name}"] += 1
                await self._pause(Backoff(first_s=0.5).bound_s(attempt))

    async def _member(self, spec: ConsumerSpec) -> None:
        """Be a member of the consumer's group until drained, or until something breaks."""
        subscription = await self._parts.transport.subscribe(spec.name, spec.topics)
        try:
            consumer = self._consumer(spec, subscription)
            consumer.counts = self._counts[spec.name]  # goes on counting
            self.consumers[spec.name] = consumer
            while not self._draining.is_set():
                await consumer.step()
        finally:
            await subscription.close()

    def _consumer(self, spec: ConsumerSpec, subscription: object) -> Consumer:
        parts = self._parts
        return Consumer(
            spec,
            subscription=subscription,  # type: ignore[arg-type]
            uow=parts.uow,
            ledger=parts.ledger,
            env=parts.env,
            watermarks=parts.watermarks,
            poll_s=parts.poll_s,
        )

    def _replays(self, spec: ConsumerSpec) -> Step:
        async def step() -> bool:
            consumer = self.consumers.get(spec.name)
            return consumer is not None and await consumer.replay_asked() > 0

        return step

    async def _repeat(
        self,
        name: str,
        step: Step,
        *,
        wake: asyncio.Event | None = None,
        every_s: float | None = None,
    ) -> None:
        self.errors[name] += 0  # told from the start
        while not self._draining.is_set():
            try:
                more = await step()
            except Exception as error:  # whatever it is, the next step must get its chance
                _tell("a step of %s failed", name, error)
                self.errors[name] += 1
                more = False
            if not more:
                await self._pause(every_s or self._parts.poll_s, wake)

    async def _pause(self, seconds: float, wake: asyncio.Event | None = None) -> None:
        """Wait, but no longer than until the drain, or *wake*; the drain sets that too."""
        news = wake or self._draining
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()
        if wake is not None:
            wake.clear()


def _tell(what: str, name: str, error: Exception) -> None:
    """In one line what waiting mends; where it comes from helps nobody then."""
    if isinstance(error, Unavailable):
        log.warning("%s: %s", what % name, error)
    else:
        log.error(what, name, exc_info=error)
