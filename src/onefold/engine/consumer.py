"""
One poll, one transaction: claim, handle, publish, commit; then settle.

A poll's messages are split into lanes by key, each lane a transaction of its own on a
connection of its own. In a lane all messages share one commit, without savepoints. When one
fails, the lane is rolled back and split until the failing message stands alone: it is
counted, and retried or parked. Later messages of its key wait for it; other keys go on.
How it is recorded that a message was applied is the matter of `engine.records`.

What dies where:
- before the commit: nothing was recorded, everything comes again;
- after the commit, before the settle: everything comes again and the inbox says REPEATED;
- in a handler that takes the process with it: the span noted by `Ledger.begin` is found by
  whoever gets the messages next; they are then begun in pieces, at last one by one, each
  start counted (`engine.suspects`), and the killer is parked after `max_attempts`.
"""

import asyncio
import logging
from asyncio import TaskGroup
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final, TypeVar

from onefold.core.backoff import Backoff
from onefold.core.envelope import Event
from onefold.engine.context import Handling
from onefold.engine.dead_topic import dead_event
from onefold.engine.dedup import COMMIT_TIME_ERRORS, ClaimBusy, HandlerFailed, record_of
from onefold.engine.delivery import Delivery, Environment, HandlerTransaction
from onefold.engine.failure_policy import FailureAction, Park
from onefold.engine.repeat_cache import RepeatCache
from onefold.engine.spec import ConsumerSpec
from onefold.engine.suspects import turns_of
from onefold.errors import (
    CommitUnknown,
    InvalidEvent,
    OnefoldError,
    StoreContended,
    StoreUnavailable,
)
from onefold.ports.ledger import Begun, DeadLetter, Ledger, PositionSpan, letter_message
from onefold.ports.transport import Message, Partition, Subscription
from onefold.ports.unit_of_work import Claimed, Transaction, UnitOfWork
from onefold.ports.watermarks import Watermarks

__all__ = [
    "Consumer",
    "ConsumerSpec",
    "Counts",
]

log = logging.getLogger("onefold.consumer")

T = TypeVar("T")

_READ_AT_ONCE: Final = 250  # messages: about a millisecond of CPU
_WHEN_BUSY: Final = Backoff(first_s=0.05, most_s=1)


@dataclass
class Counts:
    """What became of messages since the start; every message ends in exactly one of these."""

    applied: int = 0
    repeated: int = 0
    conflicts: int = 0
    parked: int = 0
    dropped: int = 0
    retried: int = 0
    busy: int = 0
    contended: int = 0
    commits_unknown: int = 0


