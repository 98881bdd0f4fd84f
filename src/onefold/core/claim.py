"""
What may happen to one claim. No clock, no storage here.

Theory. A consumer must not apply an event twice, nor may two workers apply it at once. Who
wants to apply it claims it first. A claim is a *lease*: it ends by itself, because its
holder may die. Each lease carries a *fence*, higher than that of any earlier lease of the
same claim; every later step (renew, confirm, release) names the fence, and a step with a
lower one than the claim's is refused and changes nothing: its worker has lost the claim,
and learns it. COMPLETED is final as long as the record is kept; nothing leads out of it,
so neither a late failure nor a zombie can make a completed event run again. Fences never
start over: a released claim keeps its number, or a zombie's old fence would fit again.

What a claimant is told follows from the state it finds: ABSENT or EXPIRED, it gets the
lease; LEASED, it is told until when; COMPLETED, that the event is a repeat. Whether a lease
has expired is decided by the instant the caller passes in, never by the store's own clock.
"""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

from onefold.errors import IllegalTransition


class ClaimState(Enum):
    """Where a claim stands."""

    ABSENT = auto()
    LEASED = auto()
    EXPIRED = auto()  # leased, and the lease's end has passed; not written anywhere
    COMPLETED = auto()


class ClaimFact(Enum):
    """What happened to a claim."""

    CLAIMED = auto()
    RENEWED = auto()
    CONFIRMED = auto()
    RELEASED = auto()
    LEASE_ENDED = auto()
    FORGOTTEN = auto()


# The one place that says what may follow what; docs/explain/states.md is drawn from it.
# The holder of an EXPIRED lease that nobody took yet still has the highest fence, so it may
# go on: no other worker has begun.
NEXT: Mapping[tuple[ClaimState, ClaimFact], ClaimState] = MappingProxyType(
    {
        (ClaimState.ABSENT, ClaimFact.CLAIMED): ClaimState.LEASED,
        (ClaimState.LEASED, ClaimFact.RENEWED): ClaimState.LEASED,
        (ClaimState.LEASED, ClaimFact.CONFIRMED): ClaimState.COMPLETED,
        (ClaimState.LEASED, ClaimFact.RELEASED): ClaimState.ABSENT,
        (ClaimState.LEASED, ClaimFact.LEASE_ENDED): ClaimState.EXPIRED,
        (ClaimState.EXPIRED, ClaimFact.CLAIMED): ClaimState.LEASED,
        (ClaimState.EXPIRED, ClaimFact.RENEWED): ClaimState.LEASED,
        (ClaimState.EXPIRED, ClaimFact.CONFIRMED): ClaimState.COMPLETED,
        (ClaimState.EXPIRED, ClaimFact.RELEASED): ClaimState.ABSENT,
        (ClaimState.COMPLETED, ClaimFact.FORGOTTEN): ClaimState.ABSENT,
    }
)


def advance(state: ClaimState, fact: ClaimFact) -> ClaimState:
    """
    The state after *fact*.

    Raises:
        IllegalTransition: that cannot happen in *state*.
    """
    try:
        return NEXT[state, fact]
    except KeyError:
        raise IllegalTransition(state.name, fact.name) from None
