"""What is kept for a time and no longer: who removes it, and what may never be removed."""

from collections.abc import Collection, Mapping
from datetime import datetime
from enum import Enum
from typing import Protocol

from onefold.ports.transport import Partition


class RetentionKind(Enum):
    """What is kept besides the records of an inbox."""

    SENT = "sent events of the outbox"
    FORGOTTEN = "completed claims whose time to be kept is over"
    CLAIMS = "released and abandoned claims"
    LETTERS = "dead letters that were replayed or discarded"
    STARTS = "notes of what was begun"
    UNPROTECTED = "settled notes of unprotected runs"


class Retention(Protocol):
    """
    Removes what is over, a small batch a call, each call one transaction.

    Any number of callers work side by side: none waits for another's rows, and a row is
    removed once. A call that fails removed nothing, or nobody knows; calling again is safe.

    All calls raise StoreUnavailable and StoreContended.
    """

    async def forget(
        self, horizons: Mapping[str, datetime | None], *, now: datetime, limit: int
    ) -> int:
        """
        Remove inbox records whose time to be kept is over; how many.

        Never that of an event that can come again from here, however old it is: its message
        lies parked as a dead letter, its replay was asked for, or the outbox holds it unsent
        (its relay may have died between sending and marking it).

        Args:
            horizons: Consumer to the instant from which on its records must stay, whatever
                their age; None for no such instant. Other consumers' records stay.
            now: The caller's time.
            limit: At most so many.
        """
        ...

    async def remove(self, kind: RetentionKind, *, before: datetime, limit: int) -> int:
        """Remove at most *limit* of *kind* that ended before then; how many."""
        ...


class BrokerRetention(Protocol):
    """How long a broker keeps what it was sent, and what it still owes to whom."""

    async def unsettled_since(self, group: str, topics: Collection[str]) -> datetime | None:
        """
        When the oldest message was sent that *group* has not settled; None without any.

        What was sent before then never comes to that group again, unless by `retention_s`.

        Raises:
            StoreUnavailable: the broker does not answer.
        """
        ...

    async def settled_to(
        self, group: str, topics: Collection[str]
    ) -> Mapping[Partition, int] | None:
        """
        Up to where *group* has settled: the first position of each partition that it has not.

        Partitions of which it has settled nothing may be missing. None where messages are
        settled one by one, and there is no such position.

        Raises:
            StoreUnavailable: the broker does not answer.
        """
        ...

    async def retention_s(self, topic: str) -> float:
        """
        How long a message can come again though it was settled; infinite for ever.

        Raises:
            StoreUnavailable: the broker does not answer, or does not know the topic.
            StoreFailed: it does not let us know.
        """
        ...

    async def trim(
        self, topics: Collection[str], *, before: datetime, unread: datetime, limit: int
    ) -> int:
        """
        Remove old messages, about *limit*, and tell how many.

        Args:
            topics: Which ones are looked at; a broker that knows all of its own looks at all.
            before: Messages sent earlier go when every group has settled them, and else stay.
            unread: Messages sent earlier go when no group reads their topic.
            limit: After how many to stop.
        """
        ...
