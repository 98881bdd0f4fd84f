"""What waits to be sent, and who sends it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from onefold.core.envelope import Event


class Waiting(NamedTuple):
    """One event that waits to be sent."""

    position: int
    event: Event
    attempts: int  # how often sending it has failed
    published_at: datetime


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """
    Events of one shard, leased to one relay, in the order in which they must leave.

    Two events of one key are in the same shard, and a shard is leased to one relay at a
    time: that is what keeps the order of keys.
    """

    shard: int
    fence: int
    waiting: Sequence[Waiting]


class SendFailure(NamedTuple):
    """An event that could not be sent, and when to try again; never again if None."""

    position: int
    error: str
    next_at: datetime | None


class Outbox(Protocol):
    """Reads and ends the events that `Transaction.publish` wrote."""

    async def unsent(self, *, limit: int) -> Sequence[Event]:
        """
        The oldest unsent events, at most *limit*, in the order of their publishing.

        One transaction's events keep their order, and so do those of transactions that
        exclude each other (by a row lock); those of concurrent ones have none.
        One round trip; sees committed rows only; changes nothing.

        Raises:
            StoreUnavailable: calling again is safe.
        """
        ...

    async def lease(
        self, owner: str, *, now: datetime, lease: timedelta, limit: int
    ) -> Shipment | None:
        """
        Lease a shard that has something to send and is in nobody's hands.

        An event waits while an earlier one of its key waits for its next attempt or is
        dead; other keys are not held up.

        Returns:
            At most *limit* events of one shard; None when there is nothing to do.
        """
        ...

    async def mark(
        self,
        shipment: Shipment,
        *,
        sent: Collection[int],
        failed: Collection[SendFailure],
        now: datetime,
    ) -> bool:
        """
        Record what became of a shipment and give its shard back.

        Returns:
            False when the shard was leased to another relay meanwhile: nothing was
            recorded, and what was sent will be sent again under the same ids.
        """
        ...
