"""What an audit of a live store finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from onefold.ports.transport import Partition


class Severity(Enum):
    """What a finding means."""

    BROKEN = "broken"  # a promise does not hold: wake someone
    WAITING = "waiting"  # somebody or some process has to do something


@dataclass(frozen=True, kw_only=True)
class Check:
    """
    One thing that was looked at.

    Attributes:
        name: Stable, for scripts.
        promise: What holds when nothing was found.
        weight: What a finding means.
        found: How many there are.
        samples: Some of them, in words.
        unknown: Why it could not be looked at, if so.
    """

    name: str
    promise: str
    weight: Severity
    found: int = 0
    samples: Sequence[str] = ()
    unknown: str = ""


class Audit(Protocol):
    """Looks at one snapshot of a store; changes nothing, locks nothing."""

    async def run(
        self,
        *,
        now: datetime,
        markers: Mapping[str, str],
        depth: int,
        settled: Mapping[str, Mapping[Partition, int]] | None = None,
    ) -> Sequence[Check]:
        """
        All checks, in a fixed order, whatever they find.

        Args:
            now: The caller's time.
            markers: Consumer to `table.column`, where its effect leaves the event's identity.
            depth: How many of the newest messages and events are read one by one.
            settled: Consumer to `Retention.settled_to`, of a broker that is elsewhere. Asked
                of it before this snapshot: what is settled meanwhile is begun before.

        Raises:
            InvalidInput: a marker is no `table.column`.
            StoreFailed: a marker's table or column is not there.
            StoreUnavailable: nothing is known.
        """
        ...
