"""What a person sees of the outbox table."""

from collections.abc import Collection, Sequence

from sqlalchemy import and_, func, select, update

from onefold.adapters.sql.schema import outbox
from onefold.ports.backlog import DeadEvent, OutboxStatus
from onefold.ports.tables import rows_of
from onefold.ports.unit_of_work import UnitOfWork

_UNSENT = outbox.c.sent_at.is_(None)
_DEAD = and_(_UNSENT, outbox.c.dead_at.is_not(None))


class SqlBacklog:
    """See `ports.backlog.Backlog`. The partial index of unsent rows bounds the cost."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def standing(self) -> OutboxStatus:
        dead, oldest_at = func.count(outbox.c.dead_at), func.min(outbox.c.published_at)
        query = select(func.count().label("unsent"), dead.label("dead"), oldest_at.label("oldest"))
        async with self._uow.read() as tx:
            found = (await tx.execute(query.where(_UNSENT))).one()
        waiting = found.unsent - found.dead
        return OutboxStatus(waiting=waiting, dead=found.dead, oldest_at=found.oldest)

    async def dead(self, *, limit: int) -> Sequence[DeadEvent]:
        names = ("event_id", "event_type", "key", "attempts", "published_at", "dead_at")
        columns = [*(outbox.c[name] for name in names), outbox.c.last_error.label("error")]
        query = select(*columns).where(_DEAD).order_by(outbox.c.position).limit(limit)
        async with self._uow.read() as tx:
            return [DeadEvent(**row) for row in rows_of(await tx.execute(query))]

    async def revive(self, event_ids: Collection[str]) -> Sequence[str]:
        theirs = and_(_DEAD, outbox.c.event_id.in_(sorted(event_ids)))
        again = update(outbox).where(theirs).values(dead_at=None, next_at=None, attempts=0)
        async with self._uow.begin() as tx:
            return sorted((await tx.execute(again.returning(outbox.c.event_id))).scalars())
