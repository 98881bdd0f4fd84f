"""What waits to be sent."""

from collections.abc import Sequence
from typing import Protocol

from onefold.core.envelope import Event


class Outbox(Protocol):
    """Reads the events that `Transaction.publish` wrote and that no relay has sent."""

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
