"""What a courier asks of the domain whose records it delivers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from msgspec import Struct

from onefold.ports.sink import Parcel, SendOutcome


@dataclass(frozen=True, kw_only=True)
class Route:
    """
    A destination that deliveries may go to now.

    Attributes:
        kind: The kind of its deadlines.
        school: Whose it is.
        destination: Its id.
        room: How many more may be on their way to it at once.
        version: Rises with each change of its configuration.
    """

    kind: str
    school: str
    destination: str
    room: int
    version: int
    sink: str
    config: Mapping[str, Any]
    secrets: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Route({self.destination})"  # never its secrets


class Sending(Struct, frozen=True, kw_only=True, gc=False):
    """One attempt that was begun: what to send, and the fence that settles it."""

    key: str
    destination: str
    fence: int
    parcel: Parcel


class DeliveryResult(Struct, frozen=True, kw_only=True, gc=False):
    """
    What became of one delivery, and when somebody should look at it again.

    Attributes:
        said: `delivered`, `retry`, `dead`, `held`, `skipped` or `cancelled`.
        again_at: None when there is nothing left to do.
    """

    key: str
    said: str
    again_at: datetime | None = None


class DeliveryBook(Protocol):
    """
    Loads what is due and records what became of it. Each call is one short transaction.

    Between `open` and `settle` nothing is held but a lease on each delivery.
    """

    async def routes(self, *, now: datetime) -> tuple[Sequence[Route], datetime | None]:
        """The destinations that may be delivered to now, and when the next one may be."""
        ...

    async def open(
        self, route: Route, keys: Sequence[str], *, now: datetime, lease: timedelta
    ) -> tuple[Sequence[Sending], Sequence[DeliveryResult]]:
        """
        Begin an attempt of each delivery of *keys* that may leave, and say why others may not.

        Attempts are counted and recorded before anything is sent.
        """
        ...

    async def settle(
        self, results: Sequence[tuple[Sending, SendOutcome, datetime]], *, now: datetime
    ) -> Sequence[DeliveryResult]:
        """Record how attempts ended and when; those whose fence is lost change nothing."""
        ...
