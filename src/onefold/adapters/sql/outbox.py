"""What waits to be sent, in the order of the outbox's positions."""

from collections.abc import Sequence

from sqlalchemy import select

from onefold.adapters.sql.schema import outbox
from onefold.core.envelope import Event
from onefold.core.wire import decode
from onefold.ports.unit_of_work import UnitOfWork


class SqlOutbox:
    """See `ports.outbox.Outbox`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def unsent(self, *, limit: int) -> Sequence[Event]:
        async with self._uow.read() as tx:
            oldest = select(outbox.c.body).order_by(outbox.c.position).limit(limit)
            return [decode(body) for body in (await tx.execute(oldest)).scalars()]
