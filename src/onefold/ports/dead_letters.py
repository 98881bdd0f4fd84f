"""Dead letters as a person deals with them: found, counted by cause, replayed, discarded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """
    Which letters: those that agree with all that is given.

    Attributes:
        ids: One of these; any if empty.
        consumer: Who could not apply it.
        topic: Where it came from.
        event_type: What it is about.
        reason: Stable code of why.
        state: `parked`, `asked`, `replayed` or `discarded`.
    """

    ids: Sequence[str] = field(default=())
    consumer: str | None = None
    topic: str | None = None
    event_type: str | None = None
    reason: str | None = None
    state: str | None = None


class DeadLetters(Protocol):
    """All calls raise StoreUnavailable; what was not answered may have happened."""

    async def find(self, wanted: Wanted, *, limit: int) -> Sequence[Mapping[str, Any]]:
        """At most *limit* letters, the longest parked first, as flat rows."""
        ...

    async def causes(self, wanted: Wanted) -> Sequence[Mapping[str, Any]]:
        """
        How many letters there are of each consumer, topic, type and reason, the most first.

        With `letters`, `first` and `last` parked, and one `detail` of the cause.
        """
        ...

    async def ask(
        self, ids: Sequence[str], *, note: str, now: datetime, apart: timedelta
    ) -> Sequence[str]:
        """
        Ask for the replay of parked letters, one every *apart* from *now* on; which were.

        When each is due stands with it: nobody needs to wait here, and dying loses nothing.
        """
        ...

    async def discard(self, ids: Sequence[str], *, note: str, now: datetime) -> Sequence[str]:
        """Give parked and asked letters up for good; which were."""
        ...
