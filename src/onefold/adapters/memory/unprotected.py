"""Unprotected runs in a dictionary. Nothing survives the process."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from onefold.ports.guard import ClaimKey
from onefold.ports.unprotected import Unprotected


class MemoryUnprotectedLog:
    """See `ports.unprotected.UnprotectedLog`."""

    def __init__(self) -> None:
        self._noted: dict[ClaimKey, Unprotected] = {}
        self._settled: set[ClaimKey] = set()

    async def note(self, event: Unprotected) -> None:
        before = self._noted.pop(event.key, None)
        times = event.times + (before.times if before else 0)
        self._noted[event.key] = replace(event, times=times)
        self._settled.discard(event.key)

    async def unsettled(self, *, limit: int) -> Sequence[Unprotected]:
        open_ = [event for key, event in self._noted.items() if key not in self._settled]
        return sorted(open_, key=lambda event: (event.processed_at, event.key))[:limit]

    async def settle(self, keys: Sequence[ClaimKey], *, now: datetime) -> None:
        self._settled.update(keys)
