"""
What became of one message: a value that a caller can match on, never a bare None.

    match await reserve_stock(message):
        case Outcome.APPLIED() | Outcome.REPEATED():
            ...  # settled: the offset may move
        case Outcome.BUSY(until):
            ...  # not done: ask again then
        case Outcome.CONFLICT(key):
            ...  # settled: the same id came with other content; report it to the producer
        case Outcome.FAILED(error, attempt):
            ...  # released: retry or park

Only a `settled` outcome lets an offset move.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from onefold.ports.guard import ClaimKey

__all__ = [
    "AnyOutcome",
    "Applied",
    "Conflicted",
    "Failed",
    "Outcome",
    "Repeated",
    "Skipped",
]


@dataclass(frozen=True, slots=True)
class Applied:
    """
    The handler ran, confirmed, and returned *result*.

    Attributes:
        result: What the handler returned.
        protected: False when no guard answered and `on_guard_down="process"` let it run: a
            repeat could not be ruled out, the id was written down for `onefold reconcile`.
    """

    result: Any
    protected: bool = True
    settled = True


@dataclass(frozen=True, slots=True)
class Repeated:
    """
    The event was applied before; the handler did not run.

    Attributes:
        first_seen: When it was confirmed.
        result: What the handler returned then, if results are stored; else None.
    """

    first_seen: datetime
    result: Any = None
    settled = True


@dataclass(frozen=True, slots=True)
class Skipped:
    """Another worker is at it until then. It is not done: never move an offset on it."""

    until: datetime
    settled = False


@dataclass(frozen=True, slots=True)
class Conflicted:
    """
    This id was applied before with other content; the handler did not run.

    It is settled: delivering the message again cannot change the outcome, so the offset may
    move. A warning is logged, because a producer used one id for two events.
    """

    key: ClaimKey
    first_seen: datetime
    settled = True


@dataclass(frozen=True, slots=True)
class Failed:
    """
    The handler raised *error* at its *attempt*.

    Attributes:
        error: The handler's own exception.
        attempt: How often this event was begun, from 1.
        confirmed: It raised after it had confirmed: the event is applied for good, and a
            redelivery will be a repeat.
    """

    error: Exception
    attempt: int
    confirmed: bool = False

    @property
    def settled(self) -> bool:
        """Whether the offset may move."""
        return self.confirmed


class Outcome:
    """The five outcomes under their names; see the module."""

    APPLIED = Applied
    REPEATED = Repeated
    BUSY = Skipped
    CONFLICT = Conflicted
    FAILED = Failed


AnyOutcome = Applied | Repeated | Skipped | Conflicted | Failed