class Consumer:
    """Runs one `ConsumerSpec` over one subscription. `step` is one poll; see the module."""

    def __init__(
        self,
        spec: ConsumerSpec,
        *,
        subscription: Subscription,
        uow: UnitOfWork,
        ledger: Ledger,
        env: Environment,
        watermarks: Watermarks | None = None,
        poll_s: float = 1.0,
    ) -> None:
        spec.check_transport(subscription.features)
        self.spec, self.counts = spec, Counts()
        self._record = record_of(spec, uow, env, watermarks)
        self._front = _front_of(spec, env)
        self._subscription, self._uow, self._ledger = subscription, uow, ledger
        self._env, self._poll_s = env, poll_s
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
        await self._handle_in_turns(due, [Delivery(message) for message in messages])
        await self._balance()
        return bool(due or messages)

    async def replay_asked(self, *, limit: int = 100) -> int:
        """
        Apply dead letters whose replay was asked for, oldest first; how many were tried.

        Each under its own event's inbox id, in a transaction of its own: what did succeed
        meanwhile is not applied again. What fails again is parked again.
        """
        asked = await self._ledger.letters(consumer=self.spec.name, state="asked", limit=limit)
        now = self._env.clock.now()
        due = [letter for letter in asked if letter["moved_at"] <= now]  # asked for at a rate
        for letter in due:
            await self._replay(letter)
        return len(due)

    async def _replay(self, letter: Mapping[str, Any]) -> None:
        delivery = Delivery.of(letter_message(letter))
        now = self._env.clock.now()
        try:
            if delivery.undecodable is not None:
                raise delivery.undecodable
            await self._record.replay(
                delivery,
                self._run_handlers,
                lambda tx: self._ledger.replayed(tx, letter["id"], now=now),
            )
        except ClaimBusy:  # asked for again at the next round
            return
        except (HandlerFailed, InvalidEvent, *COMMIT_TIME_ERRORS) as failure:
            error = failure.error if isinstance(failure, HandlerFailed) else failure
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
        now = self._env.clock.now()
        ripe = [
            k for k, q in self._waiting.items() if q[0].retry_at is None or q[0].retry_at <= now
        ]
        return [delivery for key in ripe for delivery in self._waiting.pop(key)]

    def _pause_s(self) -> float:
        heads = [q[0].retry_at for q in self._waiting.values() if q[0].retry_at]
        if not heads:
            return self._poll_s
        until = (min(heads) - self._env.clock.now()).total_seconds()
        return max(0.0, min(self._poll_s, until))

    def _must_wait(self, delivery: Delivery) -> bool:
        """Queue a delivery behind an earlier one of its key that failed."""
        if not self._waiting:
            return False
        queue = self._waiting.get(self._record.order_key(delivery))
        if queue is None:
            return False
        queue.append(delivery)
        return True

    async def _handle_in_turns(self, due: Sequence[Delivery], fresh: Sequence[Delivery]) -> None:
        turns = turns_of(fresh, await self._note(fresh))
        for turn in turns:
            if len(turns) > 1:  # the note says more than is begun now
                await self._note(turn)
            await self._handle([*due, *(d for d in turn if not self._must_wait(d))])
            due = ()

    async def _note(self, fresh: Sequence[Delivery]) -> Collection[Begun]:
        """Note what is about to be handled; what was begun of it before, and did not end."""
        spans = [
            PositionSpan(partition, min(positions), max(positions))
            for partition, positions in _positions(d.message for d in fresh).items()
        ]
        if not spans:
            return ()
        now, token = self._env.clock.now(), self._env.random(16).hex()
        return await self._patiently(
            lambda: self._ledger.begin(self.spec.name, spans, token=token, now=now)
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
        lanes = _lanes(deliveries, self._record.order_key, self.spec.concurrency)
        if len(lanes) == 1:
            await self._run_lane(lanes[0])
            return
        async with TaskGroup() as group:
            for lane in lanes:
                group.create_task(self._run_lane(lane))

    async def _run_lane(self, lane: Sequence[Delivery]) -> None:
        """
        Handle a lane in order, together where possible, and settle what is done.

        Its messages are read here and not before: the database works on one lane meanwhile.
        """
        await _read(lane)
        for batch in self._batches(lane):
            going = [d for d in batch if not self._must_wait(d)]
            repeats = await self._front.repeats(going) if self._front else {}
            self._count(list(repeats), repeats.values())
            done = await self._apply([d for d in going if d not in repeats])
            await self._settle([*repeats, *done])

    def _batches(self, lane: Sequence[Delivery]) -> list[list[Delivery]]:
        """Runs of deliveries that may share a transaction; the others each by itself."""
        batches: list[list[Delivery]] = []
        isolated = self.spec.isolated or self._record.alone
        for alone, run in groupby(lane, key=lambda d: d.alone or isolated):
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
            except HandlerFailed as failure:
                if len(part) > 1:
                    todo.extendleft(reversed(_split(part, failure.culprit)))
                elif await self._failed(part[0], failure.error):
                    done += part
            except ClaimBusy as elsewhere:
                self._wait_for_the_other(part[0], elsewhere.until)
            else:
                done += part
        return done

    async def _may_start(self, delivery: Delivery) -> bool:
        """Count a start that may be the last; False when the delivery was parked instead."""
        if delivery.undecodable is not None:
            await self._park(delivery, "undecodable", str(delivery.undecodable))
            return False
        if not delivery.alone or delivery.spared:
            delivery.spared = False
            return True
        await self._count_start(delivery)
        if delivery.attempt <= self.spec.max_attempts:
            return True
        if await self._patiently(lambda: self._record.has(delivery)):
            return True  # its workers died of something else; its turn ends as a repeat
        detail = f"begun {delivery.attempt - 1} times and never ended"
        await self._park(delivery, "killed_its_worker", detail)
        return False

    async def _count_start(self, delivery: Delivery) -> None:
        where = delivery.message.partition, delivery.message.position
        now, token = self._env.clock.now(), self._env.random(16).hex()
        delivery.attempt = await self._patiently(
            lambda: self._ledger.count(self.spec.name, *where, token=token, now=now)
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
            await self._env.sleep(self.spec.backoff.delay_s(attempt, self._env.jitter()))

    async def _transact(self, part: Sequence[Delivery]) -> None:
        """One transaction for all of *part*."""
        try:
            verdicts = await self._patiently(lambda: self._transact_once(part))
        except COMMIT_TIME_ERRORS as error:
            raise HandlerFailed(None, error) from error
        self._count(part, verdicts)
        if self._front:
            await self._front.learn(part, verdicts)

    async def _transact_once(self, part: Sequence[Delivery]) -> Sequence[Claimed]:
        return await self._record.apply(part, self._run_handlers)

    async def _run_handlers(
        self, tx: Transaction, part: Sequence[Delivery], first: Sequence[int], *, fence: int = 0
    ) -> None:
        given = HandlerTransaction(
            tx,
            consumer=self.spec.name,
            now=self._env.clock.now(),
            random=self._env.random,
            fence=fence,
            together=len(part) > 1 and not self.spec.batch,
        )
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
            raise HandlerFailed(i, error) from error

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
        if verdict is FailureAction.RETRY:
            self._wait_and_retry(delivery)
            return False
        if verdict is FailureAction.DROP:
            given_up = await self._give_up(delivery)
            self.counts.dropped += given_up
            return True
        await self._park(delivery, _reason(error), str(error))
        return True

    def _wait_and_retry(self, delivery: Delivery) -> None:
        self.counts.retried += 1
        delay_s = self.spec.backoff.delay_s(delivery.attempt, self._env.jitter())
        delivery.retry_at = self._env.clock.now() + timedelta(seconds=delay_s)
        self._waiting[self._record.order_key(delivery)] = deque([delivery])

    def _wait_for_the_other(self, delivery: Delivery, until: datetime) -> None:
        """Ask again while another worker is at it; busy is not done, and no failure either."""
        self.counts.busy += 1
        delivery.busy += 1
        delivery.spared = delivery.alone
        pause = timedelta(seconds=_WHEN_BUSY.bound_s(delivery.busy))
        now = self._env.clock.now()
        # At least a millisecond: what is due at once would spin.
        delivery.retry_at = max(min(now + pause, until), now + timedelta(milliseconds=1))
        by_itself = delivery.message.partition, delivery.message.position
        skips = self.spec.when_busy == "skip"
        key = by_itself if skips else self._record.order_key(delivery)
        self._waiting[key] = deque([delivery])

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
            parked_at=self._env.clock.now(),
        )

        given_up = await self._give_up(delivery, letter)  # first: other lanes count meanwhile
        self.counts.parked += given_up

    async def _give_up(self, delivery: Delivery, letter: DeadLetter | None = None) -> bool:
        """Let a message go, keeping *letter* of it; False when it was applied meanwhile."""

        async def once() -> bool:
            async with self._uow.begin() as tx:
                if not await self._record.give_up(tx, delivery):
                    return False
                if letter is not None:
                    await self._ledger.park(tx, letter)
                    if self.spec.dlq:
                        await tx.publish(dead_event(letter), now=letter.parked_at)
                return True

        given_up = await self._patiently(once)
        self.counts.repeated += not given_up
        return given_up


def _front_of(spec: ConsumerSpec, env: Environment) -> RepeatCache | None:
    if spec.front is None:
        return None
    owner = env.random(16).hex()
    return RepeatCache(
        spec.front, consumer=spec.name, owner=owner, clock=env.clock, keep_for=spec.keep_for
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, Park):
        return error.reason
    return error.code if isinstance(error, OnefoldError) else type(error).__name__


def _lanes(
    deliveries: Sequence[Delivery], order_key: Callable[[Delivery], object], most: int
) -> list[list[Delivery]]:
    """
    At most so many lanes, about equally long: the longest is waited for.

    A key stays in one lane, in its order; a new one goes where the fewest are.
    """
    lanes: list[list[Delivery]] = [[] for _ in range(most)]
    of_key: dict[object, list[Delivery]] = {}
    for delivery in deliveries:
        key = order_key(delivery)
        lane = of_key.get(key)
        if lane is None:
            lane = of_key[key] = min(lanes, key=len)
        lane.append(delivery)
    return [lane for lane in lanes if lane]


def _split(part: list[Delivery], culprit: int | None) -> list[list[Delivery]]:
    """Before the culprit, it alone, after it; halves when it is not known."""
    if culprit is None:
        middle = len(part) // 2
        return [part[:middle], part[middle:]]
    pieces = [part[:culprit], [part[culprit]], part[culprit + 1 :]]
    return [piece for piece in pieces if piece]


async def _read(lane: Sequence[Delivery]) -> None:
    """Read a lane's messages; between portions of many, other lanes' answers are followed."""
    for start in range(0, len(lane), _READ_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        for delivery in lane[start : start + _READ_AT_ONCE]:
            delivery.read()


def _positions(messages: Iterable[Message]) -> dict[Partition, list[int]]:
    positions: dict[Partition, list[int]] = defaultdict(list)
    for message in messages:
        positions[message.partition].append(message.position)
    return positions
