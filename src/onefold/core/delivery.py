"""
What may happen to one delivery, and when it is tried again. No clock, no storage here.

Theory. A delivery is one revision of one record on its way to one destination, and stands
for itself: no other destination's trouble can touch it. It is *claimed* for one attempt
under a lease with a fence; only the holder of that fence may say how the attempt ended. A
lease that ends by itself leaves the delivery claimable: its courier may have died before,
in or after sending, so that the next attempt carries the same message id and the same
bytes, and a receiver can discard it. HELD waits for a person or a destination and spends no
attempts; DEAD was given up and is kept; both can be put back. DELIVERED and CANCELLED are
final: what was received cannot be recalled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum, auto
from types import MappingProxyType
from typing import Final

from onefold.errors import IllegalTransition


class DeliveryState(StrEnum):
    """Where a delivery stands, as it is stored."""

    PENDING = "pending"
    LEASED = "leased"
    DELIVERED = "delivered"
    DEAD = "dead"
    HELD = "held"
    CANCELLED = "cancelled"


class DeliveryFact(Enum):
    """What happened to a delivery."""

    CLAIMED = auto()
    RECEIVED = auto()
    FAILED = auto()  # and will be tried again
    GAVE_UP = auto()
    STOPPED = auto()  # held: by its destination, its consent, or the tripwire
    RELEASED = auto()  # no longer held
    REPLAYED = auto()
    CANCELLED = auto()


# The one place that says what may follow what; docs/explain/states.md is drawn from it.
# CLAIMED from LEASED is the reclaim of an expired lease, under a higher fence.
NEXT: Mapping[tuple[DeliveryState, DeliveryFact], DeliveryState] = MappingProxyType(
    {
        (DeliveryState.PENDING, DeliveryFact.CLAIMED): DeliveryState.LEASED,
        (DeliveryState.PENDING, DeliveryFact.GAVE_UP): DeliveryState.DEAD,
        (DeliveryState.PENDING, DeliveryFact.STOPPED): DeliveryState.HELD,
        (DeliveryState.PENDING, DeliveryFact.RELEASED): DeliveryState.PENDING,
        (DeliveryState.PENDING, DeliveryFact.CANCELLED): DeliveryState.CANCELLED,
        (DeliveryState.LEASED, DeliveryFact.CLAIMED): DeliveryState.LEASED,
        (DeliveryState.LEASED, DeliveryFact.RECEIVED): DeliveryState.DELIVERED,
        (DeliveryState.LEASED, DeliveryFact.FAILED): DeliveryState.PENDING,
        (DeliveryState.LEASED, DeliveryFact.GAVE_UP): DeliveryState.DEAD,
        (DeliveryState.LEASED, DeliveryFact.STOPPED): DeliveryState.HELD,
        (DeliveryState.HELD, DeliveryFact.RELEASED): DeliveryState.PENDING,
        (DeliveryState.HELD, DeliveryFact.GAVE_UP): DeliveryState.DEAD,
        (DeliveryState.HELD, DeliveryFact.CANCELLED): DeliveryState.CANCELLED,
        (DeliveryState.DEAD, DeliveryFact.REPLAYED): DeliveryState.PENDING,
        (DeliveryState.DEAD, DeliveryFact.CANCELLED): DeliveryState.CANCELLED,
    }
)


def advance(state: DeliveryState, fact: DeliveryFact) -> DeliveryState:
    """
    The state after *fact*.

    Raises:
        IllegalTransition: that cannot happen in *state*.
    """
    try:
        return NEXT[state, fact]
    except KeyError:
        raise IllegalTransition(state.name, fact.name) from None


MOST_RETRY_AFTER: Final = timedelta(hours=24)  # a receiver's wish beyond it is not followed
MAX_AGE: Final = timedelta(days=7)  # from when a delivery was first due until it is given up

# The fast phase is min(5·6ⁿ, 3600) seconds (research note trace, section 3); the slow one is
# Standard Webhooks' example from its fifth step on, so that an outage of days is outlasted.
_FAST_S: Final = tuple(min(5 * 6**n, 3600) for n in range(5))
_SLOW_S: Final = tuple(hours * 3600 for hours in (2, 5, 10, 14, 20, 24))


@dataclass(frozen=True)
class RetrySchedule:
    """After which failed attempt a delivery waits how long at the most; then it is dead."""

    bounds_s: tuple[int, ...]

    def delay(self, attempts: int, jitter: float) -> timedelta | None:
        """
        How long to wait after *attempts* failed ones; None to give up.

        Args:
            attempts: Failed attempts so far, from 1.
            jitter: Uniform in [0, 1): the whole delay is drawn (full jitter), so that an
                outage's end brings no herd.
        """
        if attempts > len(self.bounds_s):
            return None
        return timedelta(seconds=self.bounds_s[attempts - 1] * jitter)


SCHEDULES: Mapping[str, RetrySchedule] = MappingProxyType(
    {"standard": RetrySchedule(_FAST_S + _SLOW_S), "compat": RetrySchedule(_FAST_S)}
)


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """
    When a destination that fails again and again is left alone, and for how long.

    Attributes:
        after: So many failures in a row open it.
        first_s: How long it is open the first time; doubled each time.
        most_s: The longest.
    """

    after: int = 5
    first_s: float = 10.0
    most_s: float = 300.0

    def rest(self, failures: int) -> timedelta | None:
        """How long to leave a destination alone after so many failures in a row."""
        if failures < self.after:
            return None
        over = min(failures - self.after, 32)
        return timedelta(seconds=min(self.most_s, self.first_s * 2**over))

    def probing(self, failures: int) -> bool:
        """Whether one attempt at a time must show that the destination is back."""
        return failures >= self.after
