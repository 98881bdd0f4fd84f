"""What was processed while no guard answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from onefold.ports.guard import ClaimKey
from onefold.ports.unit_of_work import KEEP


@dataclass(frozen=True, kw_only=True)
class Unprotected:
    """
    One event that was processed without a claim: it may have been applied before, or again.

    Attributes:
        key: Which event, of which consumer.
        fingerprint: Of its content.
        processed_at: When its handler confirmed, the last time.
        times: How often it was processed so.
        keep: How long its handler would have had it remembered, from `processed_at` on.
    """

    key: ClaimKey
    fingerprint: bytes
    processed_at: datetime
    times: int = 1
    keep: timedelta = KEEP


class UnprotectedLog(Protocol):
    """Keeps the ids of unprotected runs until they are settled with the guard."""

    async def note(self, event: Unprotected) -> None:
        """
        Write one down; the same key again counts up, is unsettled again, and is as it is now.

        Raises:
            StoreUnavailable: it may have been written down.
        """
        ...

    async def unsettled(self, *, limit: int) -> Sequence[Unprotected]:
        """At most *limit* that were not settled, the oldest first."""
        ...

    async def settle(self, keys: Sequence[ClaimKey], *, now: datetime) -> None:
        """Mark as settled. Settling twice is harmless."""
        ...
