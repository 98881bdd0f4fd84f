"""What waits to be sent, in the order of the outbox's positions."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, exists, or_, select, update

from onefold.adapters.sql.schema import outbox, relay_shards
from onefold.core.envelope import Event
from onefold.core.wire import decode
from onefold.ports.outbox import SendFailure, Shipment, Waiting
from onefold.ports.tables import Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction, UnitOfWork

_EARLIER = outbox.alias("earlier")


class SqlOutbox:
    """See `ports.outbox.Outbox`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def unsent(self, *, limit: int) -> Sequence[Event]:
        oldest = select(outbox.c.body).where(outbox.c.sent_at.is_(None))
        async with self._uow.read() as tx:
            ordered = oldest.order_by(outbox.c.position).limit(limit)
            return [decode(body) for body in (await tx.execute(ordered)).scalars()]

    async def lease(
        self, owner: str, *, now: datetime, lease: timedelta, limit: int
    ) -> Shipment | None:
        async with self._uow.begin() as tx:
            shard = await self._free_shard(tx, now)
            if shard is None:
                return None
            fence = await self._take(tx, shard, owner, now, lease)
            if fence is None:
                return None
            rows = rows_of(await tx.execute(_sendable(now, shard).limit(limit)))
        waiting = [
            Waiting(r["position"], decode(r["body"]), r["attempts"], r["published_at"])
            for r in rows
        ]
        return Shipment(shard=shard, fence=fence, waiting=waiting)

    async def _free_shard(self, tx: Transaction, now: datetime) -> int | None:
        """The shard with the oldest event to send among those that nobody holds."""
        held = select(relay_shards.c.shard).where(relay_shards.c.leased_until > now)
        oldest = _sendable(now).where(outbox.c.shard.not_in(held)).limit(1)
        row = row_of(await tx.execute(oldest))
        return None if row is None else int(row["shard"])

    async def _take(
        self, tx: Transaction, shard: int, owner: str, now: datetime, lease: timedelta
    ) -> int | None:
        """The fence of a new lease; None when another relay was faster."""
        until = now + lease
        new = {"shard": shard, "owner": owner, "fence": 1, "leased_until": until}
        if await tx.insert_new(relay_shards, [new]):
            return 1
        free = and_(relay_shards.c.shard == shard, relay_shards.c.leased_until <= now)
        fence = relay_shards.c.fence + 1
        take = update(relay_shards).where(free).values(owner=owner, fence=fence, leased_until=until)
        taken = (await tx.execute(take.returning(relay_shards.c.fence))).scalar_one_or_none()
        return None if taken is None else int(taken)

    async def mark(
        self,
        shipment: Shipment,
        *,
        sent: Collection[int],
        failed: Collection[SendFailure],
        now: datetime,
    ) -> bool:
        ours = and_(relay_shards.c.shard == shipment.shard, relay_shards.c.fence == shipment.fence)
        give_back = update(relay_shards).where(ours).values(leased_until=now)
        async with self._uow.begin() as tx:
            if not (await tx.execute(give_back)).rowcount:
                return False
            if sent:
                done = update(outbox).where(outbox.c.position.in_(sorted(sent)))
                await tx.execute(done.values(sent_at=now, last_error=None))
            if failed:
                await tx.execute(_FAILED, [_failed_row(f, now) for f in sorted(failed)])
        return True


def _sendable(now: datetime, shard: int | None = None) -> Any:
    """Unsent rows whose key no earlier row blocks, the oldest first."""
    blocking = and_(
        _EARLIER.c.shard == outbox.c.shard,
        _EARLIER.c.key == outbox.c.key,
        _EARLIER.c.position < outbox.c.position,
        _EARLIER.c.sent_at.is_(None),
        or_(_EARLIER.c.next_at > now, _EARLIER.c.dead_at.is_not(None)),
    )
    ripe = and_(
        outbox.c.sent_at.is_(None),
        outbox.c.dead_at.is_(None),
        or_(outbox.c.next_at.is_(None), outbox.c.next_at <= now),
        ~exists().where(blocking),
    )
    columns = ("position", "body", "attempts", "published_at", "shard")
    query = select(*(outbox.c[name] for name in columns)).where(ripe)
    if shard is not None:
        query = query.where(outbox.c.shard == shard)
    return query.order_by(outbox.c.position)


_FAILED = (
    update(outbox)
    .where(outbox.c.position == bindparam("_position"))
    .values(attempts=outbox.c.attempts + 1)
)


def _failed_row(failure: SendFailure, now: datetime) -> Row:
    return {
        "_position": failure.position,
        "last_error": failure.error[:1000],
        "next_at": failure.next_at,
        "dead_at": now if failure.next_at is None else None,
    }
