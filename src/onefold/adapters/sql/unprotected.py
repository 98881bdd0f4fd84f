"""Unprotected runs in the table `onefold_unprotected`."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, tuple_, update

from onefold.adapters.sql.claim_tables import unprotected as table
from onefold.ports.guard import ClaimKey
from onefold.ports.unit_of_work import KEEP, UnitOfWork
from onefold.ports.unprotected import Unprotected

_KEY = tuple_(table.c.consumer, table.c.source, table.c.event_id)


class SqlUnprotectedLog:
    """See `ports.unprotected.UnprotectedLog`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def note(self, event: Unprotected) -> None:
        row = {
            **event.key._asdict(),
            "fingerprint": event.fingerprint,
            "times": event.times,
            "processed_at": event.processed_at,
            "settled_at": None,
            "forget_at": event.processed_at + event.keep,
        }
        again = (
            update(table)
            .where(_KEY.in_([tuple(event.key)]))
            .values(
                times=table.c.times + event.times,
                processed_at=event.processed_at,
                fingerprint=event.fingerprint,
                settled_at=None,
                forget_at=event.processed_at + event.keep,
            )
        )
        async with self._uow.begin() as tx:
            if not await tx.insert_new(table, [row]):
                await tx.execute(again)

    async def unsettled(self, *, limit: int) -> Sequence[Unprotected]:
        oldest = (
            select(table)
            .where(table.c.settled_at.is_(None))
            .order_by(table.c.processed_at, *table.primary_key.columns)
            .limit(limit)
        )
        async with self._uow.read() as tx:
            return [
                Unprotected(
                    key=ClaimKey(row.consumer, row.source, row.event_id),
                    fingerprint=row.fingerprint,
                    processed_at=row.processed_at,
                    times=row.times,
                    keep=KEEP if row.forget_at is None else row.forget_at - row.processed_at,
                )
                for row in await tx.execute(oldest)
            ]

    async def settle(self, keys: Sequence[ClaimKey], *, now: datetime) -> None:
        async with self._uow.begin() as tx:
            for key in sorted(keys):
                mine = _KEY.in_([tuple(key)])
                await tx.execute(update(table).where(mine).values(settled_at=now))
