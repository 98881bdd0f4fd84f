"""
Removes what is over, in small batches that no other purger waits for.

Rows are picked in the order of an index, so that a batch costs what it removes and not what
the table holds; PostgreSQL skips those that somebody else has locked.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, delete, exists, or_, select, tuple_

from onefold.adapters.sql.claim_tables import claims, unprotected
from onefold.adapters.sql.schema import dead_letters, inbox, outbox, spans, starts
from onefold.ports.retention import RetentionKind
from onefold.ports.unit_of_work import Transaction, UnitOfWork

# A message is sent by one machine and its record made by another: how far their clocks
# may be apart before a record counts as older than its message.
CLOCKS_APART: Final = timedelta(hours=1)

_YOUNGER = outbox.alias("younger")


class SqlRetention:
    """See `ports.retention.Retention`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def forget(
        self, horizons: Mapping[str, datetime | None], *, now: datetime, limit: int
    ) -> int:
        removed = 0
        for consumer, horizon in sorted(horizons.items()):
            over = [
                inbox.c.consumer == consumer,
                inbox.c.forget_at <= now,
                ~exists().where(_LETTER),
                ~exists().where(_UNSENT),
            ]
            if horizon is not None:
                over.append(inbox.c.claimed_at < horizon - CLOCKS_APART)
            async with self._uow.begin() as tx:
                removed += await _remove(tx, inbox, over, [inbox.c.forget_at], limit - removed)
            if removed >= limit:
                break
        return removed

    async def remove(self, kind: RetentionKind, *, before: datetime, limit: int) -> int:
        removed = 0
        async with self._uow.begin() as tx:
            for table, over, order in _over(kind, before):
                removed += await _remove(tx, table, over, order, limit - removed)
        return removed


# What may bring a record's event again from this very database.
_LETTER = and_(
    dead_letters.c.consumer == inbox.c.consumer,
    dead_letters.c.state.in_(("parked", "asked")),
    dead_letters.c.event_id == inbox.c.event_id,
)
_UNSENT = and_(outbox.c.event_id == inbox.c.event_id, outbox.c.sent_at.is_(None))


def _over(
    kind: RetentionKind, before: datetime
) -> Sequence[tuple[Table, list[ColumnElement[bool]], list[Any]]]:
    """What of *kind* ended before then, by table; and by what order it is found."""
    if kind is RetentionKind.SENT:
        return [(outbox, _sent_long_ago(before), [outbox.c.position])]
    if kind is RetentionKind.FORGOTTEN:
        return [(claims, [claims.c.forget_at <= before], [claims.c.forget_at])]
    if kind is RetentionKind.CLAIMS:
        # One whose lease ended so long ago has no worker that could still confirm it.
        left = [claims.c.state != "completed", claims.c.until <= before]
        return [(claims, left, list(claims.primary_key))]
    if kind is RetentionKind.LETTERS:
        final = dead_letters.c.state.in_(("replayed", "discarded"))
        return [(dead_letters, [final, dead_letters.c.moved_at <= before], [dead_letters.c.id])]
    if kind is RetentionKind.UNPROTECTED:
        return [(unprotected, [unprotected.c.settled_at <= before], list(unprotected.primary_key))]
    return [(t, [t.c.begun_at <= before], list(t.primary_key)) for t in (spans, starts)]


def _sent_long_ago(before: datetime) -> list[ColumnElement[bool]]:
    """
    Sent rows at the outbox's old end, up to the first that was sent lately.

    Positions rise as time goes on: what stands behind that one has time until it is old
    itself, and the young rows, nearly all of them, are never looked at.
    """
    young = (
        select(_YOUNGER.c.position)
        .where(_YOUNGER.c.sent_at > before)
        .order_by(_YOUNGER.c.position)
        .limit(1)
        .scalar_subquery()
    )
    old = or_(young.is_(None), outbox.c.position < young)
    return [outbox.c.sent_at <= before, old]


async def _remove(
    tx: Transaction,
    table: Table,
    over: Sequence[ColumnElement[bool]],
    order: Sequence[Any],
    limit: int,
) -> int:
    if limit <= 0:
        return 0
    key = list(table.primary_key)
    oldest = select(*key).where(*over).order_by(*order).limit(limit)
    # A CTE, because PostgreSQL may run a subquery more than once, and each time skip other
    # rows: that would remove more than the limit. SQLite has one writer, and no such words.
    picked = oldest.with_for_update(skip_locked=True, of=table).cte("picked")
    gone = delete(table).where(tuple_(*key).in_(select(*picked.c))).returning(key[0])
    return len((await tx.execute(gone)).all())
