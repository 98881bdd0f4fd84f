"""Dead letters in SQL, as a person deals with them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, func, select, update

from onefold.adapters.sql.schema import dead_letters as table
from onefold.ports.dead_letters import Wanted
from onefold.ports.tables import rows_of
from onefold.ports.unit_of_work import UnitOfWork

_CAUSE = (table.c.consumer, table.c.topic, table.c.event_type, table.c.reason)


class SqlDeadLetters:
    """See `ports.dead_letters.DeadLetters`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def find(self, wanted: Wanted, *, limit: int) -> Sequence[Mapping[str, Any]]:
        oldest = _only(select(table), wanted).order_by(table.c.parked_at, table.c.id)
        async with self._uow.read() as tx:
            return rows_of(await tx.execute(oldest.limit(limit)))

    async def causes(self, wanted: Wanted) -> Sequence[Mapping[str, Any]]:
        letters = func.count().label("letters")
        counted = select(
            *_CAUSE,
            letters,
            func.min(table.c.parked_at).label("first"),
            func.max(table.c.parked_at).label("last"),
            func.max(table.c.detail).label("detail"),
        )
        grouped = _only(counted, wanted).group_by(*_CAUSE).order_by(letters.desc(), *_CAUSE)
        async with self._uow.read() as tx:
            return rows_of(await tx.execute(grouped))

    async def ask(
        self, ids: Sequence[str], *, note: str, now: datetime, apart: timedelta
    ) -> Sequence[str]:
        parked = select(table.c.id).where(table.c.id.in_(sorted(ids)), table.c.state == "parked")
        asked = update(table).where(table.c.id == bindparam("_id")).values(state="asked", note=note)
        async with self._uow.begin() as tx:
            found = set((await tx.execute(parked.order_by(table.c.id).with_for_update())).scalars())
            moved = [id_ for id_ in ids if id_ in found]
            due = [{"_id": id_, "moved_at": now + n * apart} for n, id_ in enumerate(moved)]
            if due:
                await tx.execute(asked, due)
        return moved

    async def discard(self, ids: Sequence[str], *, note: str, now: datetime) -> Sequence[str]:
        open_ = table.c.id.in_(sorted(ids)) & table.c.state.in_(("parked", "asked"))
        given_up = update(table).where(open_).values(state="discarded", note=note, moved_at=now)
        async with self._uow.begin() as tx:
            done = set((await tx.execute(given_up.returning(table.c.id))).scalars())
        return [id_ for id_ in ids if id_ in done]


def _only(query: Select[Any], wanted: Wanted) -> Select[Any]:
    for name in ("consumer", "topic", "event_type", "reason", "state"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(table.c[name] == value)
    return query.where(table.c.id.in_(wanted.ids)) if wanted.ids else query
