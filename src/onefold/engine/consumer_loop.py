"""One consumer inside a server: supervised, restarted with backoff, and it tells how it is."""

from collections.abc import Callable
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

STALLED: Final = timedelta(seconds=60)  # without a finished step a consumer counts as dead
_AGAIN: Final = Backoff(first_s=0.5, most_s=30.0)


@dataclass(frozen=True, kw_only=True)
class ConsumerState:
    """
    What a consumer is doing.

    Attributes:
        name: The consumer's.
        running: Whether its task is alive.
        alive: It runs, and has finished a step (a poll without messages is one) lately.
        partitions: What it holds, and how many messages of each it has not dealt with;
            None where the broker has not told.
        lag: Their sum, as far as it is known.
        since_progress_s: Seconds since it last finished a step.
        last_error: Why it last began again; None once a step went well.
        restarts: How often it began again.
        counts: What became of messages.
    """

    name: str
    running: bool
    alive: bool
    partitions: dict[Partition, int | None]
    lag: int
    since_progress_s: float
    last_error: str | None
    restarts: int
    counts: Counts


class ConsumerLoop:
    """
    Runs one `ConsumerSpec` until stopped.

    Whatever goes wrong, it leaves its group, waits, longer each time, and joins again: what
    it had not settled comes again. It also applies dead letters whose replay was asked for.

    Args:
        spec: What to run.
        uow: Where effects are.
        ledger: Where starts and dead letters are.
        connect: Makes the broker's client; called at the first step, closed by `stop`.
        env: Time and chance.
        poll_s: How long a step waits for messages.
    """

    def __init__(
        self,
        spec: ConsumerSpec,
        *,
        uow: UnitOfWork,
        ledger: Ledger,
        connect: Callable[[], Transport],
        env: Environment,
        poll_s: float = 0.5,
    ) -> None:
        self.spec, self._uow, self._ledger = spec, uow, ledger
        self._connect, self._env, self._poll_s = connect, env, poll_s
        self._transport: Transport | None = None
        self._subscription: Subscription | None = None
        self._consumer: Consumer | None = None
        self._counts = Counts()
        self._failures = self._restarts = 0
        self._progress_at: datetime = env.clock.now()
        self._loop = Loop(spec.name, self._step, every_s=0.0)  # the poll itself waits

    def start(self) -> None:
        """Begin; a feed that runs already goes on."""
        self._progress_at = self._env.clock.now()
        self._loop.start()

    async def stop(self) -> None:
        """End the step under way, leave the group, close the broker. Safe twice."""
        await self._loop.stop()
        await self._leave()
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    def state(self) -> ConsumerState:
        """What the consumer is doing now; no round trip."""
        since = self._env.clock.now() - self._progress_at
        held = {} if self._subscription is None else dict(self._subscription.standing())
        error = self._loop.last_error
        return ConsumerState(
            name=self.spec.name,
            running=self._loop.ready,
            alive=self._loop.ready and since < STALLED,
            partitions=held,
            lag=sum(lag or 0 for lag in held.values()),
            since_progress_s=since.total_seconds(),
            last_error=None if error is None else f"{type(error).__name__}: {error}",
            restarts=self._restarts,
            counts=self._counts,
        )

    async def _step(self) -> bool:
        if self._failures:
            delay_s = _AGAIN.delay_s(self._failures, self._env.jitter())
            await self._env.sleep(delay_s)
        self._failures += 1  # until the step has ended well
        try:
            consumer = self._consumer or await self._join()
            more = await consumer.step() or await consumer.replay_asked() > 0
            self._failures = 0
        finally:
            if self._failures:
                self._restarts += 1
                await self._leave()
        self._progress_at = self._env.clock.now()
        return more

    async def _join(self) -> Consumer:
        if self._transport is None:
            self._transport = self._connect()
        spec = self.spec
        self._subscription = await self._transport.subscribe(spec.name, spec.topics)
        self._consumer = Consumer(
            spec,
            subscription=self._subscription,
            uow=self._uow,
            ledger=self._ledger,
            env=self._env,
            poll_s=self._poll_s,
        )
        self._consumer.counts = self._counts  # goes on counting
        return self._consumer

    async def _leave(self) -> None:
        subscription, self._subscription, self._consumer = self._subscription, None, None
        if subscription is not None:
            await subscription.close()
