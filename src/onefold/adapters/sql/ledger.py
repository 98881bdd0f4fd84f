"""Spans, starts and dead letters in SQL."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, case, select, update

from onefold.adapters.sql.schema import dead_letters, spans, starts
from onefold.core.ids import derived_id
from onefold.ports.ledger import DeadLetter, Span
from onefold.ports.tables import rows_of
from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Transaction, UnitOfWork

# Made once: what is run for every poll is not worth building for every poll.
_NOTED = select(spans).where(
    spans.c.consumer == bindparam("of_consumer"),
    spans.c.topic.in_(bindparam("of_topics", expanding=True)),
)
_MOVED = (
    update(spans)
    .where(
        spans.c.consumer == bindparam("of_consumer"),
        spans.c.topic == bindparam("of_topic"),
        spans.c.partition == bindparam("of_partition"),
    )
    .values(first=bindparam("to_first"), last=bindparam("to_last"), begun_at=bindparam("at"))
)


class SqlLedger:
    """See `ports.ledger.Ledger`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def begin(
        self, consumer: str, spans_: Collection[Span], *, now: datetime
    ) -> Collection[Span]:
        wanted = {span.partition: span for span in sorted(spans_)}
        topics = sorted({partition.topic for partition in wanted})
        async with self._uow.begin() as tx:
            noted = await tx.execute(_NOTED, [{"of_consumer": consumer, "of_topics": topics}])
            before = {s.partition: s for s in map(_span, rows_of(noted)) if s.partition in wanted}
            fresh = [_span_row(consumer, wanted[p], now) for p in wanted.keys() - before.keys()]
            new = await tx.insert_new(spans, fresh) if fresh else set()
            moved = [
                _move(consumer, span, now)
                for span in wanted.values()
                if (consumer, *span.partition) not in new
            ]
            if moved:
                await tx.execute(_MOVED, moved)
        return [s for s in before.values() if _overlap(s, wanted[s.partition])]

    async def count(
        self, consumer: str, partition: Partition, position: int, *, token: str, now: datetime
    ) -> int:
        place = {
            "consumer": consumer,
            "topic": partition.topic,
            "partition": partition.number,
            "position": position,
        }
        row = place | {"starts": 1, "token": token, "begun_at": now}
        here = and_(*(starts.c[name] == value for name, value in place.items()))
        async with self._uow.begin() as tx:
            if await tx.insert_new(starts, [row]):
                return 1
            again = case((starts.c.token == token, 0), else_=1)
            counted = {"starts": starts.c.starts + again, "token": token, "begun_at": now}
            more = update(starts).where(here).values(counted)
            return int((await tx.execute(more.returning(starts.c.starts))).scalar_one())

    async def park(self, tx: Transaction, letter: DeadLetter) -> None:
        await tx.insert_new(dead_letters, [_letter_row(letter)])

    async def letters(
        self,
        *,
        consumer: str | None = None,
        state: str | None = None,
        reason: str | None = None,
        limit: int = 100,
    ) -> Sequence[Mapping[str, Any]]:
        wanted = {"consumer": consumer, "state": state, "reason": reason}
        query = select(dead_letters).order_by(dead_letters.c.parked_at, dead_letters.c.id)
        for name, value in wanted.items():
            if value is not None:
                query = query.where(dead_letters.c[name] == value)
        async with self._uow.read() as tx:
            return rows_of(await tx.execute(query.limit(limit)))

    async def move(
        self, ids: Collection[str], *, to: str, note: str, now: datetime
    ) -> Sequence[str]:
        movable = and_(
            dead_letters.c.id.in_(sorted(ids)), dead_letters.c.state.in_(("parked", "asked"))
        )
        change = update(dead_letters).where(movable).values(state=to, note=note, moved_at=now)
        async with self._uow.begin() as tx:
            moved = await tx.execute(change.returning(dead_letters.c.id))
            return sorted(moved.scalars())

    async def replayed(self, tx: Transaction, id_: str, *, now: datetime) -> None:
        here = dead_letters.c.id == id_
        await tx.execute(update(dead_letters).where(here).values(state="replayed", moved_at=now))


def _span_row(consumer: str, span: Span, now: datetime) -> dict[str, Any]:
    (topic, number), first, last = span
    place = {"consumer": consumer, "topic": topic, "partition": number}
    return place | {"first": first, "last": last, "begun_at": now}


def _span(row: Mapping[str, Any]) -> Span:
    return Span(Partition(row["topic"], row["partition"]), row["first"], row["last"])


def _overlap(one: Span, other: Span) -> bool:
    return one.first <= other.last and other.first <= one.last


def _move(consumer: str, span: Span, now: datetime) -> dict[str, Any]:
    (topic, number), first, last = span
    place = {"of_consumer": consumer, "of_topic": topic, "of_partition": number}
    return place | {"to_first": first, "to_last": last, "at": now}


def _letter_row(letter: DeadLetter) -> dict[str, Any]:
    place = (letter.consumer, *map(str, letter.partition), str(letter.position))
    named = ("event_id", "event_type", "key", "value", "reason", "detail", "attempts", "parked_at")
    return {
        "id": str(derived_id("dead letter", *place)),
        "consumer": letter.consumer,
        "topic": letter.partition.topic,
        "partition": letter.partition.number,
        "position": letter.position,
        "headers": [[name, value.hex()] for name, value in letter.headers],
        **{name: getattr(letter, name) for name in named},
        "state": "parked",
        "note": None,
        "moved_at": None,
    }
