"""What time it is: the one thing `core` asks its caller for. Everything else takes `now`."""

from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Tells the time. May step back: nothing may depend on two readings being in order."""

    def now(self) -> datetime:
        """The current instant, aware and in UTC."""
        ...


class SystemClock:
    """The operating system's wall clock."""

    def now(self) -> datetime:
        """The current instant in UTC, with microseconds."""
        return datetime.now(UTC)
