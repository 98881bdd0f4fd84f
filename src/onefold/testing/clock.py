"""A clock that stands still until it is told to move."""

import asyncio
from datetime import UTC, datetime, timedelta


class ManualClock:
    """A `core.clock.Clock` whose time only `advance` and `set` change."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move by *by*, which may be negative, as real clocks are set back too."""
        self._now += by
        return self._now

    def set(self, now: datetime) -> None:
        """Jump to *now*, which must be aware."""
        if now.tzinfo is None:
            raise ValueError(f"an instant needs a time zone: {now!r}")
        self._now = now

    async def sleep(self, seconds: float) -> None:
        """What sleeps by this clock: lets others run once, and that much time has passed."""
        await asyncio.sleep(0)
        self.advance(timedelta(seconds=seconds))
