"""
One poll, one transaction: claim, handle, publish, commit; then settle.

A poll's messages are split into lanes by key, each lane a transaction of its own on a
connection of its own. In a lane all messages share one commit, without savepoints. When one
fails, the lane is rolled back and split until the failing message stands alone: it is
counted, and retried or parked. Later messages of its key wait for it; other keys go on.

What dies where:
- before the commit: nothing was recorded, everything comes again;
- after the commit, before the settle: everything comes again and the inbox says REPEATED;
- in a handler that takes the process with it: the span noted by `Ledger.begin` is found by
  whoever gets the messages next; they are then begun one by one, each start counted, and
  the killer is parked after `max_attempts`.
"""

import logging
from asyncio import TaskGroup
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from itertools import groupby
from typing import Any, TypeVar

from onefold.core.backoff import Backoff
from onefold.core.envelope import Event
from onefold.engine.context import Handling
from onefold.engine.dead_topic import dead_event
from onefold.engine.delivery import Delivery, Handler, HandlerTransaction, Surroundings
from onefold.errors import (
    CommitUnknown,
    ConstraintViolated,
    IllegalTransition,
    InvalidEvent,
    OnefoldError,
    StoreContended,
    StoreFailed,
    StoreUnavailable,
)
from onefold.ports.ledger import DeadLetter, Ledger, Span, letter_message
from onefold.ports.transport import Message, Partition, Subscription
from onefold.ports.unit_of_work import KEEP, Claimed, Transaction, UnitOfWork

log = logging.getLogger("onefold.consumer")

T = TypeVar("T")


class Verdict(Enum):
    """What to do with a message whose handler failed."""

    RETRY = auto()
    PARK = auto()
    DROP = auto()


class Park(Exception):
    """Raised by a handler: this message can never succeed; park it at once, with a reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def retry_then_park(error: BaseException, attempt: int, most: int) -> Verdict:
    """The default policy: retried up to the attempts allowed, then parked; `Park` at once."""
    if isinstance(error, Park) or attempt >= most:
        return Verdict.PARK
    return Verdict.RETRY


Policy = Callable[[BaseException, int, int], Verdict]
Keep = timedelta | Mapping[str, timedelta]


@dataclass(frozen=True, kw_only=True)
class ConsumerSpec:
    """
    One consumer as its author declared it.

    Attributes:
        name: Stable: part of every inbox record. Renaming it applies everything again.
        topics: What it reads.
        handler: `async (event, tx)`, or with `batch` `async (events, tx)`.
        batch: The handler takes a list of events and writes set-based.
        isolated: One transaction per event: for handlers with effects outside `tx`.
        max_batch: How many messages share a transaction at the most.
        concurrency: How many lanes work side by side, on disjoint keys.
        max_attempts: How often a message is begun before it is parked.
        backoff: Between the attempts.
        policy: What to do with a failure.
        max_waiting: How many messages may wait behind failing ones before their
            partitions are paused.
        dlq: Publish what is parked to the topic `<its topic>.dlq` too, in the transaction
            that parks it: raw bytes, and why in the headers; see `engine.dead_topic`.
        marker: Where its effect leaves the event's `identity`, as `table.column`: `onefold verify`
            looks whether every record has its effect.
        keep: How long inbox records are kept: for all, or by event type. Never shorter than
            a message can come again; see docs/explain/keeping.md.
        default_keep: For event types that *keep* does not name.
    """

    name: str
    topics: tuple[str, ...]
    handler: Handler
    batch: bool = False
    isolated: bool = False
    max_batch: int = 100
    concurrency: int = 1
    max_attempts: int = 5
    backoff: Backoff = field(default_factory=Backoff)
    policy: Policy = retry_then_park
    max_waiting: int = 1000
    dlq: bool = False
    marker: str | None = None
    keep: Keep = KEEP
    default_keep: timedelta = KEEP

    def keep_for(self, event_type: str) -> timedelta:
        """How long the inbox record of an event of that type is kept."""
        if isinstance(self.keep, timedelta):
            return self.keep
        return self.keep.get(event_type, self.default_keep)


@dataclass
class Counts:
    """What became of messages since the start; every message ends in exactly one of these."""

    applied: int = 0
    repeated: int = 0
    conflicts: int = 0
    parked: int = 0
    dropped: int = 0
    retried: int = 0
    contended: int = 0
    commits_unknown: int = 0


class _HandlerFailed(Exception):
    """A handler raised; which delivery's, unless it was a batch handler of several."""

    def __init__(self, culprit: int | None, error: Exception) -> None:
        super().__init__(culprit, error)
        self.culprit, self.error = culprit, error


