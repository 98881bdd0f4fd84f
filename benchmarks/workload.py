"""What a workload is: a route, how many connections post to it, how many events at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.play import Player

Event = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """
    One line of the table.

    Attributes:
        name: Of the line.
        path: What is posted to.
        connections: How many post at once, each for a player of its own.
        per_request: How many events each request carries.
        share: Of the run's events, how much this workload sends: slow ones send fewer.
        body: A request's body for some events.
    """

    name: str
    path: str
    connections: int
    per_request: int
    share: float = 1.0
    body: Callable[[Sequence[Event]], bytes]

    def events_each(self, events: int) -> int:
        """How many events each player has, of about *events* in all; full requests only."""
        requests = round(events * self.share / self.connections / self.per_request)
        return max(1, requests) * self.per_request

    def groups(self, player: Player) -> list[Sequence[Event]]:
        """The player's events, request by request."""
        starts = range(0, len(player.events), self.per_request)
        return [player.events[start : start + self.per_request] for start in starts]
