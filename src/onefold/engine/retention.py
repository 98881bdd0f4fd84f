"""
Removes what is over: records, sent events, letters that are dealt with, messages.

A record of an inbox stays at least for its `keep` *and* for as long as its message can come
again: while it waits unsettled in a broker that tells so, or lies parked. Where a broker
gives settled messages again (Kafka, within its retention), `keep` must be the longer;
`short_keeps` finds out, and the worker says so at its start.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from onefold.core.clock import Clock
from onefold.engine.consumer import ConsumerSpec
from onefold.errors import OnefoldError
from onefold.ports.retention import BrokerRetention, Retention, RetentionKind
from onefold.ports.unit_of_work import KEEP

log = logging.getLogger("onefold.retention")

Chore = Callable[[datetime], Awaitable[int]]


@dataclass(frozen=True, kw_only=True)
class Keeps:
    """
    How long what has ended is kept; for inbox records see `ConsumerSpec.keep`.

    Attributes:
        sent: Events in the outbox, after they were sent. Publishing the same id again
            within that time changes nothing.
        claims: Claims that were released or abandoned; a completed one stays for its `keep`.
        letters: Dead letters that were replayed or discarded.
        starts: Notes of what was begun: which message may have killed its worker.
        messages: Messages of our own brokers that every group has settled.
        unread: Messages of our own brokers in topics that no group reads.
        every: How often it is looked whether anything is over.
        batch: How many rows a transaction removes at the most.
    """

    sent: timedelta = timedelta(days=7)
    claims: timedelta = KEEP
    letters: timedelta = timedelta(days=90)
    starts: timedelta = KEEP
    messages: timedelta = timedelta(days=7)
    unread: timedelta = timedelta(days=30)
    every: timedelta = timedelta(minutes=10)
    batch: int = 1000


class RetentionLoop:
    """
    Removes a batch of each kind a step. Any number of them may run side by side.

    Args:
        retention: Where the rows are.
        broker: Where messages wait; what it owes to a consumer keeps that one's records.
        specs: Whose inbox records are looked after: those of this process alone, because
            no other knows where their messages come from.
        keeps: For how long.
        clock: What time it is.
        topics: What to trim besides the topics that *specs* read; may grow meanwhile.
    """

    def __init__(
        self,
        retention: Retention,
        broker: BrokerRetention,
        *,
        specs: Sequence[ConsumerSpec],
        keeps: Keeps,
        clock: Clock,
        topics: Collection[str] = (),
    ) -> None:
        self._retention, self._broker, self._specs = retention, broker, specs
        self._keeps, self._clock = keeps, clock
        self._topics = topics
        self.removed: dict[str, int] = {}

    async def step(self) -> bool:
        """
        Remove one batch of each kind; True when there may be more.

        A kind that cannot be removed now holds up no other: it is over later too.
        """
        now, more = self._clock.now(), False
        for name, chore in self._chores().items():
            try:
                removed = await chore(now)
            except OnefoldError as error:
                log.warning("could not remove %s: %s", name, error)
                continue
            self.removed[name] = self.removed.get(name, 0) + removed
            more |= removed >= self._keeps.batch
        return more

    def _chores(self) -> Mapping[str, Chore]:
        keeps = self._keeps
        ages = {
            RetentionKind.SENT: keeps.sent,
            RetentionKind.FORGOTTEN: timedelta(0),
            RetentionKind.CLAIMS: keeps.claims,
            RetentionKind.LETTERS: keeps.letters,
            RetentionKind.STARTS: keeps.starts,
            RetentionKind.UNPROTECTED: keeps.claims,
        }
        chores = {kind.name.lower(): self._remover(kind, age) for kind, age in ages.items()}
        return {"inbox": self._forget, "messages": self._trim, **chores}

    def _remover(self, kind: RetentionKind, age: timedelta) -> Chore:
        async def remove(now: datetime) -> int:
            return await self._retention.remove(kind, before=now - age, limit=self._keeps.batch)

        return remove

    async def _forget(self, now: datetime) -> int:
        horizons = {
            spec.name: await self._broker.unsettled_since(spec.name, spec.topics)
            for spec in self._specs
        }
        return await self._retention.forget(horizons, now=now, limit=self._keeps.batch)

    async def _trim(self, now: datetime) -> int:
        keeps = self._keeps
        ages = {"before": now - keeps.messages, "unread": now - keeps.unread}
        topics = sorted({*self._topics, *(t for spec in self._specs for t in spec.topics)})
        return await self._broker.trim(topics, **ages, limit=keeps.batch)


@dataclass(frozen=True, kw_only=True)
class ShortKeep:
    """A consumer that forgets an event while the broker may give it again."""

    consumer: str
    topic: str
    keep: timedelta
    retention_s: float

    def __str__(self) -> str:
        kept = "for ever" if math.isinf(self.retention_s) else f"for {self.retention_s:.0f} s"
        return (
            f"consumer {self.consumer!r} forgets events of {self.topic!r} after "
            f"{self.keep.total_seconds():.0f} s, but the broker keeps them {kept}: "
            "what is read again after that is applied again"
        )


async def short_keeps(specs: Sequence[ConsumerSpec], broker: BrokerRetention) -> list[ShortKeep]:
    """
    Where a consumer's shortest `keep` is below its source's retention, as far as that is known.

    A topic whose retention cannot be read is told in the log and left out.
    """
    found = []
    for spec in specs:
        for topic in spec.topics:
            try:
                retention_s = await broker.retention_s(topic)
            except OnefoldError as error:
                log.info("the retention of %s is not known: %s", topic, error)
                continue
            keep = shortest_keep(spec)
            if keep.total_seconds() < retention_s:
                found.append(
                    ShortKeep(consumer=spec.name, topic=topic, keep=keep, retention_s=retention_s)
                )
    return found


def shortest_keep(spec: ConsumerSpec) -> timedelta:
    """The shortest time for which *spec* keeps any record: any type may come by any topic."""
    if isinstance(spec.keep, timedelta):
        return spec.keep
    return min(spec.default_keep, *spec.keep.values())