class Consumer:
    """Runs one `ConsumerSpec` over one subscription. `step` is one poll; see the module."""

    def __init__(
        self,
        spec: ConsumerSpec,
        *,
        subscription: Subscription,
        uow: UnitOfWork,
        ledger: Ledger,
        around: Surroundings,
        poll_s: float = 1.0,
    ) -> None:
        self.spec, self.counts = spec, Counts()
        self._subscription, self._uow, self._ledger = subscription, uow, ledger
        self._around, self._poll_s = around, poll_s
        self._waiting: dict[object, deque[Delivery]] = {}
        self._paused: set[Partition] = set()

    @property
    def waiting(self) -> int:
        """How many messages wait behind failing ones of their key."""
        return sum(len(queue) for queue in self._waiting.values())

    async def step(self) -> bool:
        """
        Handle what is there: retries that are due and one poll. True when there was any.

        Cancelling it, or dying in it, loses nothing: what was not settled comes again.
        """
        due = self._due()
        wait_s = 0.0 if due else self._pause_s()
        messages = await self._subscription.receive(max_messages=self.spec.max_batch, wait_s=wait_s)
        await self._forget_lost()
        fresh = [Delivery.of(message) for message in messages]
        await self._note(fresh)
        await self._handle([*due, *(d for d in fresh if not self._must_wait(d))])
        await self._balance()
        return bool(due or messages)

    async def replay_asked(self, *, limit: int = 100) -> int:
        """
        Apply dead letters whose replay was asked for, oldest first; how many were tried.

        Each under its own event's inbox id, in a transaction of its own: what did succeed
        meanwhile is not applied again. What fails again is parked again.
        """
        asked = await self._ledger.letters(consumer=self.spec.name, state="asked", limit=limit)
        now = self._around.clock.now()
        due = [letter for letter in asked if letter["moved_at"] <= now]  # asked for at a rate
        for letter in due:
            await self._replay(letter)
        return len(due)

    async def _replay(self, letter: Mapping[str, Any]) -> None:
        delivery = Delivery.of(letter_message(letter))
        now = self._around.clock.now()
        try:
            if delivery.undecodable is not None:
                raise delivery.undecodable
            async with self._uow.begin() as tx:
                claims = [delivery.claim_for(self.spec.keep_for)]
                (claimed,) = await tx.claim_many(self.spec.name, claims, now=now)
                if claimed is Claimed.FIRST:
                    await self._run_handlers(tx, [delivery], [0])
                await self._ledger.replayed(tx, letter["id"], now=now)
        except (_HandlerFailed, InvalidEvent) as failure:
            error = failure.error if isinstance(failure, _HandlerFailed) else failure
            log.warning("replay of %s failed again: %s", letter["id"], error)
            note = f"{_reason(error)}: {error}"
            await self._ledger.move([letter["id"]], to="parked", note=note, now=now)

    async def drain(self) -> None:
        """Step until nothing is there and nothing waits for a retry that is due."""
        while await self.step():
            pass

    # -- what is to be handled now -------------------------------------------------------

    def _due(self) -> list[Delivery]:
        """Take whole queues whose head may be tried again, in their order."""
        now = self._around.clock.now()
        ripe = [
            k for k, q in self._waiting.items() if q[0].retry_at is None or q[0].retry_at <= now
        ]
        return [delivery for key in ripe for delivery in self._waiting.pop(key)]

    def _pause_s(self) -> float:
        heads = [q[0].retry_at for q in self._waiting.values() if q[0].retry_at]
        if not heads:
            return self._poll_s
        until = (min(heads) - self._around.clock.now()).total_seconds()
        return max(0.0, min(self._poll_s, until))

    def _must_wait(self, delivery: Delivery) -> bool:
        """Queue a delivery behind an earlier one of its key that failed."""
        queue = self._waiting.get(delivery.order_key)
        if queue is None:
            return False
        queue.append(delivery)
        return True

    async def _note(self, fresh: Sequence[Delivery]) -> None:
        """Note the spans that are about to be handled; mark what may have killed a worker."""
        spans = [
            Span(partition, min(positions), max(positions))
            for partition, positions in _positions(d.message for d in fresh).items()
        ]
        if not spans:
            return
        now = self._around.clock.now()
        suspects = await self._patiently(lambda: self._ledger.begin(self.spec.name, spans, now=now))
        for delivery in fresh:
            message = delivery.message
            delivery.alone |= any(
                span.partition == message.partition and span.first <= message.position <= span.last
                for span in suspects
            )

    async def _forget_lost(self) -> None:
        """Drop what waits from partitions that are no longer ours: their new owner gets it."""
        lost = set(await self._subscription.lost())
        if not lost:
            return
        for key, queue in list(self._waiting.items()):
            kept = deque(d for d in queue if (d.message.partition, d.message.epoch) not in lost)
            if kept:
                self._waiting[key] = kept
            else:
                del self._waiting[key]

    async def _balance(self) -> None:
        """Stop receiving while too much waits; go on when it does not."""
        if self.waiting > self.spec.max_waiting:
            holding = {d.message.partition for q in self._waiting.values() for d in q}
            await self._subscription.pause(holding - self._paused)
            self._paused |= holding
        elif self._paused:
            await self._subscription.resume(self._paused)
            self._paused = set()

    # -- handling ------------------------------------------------------------------------

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        lanes: dict[int, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            lanes[hash(delivery.order_key) % self.spec.concurrency].append(delivery)
        if len(lanes) == 1:
            await self._run_lane(next(iter(lanes.values())))
            return
        async with TaskGroup() as group:
            for lane in lanes.values():
                group.create_task(self._run_lane(lane))

    async def _run_lane(self, lane: Sequence[Delivery]) -> None:
        """Handle a lane in order, together where possible, and settle what is done."""
        for batch in self._batches(lane):
            done = await self._apply([d for d in batch if not self._must_wait(d)])
            await self._settle(done)

    def _batches(self, lane: Sequence[Delivery]) -> list[list[Delivery]]:
        """Runs of deliveries that may share a transaction; the others each by itself."""
        batches: list[list[Delivery]] = []
        for alone, run in groupby(lane, key=lambda d: d.alone or self.spec.isolated):
            together = list(run)
            batches += [[d] for d in together] if alone else [together]
        return batches

    async def _settle(self, done: Sequence[Delivery]) -> None:
        messages = [delivery.message for delivery in done]
        await self._patiently(lambda: self._subscription.settle(messages))

    async def _apply(self, batch: Sequence[Delivery]) -> list[Delivery]:
        """Apply the batch, splitting it where it fails; those that are dealt with for good."""
        done: list[Delivery] = []
        todo: deque[list[Delivery]] = deque([list(batch)])
        while todo:
            part = [d for d in todo.popleft() if not self._must_wait(d)]
            if not part:
                continue
            if len(part) == 1 and not await self._may_start(part[0]):
                done += part
                continue
            try:
                await self._transact(part)
            except _HandlerFailed as failure:
                if len(part) > 1:
                    todo.extendleft(reversed(_split(part, failure.culprit)))
                elif await self._failed(part[0], failure.error):
                    done += part
            else:
                done += part
        return done

    async def _may_start(self, delivery: Delivery) -> bool:
        """Count a start that may be the last; False when the delivery was parked instead."""
        if delivery.undecodable is not None:
            await self._park(delivery, "undecodable", str(delivery.undecodable))
            return False
        if not delivery.alone:
            return True
        await self._count_start(delivery)
        if delivery.attempt <= self.spec.max_attempts:
            return True
        detail = f"begun {delivery.attempt - 1} times and never ended"
        await self._park(delivery, "killed_its_worker", detail)
        return False

    async def _count_start(self, delivery: Delivery) -> None:
        where = delivery.message.partition, delivery.message.position
        now = self._around.clock.now()
        delivery.attempt = await self._patiently(
            lambda: self._ledger.count(self.spec.name, *where, now=now)
        )

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """
        The result of *work*, begun again for as long as the store or the broker fails.

        For work that may safely be begun again: a transaction whose claims decide, a count,
        a settle. A commit whose answer was lost is begun again too: its claims are read back
        by the new claims, and what was recorded is then REPEATED. Nothing is guessed.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await work()
            except StoreContended:
                self.counts.contended += 1
            except CommitUnknown:
                self.counts.commits_unknown += 1
            except StoreUnavailable as error:
                log.warning("%s waits: %s", self.spec.name, error)
            await self._around.sleep(self.spec.backoff.delay_s(attempt, self._around.jitter()))

    async def _transact(self, part: Sequence[Delivery]) -> None:
        """One transaction for all of *part*."""
        try:
            verdicts = await self._patiently(lambda: self._transact_once(part))
        except (ConstraintViolated, StoreFailed, IllegalTransition) as error:
            # Only the commit told: a deferred constraint, or an error that a handler swallowed.
            raise _HandlerFailed(None, error) from error
        self._count(part, verdicts)

    async def _transact_once(self, part: Sequence[Delivery]) -> Sequence[Claimed]:
        now = self._around.clock.now()
        async with self._uow.begin() as tx:
            claims = [delivery.claim_for(self.spec.keep_for) for delivery in part]
            verdicts = await tx.claim_many(self.spec.name, claims, now=now)
            first = [i for i, verdict in enumerate(verdicts) if verdict is Claimed.FIRST]
            await self._run_handlers(tx, part, first)
        return verdicts

    async def _run_handlers(
        self, tx: Transaction, part: Sequence[Delivery], first: Sequence[int]
    ) -> None:
        facts = {"consumer": self.spec.name, "now": self._around.clock.now()}
        given = HandlerTransaction(tx, random=self._around.random, **facts)  # type: ignore[arg-type]
        if self.spec.batch:
            if first:
                events = [part[i].event for i in first]
                with Handling(self.spec.name, None, None):
                    await self._call(events, given, first[0] if len(first) == 1 else None)
        else:
            for i in first:
                given.event, given.message = part[i].event, part[i].message
                with Handling(self.spec.name, given.event, given.message):
                    await self._call(given.event, given, i)
        await given.flush()

    async def _call(
        self, subject: Event | Sequence[Event | None] | None, tx: HandlerTransaction, i: int | None
    ) -> None:
        try:
            await self.spec.handler(subject, tx)
        except (StoreContended, StoreUnavailable, CommitUnknown):
            raise  # the store failed, not the handler
        except Exception as error:
            raise _HandlerFailed(i, error) from error

    def _count(self, part: Sequence[Delivery], verdicts: Iterable[Claimed]) -> None:
        for delivery, verdict in zip(part, verdicts, strict=True):
            if verdict is Claimed.FIRST:
                self.counts.applied += 1
            else:
                self.counts.repeated += 1
            if verdict is Claimed.CONFLICT:
                self.counts.conflicts += 1
                log.error(
                    "%s: event %s came again with other content",
                    self.spec.name,
                    delivery.claim.event_id,
                )

    # -- failing -------------------------------------------------------------------------

    async def _failed(self, delivery: Delivery, error: Exception) -> bool:
        """Retry, park or drop a delivery that failed alone; True when it is dealt with."""
        if not delivery.alone:  # its first failure: counted from now on
            delivery.alone = True
            await self._count_start(delivery)
        verdict = self.spec.policy(error, delivery.attempt, self.spec.max_attempts)
        with Handling(self.spec.name, delivery.event, delivery.message):
            log.warning(
                "%s failed on %s, attempt %d: %s",
                self.spec.name,
                delivery.claim.event_id,
                delivery.attempt,
                verdict.name,
                exc_info=error,
            )
        if verdict is Verdict.RETRY:
            self._wait_and_retry(delivery)
            return False
        if verdict is Verdict.DROP:
            self.counts.dropped += 1
            return True
        await self._park(delivery, _reason(error), str(error))
        return True

    def _wait_and_retry(self, delivery: Delivery) -> None:
        self.counts.retried += 1
        delay_s = self.spec.backoff.delay_s(delivery.attempt, self._around.jitter())
        delivery.retry_at = self._around.clock.now() + timedelta(seconds=delay_s)
        self._waiting[delivery.order_key] = deque([delivery])

    async def _park(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Keep the message as a dead letter, without claiming it: a replay must be able to."""
        message, event = delivery.message, delivery.event
        letter = DeadLetter(
            consumer=self.spec.name,
            partition=message.partition,
            position=message.position,
            event_id=event.identity if event else None,
            event_type=event.type if event else None,
            key=message.key,
            value=message.value,
            headers=message.headers,
            reason=reason,
            detail=detail.replace("\0", "")[:1000],
            attempts=max(1, delivery.attempt),
            parked_at=self._around.clock.now(),
        )

        async def keep() -> None:
            async with self._uow.begin() as tx:
                await self._ledger.park(tx, letter)
                if self.spec.dlq:
                    await tx.publish(dead_event(letter), now=letter.parked_at)

        await self._patiently(keep)
        self.counts.parked += 1


def _reason(error: BaseException) -> str:
    if isinstance(error, Park):
        return error.reason
    return error.code if isinstance(error, OnefoldError) else type(error).__name__


def _split(part: list[Delivery], culprit: int | None) -> list[list[Delivery]]:
    """Before the culprit, it alone, after it; halves when it is not known."""
    if culprit is None:
        middle = len(part) // 2
        return [part[:middle], part[middle:]]
    pieces = [part[:culprit], [part[culprit]], part[culprit + 1 :]]
    return [piece for piece in pieces if piece]


def _positions(messages: Iterable[Message]) -> dict[Partition, list[int]]:
    positions: dict[Partition, list[int]] = defaultdict(list)
    for message in messages:
        positions[message.partition].append(message.position)
    return positions
