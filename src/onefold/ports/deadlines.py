"""What is due, and who acts on it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from msgspec import Struct


class Deadline(Struct, frozen=True, kw_only=True, gc=False):
    """
    One armed deadline, as `Transaction.schedule` or `Deadlines.arm` wrote it.

    Attributes:
        fence: Rises with each claim; who claimed it completes or postpones it by its fence.
    """

    kind: str
    key: str
    due_at: datetime
    payload: Mapping[str, Any]
    fence: int = 0


class Deadlines(Protocol):
    """
    Armed deadlines, and leases on those that are due.

    A claim is a lease: it ends by itself, because its holder may die, and the deadline is
    due again under a higher fence. Whoever acts must therefore bear acting twice.
    """

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        """
        Deadlines of *kind* with `due_at <= now`, the longest due first, at most *limit*.

        One round trip; sees committed rows only; changes nothing. What is claimed is not
        due before its lease ends.

        Raises:
            StoreUnavailable: calling again is safe.
        """
        ...

    async def arm(self, deadlines: Sequence[Deadline]) -> None:
        """
        Arm all of *deadlines*, outside of any transaction; arming one again moves it.

        Ends the lease of one that is claimed: its holder can neither complete nor postpone.

        Raises:
            StoreUnavailable: some may have been armed; arming them again is safe.
        """
        ...

    async def claim(
        self, kind: str, *, now: datetime, lease: timedelta, limit: int
    ) -> Sequence[Deadline]:
        """
        Lease what is due, the longest due first, at most *limit*; nobody else is given it.

        Atomic; two round trips at the most. Does not wait for what another claims meanwhile.

        Raises:
            StoreUnavailable: some may have been leased; they are due again when that ends.
        """
        ...

    async def complete(self, claimed: Sequence[Deadline]) -> Sequence[bool]:
        """
        Disarm what was acted on; False for each whose claim is lost, which stays as it is.

        Raises:
            StoreUnavailable: some may have been disarmed.
        """
        ...

    async def postpone(self, claimed: Sequence[tuple[Deadline, datetime]]) -> Sequence[bool]:
        """
        Give up claims and be due again at those instants; False for each claim that is lost.

        Raises:
            StoreUnavailable: some may have been postponed.
        """
        ...

    async def next_due(self, kinds: Collection[str]) -> Mapping[str, datetime]:
        """
        When each of *kinds* is next due, leases' ends included; a kind with nothing is absent.

        Does not get slower with what is armed. One round trip.
        """
        ...
