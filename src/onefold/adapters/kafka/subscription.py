"""
One member of a consumer group, polled by one thread of its own.

The thread polls whatever the handlers do, so that the broker sees a live member however
slow they are; it stops fetching when they do not keep up. Rebalances run in that thread,
inside `poll`, and so do commits, between polls: a call from another thread would wait for
ever while this one polls (confluent-kafka 2.16 lets one call at a time into a consumer,
and is not fair). On revocation what is done is committed, then the hold ends: from then on
`settle` refuses the messages fetched under it, and no commit for them can be on its way.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as Record

from onefold.adapters.kafka.errors import REBALANCING, at_the_border, translate
from onefold.adapters.kafka.intake import KafkaIntake
from onefold.errors import IllegalTransition, OnefoldError, StoreUnavailable
from onefold.ports.transport import Message, Partition, TransportFeatures

FEATURES = TransportFeatures(
    name="kafka", order="key", settles_singly=False, survives_process=True, replays=True
)

_log = logging.getLogger("onefold.kafka")

_POLL_S = 0.1  # how soon a pause, a resume or a close is noticed while nothing comes
_BRISK_S = 0.005  # and a settlement, which can only come while messages are out
_BATCH = 500  # records taken from librdkafka in one call: 0.6 µs each, 139 µs one by one
# How long the thread waits for room before it pauses: librdkafka throws away what it has
# fetched when it is paused, so that must not happen between two batches of a busy handler.
_GRACE_S = 0.5
_LOOK_EVERY_S = 1.0  # how old `standing` may be
_COMMIT_TRIES = 50  # at most so often, this far apart, while the group is rebalancing
_COMMIT_WAIT_S = 0.1


class KafkaSubscription:
    """See `ports.transport.Subscription`."""

    def __init__(self, options: dict[str, Any], topics: Collection[str], *, buffer: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._intake = KafkaIntake(limit=buffer, wake=self._wake)
        self._settlements: deque[_Settlement] = deque()
        self._admitting = Lock()
        self._ended = False  # no settlement is served any more
        self._stopping = Event()
        self._killed = self._closed = False
        self._resting: set[Partition] = set()  # what librdkafka has paused
        self._behind: dict[Partition, int] = {}  # messages in the log that were not fetched
        self._looked_at = 0.0
        with at_the_border():
            self._consumer: Consumer | None = Consumer(
                {**options, "error_cb": self._on_error, "logger": _log}
            )
            self._consumer.subscribe(
                list(topics),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
        self._thread = Thread(target=self._poll, name="onefold-kafka", daemon=True)
        self._thread.start()

    @property
    def features(self) -> TransportFeatures:
        return FEATURES

    async def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Message]:
        if self._closed:
            raise IllegalTransition("closed", "receive")
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not self._intake.deliverable() and not self._closed:
                    self._news.clear()
                    if not self._intake.deliverable():  # it may have come before the clear
                        await self._news.wait()
        return self._intake.take(max_messages)

    async def settle(self, messages: Sequence[Message]) -> Sequence[Message]:
        if not messages:
            return []
        for _ in range(_COMMIT_TRIES):
            with suppress(_Rebalancing):
                return await self._settled(messages)
            await asyncio.sleep(_COMMIT_WAIT_S)
        raise StoreUnavailable("the group did not come to rest")

    async def _settled(self, messages: Sequence[Message]) -> Sequence[Message]:
        settlement = _Settlement(messages, self._loop.create_future())
        with self._admitting:
            if self._ended:
                return messages
            self._settlements.append(settlement)
        self._intake.poke()
        return await settlement.answer

    async def lost(self) -> Collection[tuple[Partition, int]]:
        return self._intake.lost()

    def standing(self) -> Mapping[Partition, int | None]:
        fetched = self._behind  # replaced as a whole by the thread
        return {
            partition: None if (behind := fetched.get(partition)) is None else behind + unsettled
            for partition, unsettled in self._intake.unsettled().items()
        }

    async def pause(self, partitions: Collection[Partition]) -> None:
        self._intake.pause(partitions)

    async def resume(self, partitions: Collection[Partition]) -> None:
        self._intake.resume(partitions)

    async def close(self) -> None:
        self._closed = True
        self._stopping.set()
        self._news.set()
        await asyncio.to_thread(self._thread.join)

    async def kill(self) -> None:
        """Die without a goodbye: the group waits for the session's time-out. For tests."""
        self._killed = True
        await self.close()

    # In the thread.

    def _poll(self) -> None:
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 (only this thread ends it)
        try:
            self._go_on(consumer)
        except KafkaException as error:  # `receive` tells it; its caller joins the group anew
            self._intake.fail(translate(error.args[0]))
        if not self._killed:
            with suppress(KafkaException, RuntimeError):
                consumer.close()  # revokes: commits what is done and leaves the group
        self._intake.lose(self._intake.epochs())
        self._consumer = None
        with self._admitting:
            self._ended = True
        self._serve(consumer)  # nothing is held any more: all of it is refused

    def _go_on(self, consumer: Consumer) -> None:
        choked = False
        while not self._stopping.is_set():
            if choked:
                choked = not self._intake.half_empty()
            else:
                choked = not self._intake.wait_for_room(_GRACE_S, unless=lambda: self._settlements)
            self._rest(consumer, choked=choked)
            self._fetch(consumer)
            self._look(consumer)
            self._serve(consumer)

    def _serve(self, consumer: Consumer) -> None:
        """Settle what was asked for."""
        while self._settlements:
            settlement = self._settlements.popleft()
            refused = self._intake.done(settlement.messages)
            try:
                self._commit(consumer, self._intake.committable())
            except (_Rebalancing, OnefoldError) as error:
                # Its traceback would keep the consumer alive, and so in its group.
                self._answer(settlement, error.with_traceback(None))
            else:
                self._answer(settlement, refused)

    def _answer(self, settlement: "_Settlement", answer: list[Message] | Exception) -> None:
        def tell() -> None:
            if settlement.answer.done():
                return  # its caller was cancelled
            if isinstance(answer, Exception):
                settlement.answer.set_exception(answer)
            else:
                settlement.answer.set_result(answer)

        with suppress(RuntimeError):  # the loop has ended; nobody waits
            self._loop.call_soon_threadsafe(tell)

    def _rest(self, consumer: Consumer, *, choked: bool) -> None:
        """Bring librdkafka's pauses in line with what is wanted."""
        held = self._intake.epochs().keys()
        wanted = set(held) if choked else self._intake.paused_until()
        with suppress(KafkaException):  # a partition that is being taken away needs no pause
            if rest := wanted - self._resting:
                consumer.pause(_offsets(rest))
                self._resting |= rest
            if wake := (self._resting - wanted) & held:
                consumer.resume(_offsets(wake))
        self._resting &= wanted

    def _fetch(self, consumer: Consumer) -> None:
        # `consume` waits until it is full or its time is over; `poll` only for the first.
        first = consumer.poll(_BRISK_S if self._intake.working() else _POLL_S)
        if first is None:
            return
        held = self._intake.epochs()
        records = consumer.consume(_BATCH - 1, 0)
        # A rebalance may run inside `consume`, which then gives nothing of what was held before
        # it (librdkafka 2.16 purges that): all is held as of now, though it was lost meanwhile.
        fetched = [
            *self._messages([first], held),
            *self._messages(records, self._intake.epochs()),
        ]
        self._intake.fill(fetched)

    def _look(self, consumer: Consumer) -> None:
        """How far each log has grown beyond what was fetched, as the last fetches told."""
        if monotonic() - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = monotonic()
        behind: dict[Partition, int] = {}
        with suppress(KafkaException):  # a partition that is being taken away tells nothing
            for at in consumer.position(_offsets(self._intake.epochs())):
                known = consumer.get_watermark_offsets(at, cached=True)
                if known[1] >= 0:
                    # Before the first fetch there is no position: nothing, or all, is left.
                    start = at.offset if at.offset >= 0 else max(known[0], 0)
                    behind[Partition(at.topic, at.partition)] = max(0, known[1] - start)
        self._behind = behind

    def _messages(
        self, records: Iterable[Record], epochs: dict[Partition, int]
    ) -> Iterable[Message]:
        for record in records:
            error = record.error()
            if error is not None:
                self._on_error(error)
                continue
            message = _message(record, epochs)
            if message is not None:
                yield message

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._intake.gain(_named(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        revoked = _named(partitions)
        done = self._intake.committable(revoked)
        if done and not self._killed:
            with suppress(KafkaException):  # then they come again, to their new member
                consumer.commit(offsets=_offsets(done), asynchronous=False)
        self._forget(revoked)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(_named(partitions))

    def _forget(self, partitions: list[Partition]) -> None:
        self._resting.difference_update(partitions)
        self._intake.lose(partitions)

    def _on_error(self, error: KafkaError) -> None:
        # librdkafka reconnects by itself; of single brokers' troubles there is nothing to say.
        if error.code() not in {KafkaError._TRANSPORT, KafkaError._RESOLVE}:
            self._intake.fail(translate(error))

    def _commit(self, consumer: Consumer, offsets: dict[Partition, int]) -> None:
        if not offsets:
            return
        try:
            answers = consumer.commit(offsets=_offsets(offsets), asynchronous=False)
            verdicts = [answer.error for answer in answers if answer.error]
        except KafkaException as error:
            verdicts = [error.args[0]]
        for verdict in verdicts:
            # Between two generations: the partition may well be kept. `poll` will tell.
            raise _Rebalancing if verdict.code() in REBALANCING else translate(verdict)
        self._intake.committed(offsets)

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop has ended; nobody waits
            self._loop.call_soon_threadsafe(self._news.set)


@dataclass(frozen=True)
class _Settlement:
    """What one call of `settle` asks the thread for."""

    messages: Sequence[Message]
    answer: asyncio.Future[Sequence[Message]]


class _Rebalancing(Exception):
    """The group is between two generations; the same commit may be right in a moment."""


def _named(partitions: Iterable[TopicPartition]) -> list[Partition]:
    return [Partition(p.topic, p.partition) for p in partitions]


def _offsets(partitions: Iterable[Partition] | dict[Partition, int]) -> list[TopicPartition]:
    if isinstance(partitions, dict):
        return [TopicPartition(p.topic, p.number, offset) for p, offset in partitions.items()]
    return [TopicPartition(p.topic, p.number) for p in partitions]


def _message(record: Record, epochs: dict[Partition, int]) -> Message | None:
    topic, number, offset = record.topic(), record.partition(), record.offset()
    if topic is None or number is None or offset is None:
        return None
    partition = Partition(topic, number)
    epoch = epochs.get(partition)
    if epoch is None:  # taken away while it was fetched
        return None
    kind, sent_ms = record.timestamp()
    stamped = kind != TIMESTAMP_NOT_AVAILABLE
    return Message(
        partition=partition,
        position=offset,
        key=_bytes(record.key()),
        value=_bytes(record.value()),
        headers=tuple(_headers(record.headers() or ())),
        sent_at=datetime.fromtimestamp(sent_ms / 1000, UTC) if stamped else None,
        epoch=epoch,
    )


def _headers(headers: Any) -> Iterable[tuple[str, bytes]]:
    return ((name, _bytes(value) or b"") for name, value in headers)


def _bytes(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()
