"""What waits to be sent, in memory."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork, OutboxRow
from onefold.core.envelope import Event
from onefold.core.shard import shard_of
from onefold.ports.outbox import SendFailure, Shipment, Waiting


class MemoryOutbox:
    """See `ports.outbox.Outbox`."""

    def __init__(self, uow: MemoryUnitOfWork) -> None:
        self._uow = uow
        self._leases: dict[int, tuple[int, datetime]] = {}  # shard: fence, until

    async def unsent(self, *, limit: int) -> Sequence[Event]:
        return [row.event for row in self._rows() if not row.sent][:limit]

    async def lease(
        self,
        owner: str,
        *,
        now: datetime,
        lease: timedelta,
        limit: int,
    ) -> Shipment | None:
        free = (row for row in self._sendable(now) if self._lease(shard_of(row.event))[1] <= now)
        oldest = next(free, None)
        if oldest is None:
            return None
        shard = shard_of(oldest.event)
        fence = self._lease(shard)[0] + 1
        self._leases[shard] = fence, now + lease
        waiting = [
            Waiting(row.position, row.event, row.attempts, row.published_at)
            for row in self._sendable(now)
            if shard_of(row.event) == shard
        ]
        return Shipment(shard=shard, fence=fence, waiting=waiting[:limit])

    async def mark(
        self,
        shipment: Shipment,
        *,
        sent: Collection[int],
        failed: Collection[SendFailure],
        now: datetime,
    ) -> bool:
        if self._lease(shipment.shard)[0] != shipment.fence:
            return False
        failures = {failure.position: failure for failure in failed}
        outbox = self._uow.committed.outbox
        for id_, row in outbox.items():
            failure = failures.get(row.position)
            if row.position in sent:
                outbox[id_] = replace(row, sent=True)
            elif failure is not None:
                outbox[id_] = replace(
                    row,
                    attempts=row.attempts + 1,
                    next_at=failure.next_at,
                    dead_at=now if failure.next_at is None else None,
                    error=failure.error,
                )
        self._leases[shipment.shard] = shipment.fence, now
        return True

    def _lease(self, shard: int) -> tuple[int, datetime]:
        return self._leases.get(shard, (0, _LONG_AGO))

    def _rows(self) -> Sequence[OutboxRow]:
        return sorted(self._uow.committed.outbox.values(), key=lambda row: row.position)

    def _sendable(self, now: datetime) -> Iterator[OutboxRow]:
        """Unsent rows whose key no earlier row blocks, the oldest first."""
        blocked = set()
        for row in self._rows():
            waits = row.dead or (row.next_at is not None and row.next_at > now)
            if not row.sent and waits and row.event.key is not None:
                blocked.add(row.event.key)
            elif not row.sent and not waits and row.event.key not in blocked:
                yield row


_LONG_AGO = datetime.min.replace(tzinfo=UTC)
