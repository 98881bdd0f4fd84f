"""One consumer in its group: joins, steps, leaves, and joins again with backoff."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from onefold.core.backoff import Backoff
from onefold.engine.consumer import Consumer, ConsumerSpec, Counts
from onefold.engine.delivery import Environment
from onefold.engine.loop import Loop
from onefold.ports.ledger import Ledger
from onefold.ports.transport import Partition, Subscription, Transport
from onefold.ports.unit_of_work import UnitOfWork
from onefold.ports.watermarks import Watermarks

STALLED: Final = timedelta(seconds=60)  # without a finished step a consumer counts as dead
POLL_S: Final = 0.5
_REJOIN: Final = Backoff(first_s=0.5, most_s=30.0)


@dataclass(frozen=True, kw_only=True)
class ConsumerState:
    """
    What a consumer is doing.

    Attributes:
        name: The consumer's.
        running: Whether its task is alive.
        alive: It runs, and has finished a step (a poll without messages is one) lately.
        partitions: What it holds, and how many messages of each it has not dealt with;
            None where the broker does not report it.
        lag: Their sum, as far as it is known.
        since_progress_s: Seconds since it last finished a step.
        last_error: Why it last joined again; None once a step went well.
        restarts: How often it joined again.
        counts: What became of messages.
    """

    name: str
    running: bool
    alive: bool
    partitions: Mapping[Partition, int | None]
    lag: int
    since_progress_s: float
    last_error: str | None
    restarts: int
    counts: Counts


class ConsumerLoop:
    """
    Runs one `ConsumerSpec` until drained or stopped, and replays its dead letters on request.

    After any error it leaves its group, waits, longer each time, and joins again: messages
    that it had not settled are delivered again.

    Args:
        spec: What to run.
        uow: Where effects are.
        ledger: Where starts and dead letters are.
        transport: The broker's client; whoever made it closes it, after `drain` or `stop`.
        env: Time and chance.
        watermarks: Where `record="watermark"` keeps its positions.
        poll_s: How long a step waits for messages, and how often replays are looked for.
    """

    def __init__(
        self,
        spec: ConsumerSpec,
        *,
        uow: UnitOfWork,
        ledger: Ledger,
        transport: Transport,
        env: Environment,
        watermarks: Watermarks | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        self.spec, self._uow, self._ledger, self._transport = spec, uow, ledger, transport
        self._env, self._watermarks, self._poll_s = env, watermarks, poll_s
        self._subscription: Subscription | None = None
        self._consumer: Consumer | None = None
        self._failures = self._restarts = 0
        self._backing_off = False
        self._progress_at: datetime = env.clock.now()
        self._polling = Loop(f"consumer {spec.name}", self._step, every_s=0.0)  # the poll waits
        self._replaying = Loop(f"replays of {spec.name}", self._replay, every_s=poll_s)
        self.loops = (self._polling, self._replaying)
        self.counts = Counts()

    @property
    def waiting(self) -> int:
        """Messages that wait behind a failing one of their key."""
        return 0 if self._consumer is None else self._consumer.waiting

    def start(self) -> None:
        """Begin; a consumer that runs already goes on."""
        self._progress_at = self._env.clock.now()
        for loop in self.loops:
            loop.start()

    async def drain(self) -> None:
        """Finish the step under way and leave the group."""
        if self._backing_off:  # nothing is under way
            await self._polling.stop()
        else:
            await self._polling.drain()
        await self._replaying.drain()
        await self._leave()

    async def stop(self) -> None:
        """Cancel the step under way and leave the group. Safe twice."""
        for loop in self.loops:
            await loop.stop()
        await self._leave()

    def state(self) -> ConsumerState:
        """What the consumer is doing now; no round trip."""
        since = self._env.clock.now() - self._progress_at
        held = {} if self._subscription is None else dict(self._subscription.standing())
        error = self._polling.last_error
        return ConsumerState(
            name=self.spec.name,
            running=self._polling.ready,
            alive=self._polling.ready and since < STALLED,
            partitions=held,
            lag=sum(lag or 0 for lag in held.values()),
            since_progress_s=since.total_seconds(),
            last_error=None if error is None else f"{type(error).__name__}: {error}",
            restarts=self._restarts,
            counts=self.counts,
        )

    async def _step(self) -> bool:
        if self._failures:
            await self._back_off()
        self._failures += 1  # until the step has ended well
        try:
            consumer = self._consumer or await self._join()
            more = await consumer.step()
            self._failures = 0
        finally:
            if self._failures:
                self._restarts += 1
                await self._leave()
        self._progress_at = self._env.clock.now()
        return more

    async def _back_off(self) -> None:
        self._backing_off = True
        try:
            await self._env.sleep(_REJOIN.delay_s(self._failures, self._env.jitter()))
        finally:
            self._backing_off = False

    async def _replay(self) -> bool:
        return self._consumer is not None and await self._consumer.replay_asked() > 0

    async def _join(self) -> Consumer:
        self._subscription = await self._transport.subscribe(self.spec.name, self.spec.topics)
        self._consumer = Consumer(
            self.spec,
            subscription=self._subscription,
            uow=self._uow,
            ledger=self._ledger,
            env=self._env,
            watermarks=self._watermarks,
            poll_s=self._poll_s,
        )
        self._consumer.counts = self.counts  # goes on counting
        return self._consumer

    async def _leave(self) -> None:
        subscription, self._subscription, self._consumer = self._subscription, None, None
        if subscription is not None:
            await subscription.close()
