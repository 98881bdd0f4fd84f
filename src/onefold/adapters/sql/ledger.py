"""Spans, starts and dead letters in SQL."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, case, select, update

from onefold.adapters.sql.schema import dead_letters, spans, starts
from onefold.core.ids import derived_id
from onefold.ports.ledger import Begun, DeadLetter, PositionSpan
from onefold.ports.tables import rows_of
from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Transaction, UnitOfWork

_NOTES = ("first", "last", "begun_at", "token", "before_first", "before_last", "before_token")
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
    .values({name: bindparam(f"to_{name}") for name in _NOTES})
)


class SqlLedger:
    """See `ports.ledger.Ledger`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def begin(
        self, consumer: str, spans_: Collection[PositionSpan], *, token: str, now: datetime
    ) -> Collection[Begun]:
        wanted = {span.partition: span for span in sorted(spans_)}
        topics = sorted({partition.topic for partition in wanted})
        async with self._uow.begin() as tx:
            noted = await tx.execute(_NOTED, [{"of_consumer": consumer, "of_topics": topics}])
            before = {_partition(row): row for row in rows_of(noted)}
            answers = {p: _answer(before.get(p), span, token) for p, span in wanted.items()}
            # Where its token stands this call was here before, and its answer was lost.
            to_note = {
                p: _note(span, token, answers[p], now)
                for p, span in wanted.items()
                if p not in before or before[p]["token"] != token
            }
            fresh = [_place(consumer, p) | to_note[p] for p in to_note.keys() - before.keys()]
            new = await tx.insert_new(spans, fresh) if fresh else set()
            moved = [
                _move(consumer, p, note) for p, note in to_note.items() if (consumer, *p) not in new
            ]
            if moved:
                await tx.execute(_MOVED, moved)
        return [answer for answer in answers.values() if answer is not None]

    async def count(
        self, consumer: str, partition: Partition, position: int, *, token: str, now: datetime
    ) -> int:
        place = _place(consumer, partition) | {"position": position}
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


def _answer(row: Mapping[str, Any] | None, span: PositionSpan, token: str) -> Begun | None:
    """What was begun before *span* and not settled; once told, told again under its token."""
    if row is None:
        return None
    if row["token"] == token:
        return _begun(span.partition, row, "before_")
    before = _begun(span.partition, row, "")
    return before if before and before.span.overlaps(span) else None


def _begun(partition: Partition, row: Mapping[str, Any], which: str) -> Begun | None:
    first, last, token = (row[f"{which}{name}"] for name in ("first", "last", "token"))
    return None if first is None else Begun(PositionSpan(partition, first, last), token)


def _note(span: PositionSpan, token: str, before: Begun | None, now: datetime) -> dict[str, Any]:
    earlier = (None, None, None) if before is None else (*before.span[1:], before.token)
    return dict(zip(_NOTES, (span.first, span.last, now, token, *earlier), strict=True))


def _partition(row: Mapping[str, Any]) -> Partition:
    return Partition(row["topic"], row["partition"])


def _place(consumer: str, partition: Partition) -> dict[str, Any]:
    return {"consumer": consumer, "topic": partition.topic, "partition": partition.number}


def _move(consumer: str, partition: Partition, note: Mapping[str, Any]) -> dict[str, Any]:
    place = {f"of_{name}": value for name, value in _place(consumer, partition).items()}
    return place | {f"to_{name}": value for name, value in note.items()}


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
