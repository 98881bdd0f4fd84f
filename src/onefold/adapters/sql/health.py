"""Whether the database takes writes and gives them back."""

from datetime import datetime

from sqlalchemy import select, update

from onefold.adapters.sql.schema import health
from onefold.errors import StoreFailed
from onefold.ports.unit_of_work import UnitOfWork


async def probe(uow: UnitOfWork, node: str, *, now: datetime) -> None:
    """
    Write this node's heartbeat and read it back, in one transaction.

    Raises:
        StoreUnavailable, StoreContended, StoreFailed: it did not work, and why.
    """
    mine = health.c.node == node
    async with uow.begin() as tx:
        if not await tx.insert_new(health, [{"node": node, "seen_at": now}]):
            await tx.execute(update(health).where(mine).values(seen_at=now))
        seen_at = (await tx.execute(select(health.c.seen_at).where(mine))).scalar_one()
    if seen_at != now:
        raise StoreFailed(f"wrote the heartbeat {now}, read {seen_at}")
