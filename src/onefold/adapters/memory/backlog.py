"""What a person sees of the outbox in memory."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork, OutboxRow
from onefold.ports.backlog import DeadEvent, OutboxStatus


class MemoryBacklog:
    """See `ports.backlog.Backlog`."""

    def __init__(self, uow: MemoryUnitOfWork) -> None:
        self._uow = uow

    async def standing(self) -> OutboxStatus:
        unsent = [row for row in self._rows() if not row.sent]
        dead = sum(row.dead for row in unsent)
        oldest_at = min((row.published_at for row in unsent), default=None)
        return OutboxStatus(waiting=len(unsent) - dead, dead=dead, oldest_at=oldest_at)

    async def dead(self, *, limit: int) -> Sequence[DeadEvent]:
        return [_dead(row, row.dead_at) for row in self._rows() if row.dead_at][:limit]

    async def revive(self, event_ids: Collection[str]) -> Sequence[str]:
        outbox = self._uow.committed.outbox
        revived = [id_ for id_ in event_ids if id_ in outbox and outbox[id_].dead]
        for id_ in revived:
            outbox[id_] = replace(outbox[id_], dead_at=None, next_at=None, attempts=0)
        return sorted(revived)

    def _rows(self) -> Sequence[OutboxRow]:
        return sorted(self._uow.committed.outbox.values(), key=lambda row: row.position)


def _dead(row: OutboxRow, dead_at: datetime) -> DeadEvent:
    event = row.event
    return DeadEvent(
        event_id=event.identity,
        event_type=event.type,
        key=event.key,
        attempts=row.attempts,
        error=row.error,
        published_at=row.published_at,
        dead_at=dead_at,
    )
