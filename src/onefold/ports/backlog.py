"""How much waits to be sent, since when, and what waits for a person."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class OutboxStatus:
    """
    The outbox as a whole, counted and not sampled.

    Attributes:
        waiting: Events that are still to be sent, dead ones not among them.
        dead: Events that are sent no more until somebody revives them.
        oldest_at: When the oldest of both was published; None if there is none.
    """

    waiting: int
    dead: int
    oldest_at: datetime | None

    def age_s(self, now: datetime) -> float:
        """How old the oldest is: what an alarm should watch."""
        return 0.0 if self.oldest_at is None else (now - self.oldest_at).total_seconds()


@dataclass(frozen=True, kw_only=True)
class DeadEvent:
    """One event that could not be sent, and what stands behind it."""

    event_id: str
    event_type: str
    key: str | None
    attempts: int
    error: str
    published_at: datetime
    dead_at: datetime


class Backlog(Protocol):
    """What a person sees of the outbox, and may do about it."""

    async def standing(self) -> OutboxStatus:
        """Count all that is not sent. One round trip."""
        ...

    async def dead(self, *, limit: int) -> Sequence[DeadEvent]:
        """At most *limit* dead events, in the order of their publishing."""
        ...

    async def revive(self, event_ids: Collection[str]) -> Sequence[str]:
        """
        Let dead events be sent again, under the same ids; which ones there were.

        Their attempts are forgotten, their age is not: one that fails again is dead at once.
        What waited behind it, with its key, leaves after it.
        """
        ...
