"""Decides whether a failed message is retried, becomes a dead letter, or is dropped."""

from collections.abc import Callable
from enum import Enum, auto


class FailureAction(Enum):
    """What to do with a message whose handler failed."""

    RETRY = auto()
    PARK = auto()
    DROP = auto()


class Park(Exception):
    """Raised by a handler: this message can never succeed; park it at once, with a reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def retry_then_park(error: BaseException, attempt: int, most: int) -> FailureAction:
    """The default policy: retried up to the attempts allowed, then parked; `Park` at once."""
    if isinstance(error, Park) or attempt >= most:
        return FailureAction.PARK
    return FailureAction.RETRY


Policy = Callable[[BaseException, int, int], FailureAction]
