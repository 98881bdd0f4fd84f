"""What is due, the longest due first."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from onefold.adapters.sql.schema import deadlines
from onefold.ports.deadlines import Deadline
from onefold.ports.unit_of_work import UnitOfWork


class SqlDeadlines:
    """See `ports.deadlines.Deadlines`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        ripe = (
            select(deadlines)
            .where(deadlines.c.kind == kind, deadlines.c.due_at <= now)
            .order_by(deadlines.c.due_at, deadlines.c.key)
            .limit(limit)
        )
        async with self._uow.read() as tx:
            return [Deadline(**row) for row in (await tx.execute(ripe)).mappings()]
