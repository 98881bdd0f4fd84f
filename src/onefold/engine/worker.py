"""Consumers, relay and replays of one process: supervised, drained, or left at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from onefold.core.backoff import Backoff
from onefold.engine.consumer import Consumer, ConsumerSpec, Counts
from onefold.engine.delivery import Surroundings
from onefold.engine.relay import Relay
from onefold.ports.ledger import Ledger
from onefold.ports.transport import Transport
from onefold.ports.unit_of_work import UnitOfWork
from onefold.ports.watermarks import Watermarks

log = logging.getLogger("onefold.worker")

Step = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a worker works with."""

    uow: UnitOfWork
    ledger: Ledger
    transport: Transport
    relay: Relay
    around: Surroundings
    watermarks: Watermarks | None = None
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
        self.consumers: dict[str, Consumer] = {}

    def start(self) -> None:
        """Begin; a worker that runs already goes on."""
        if not self._tasks:
            runs = [self._consume(spec) for spec in self._specs]
            loops = [*runs, self._repeat("relay", self._parts.relay.step)]
            loops += [self._repeat(f"replays of {s.name}", self._replays(s)) for s in self._specs]
            self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def drain(self) -> None:
        """Finish the steps under way, leave the groups; returns when all is over."""
        self._draining.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def leave(self) -> None:
        """Drop everything at once: what was not committed comes again elsewhere."""
        for task in self._tasks:
            task.cancel()
        await self.drain()

    def counts(self) -> dict[str, Counts]:
        """What became of messages, by consumer, since it last joined its group."""
        return {name: consumer.counts for name, consumer in self.consumers.items()}

    async def _consume(self, spec: ConsumerSpec) -> None:
        attempt = 0
        while not self._draining.is_set():
            try:
                attempt += 1
                await self._member(spec)
                attempt = 0
            except Exception:  # whatever it is, the consumer begins again
                log.exception("consumer %s begins again", spec.name)
                await self._pause(Backoff(first_s=0.5).bound_s(attempt))

    async def _member(self, spec: ConsumerSpec) -> None:
        """Be a member of the consumer's group until drained, or until something breaks."""
        subscription = await self._parts.transport.subscribe(spec.name, spec.topics)
        try:
            consumer = self._consumer(spec, subscription)
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
            around=parts.around,
            watermarks=parts.watermarks,
            poll_s=parts.poll_s,
        )

    def _replays(self, spec: ConsumerSpec) -> Step:
        async def step() -> bool:
            consumer = self.consumers.get(spec.name)
            return consumer is not None and await consumer.replay_asked() > 0

        return step

    async def _repeat(self, name: str, step: Step) -> None:
        while not self._draining.is_set():
            try:
                more = await step()
            except Exception:  # whatever it is, the next step must get its chance
                log.exception("a step of %s failed", name)
                more = False
            if not more:
                await self._pause(self._parts.poll_s)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._draining.wait(), seconds)
        except TimeoutError:
            return
