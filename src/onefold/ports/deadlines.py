"""What is due."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """One armed deadline, as `Transaction.schedule` wrote it."""

    kind: str
    key: str
    due_at: datetime
    payload: Mapping[str, Any]


class Deadlines(Protocol):
    """Reads the deadlines that `Transaction.schedule` armed."""

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        """
        Deadlines of *kind* with `due_at <= now`, the longest due first, at most *limit*.

        One round trip; sees committed rows only; changes nothing.

        Raises:
            StoreUnavailable: calling again is safe.
        """
        ...
