"""
What may be spent. Pure: exact decimals, no clock, no storage.

A call that costs money is *reserved* before it and *settled* after it, under one id, or
*released* when it did not happen. What is reserved counts as if it were spent, so that any
number of calls at once stay within the limit; a reservation whose caller died lapses. A
reservation belongs to the period it was made in, whenever it is settled.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from onefold.core.ids import derived_id
from onefold.errors import BudgetExhausted
from onefold_server.domains.learning.calendar import Period, TimeSpan, period_at, zone_of
from onefold_server.domains.learning.values import wrong

PLACES: Final = 9  # decimals: a small model's token costs some 1e-7 of a currency's unit
MAX_AMOUNT: Final = Decimal(1_000_000_000)
LAPSE: Final = timedelta(minutes=10)  # of a reservation nobody settles
MAX_LAPSE: Final = timedelta(days=1)
THRESHOLDS: Final = (50, 80, 100)  # percent of the limit
MAX_THRESHOLDS: Final = 10


class Enforcement(StrEnum):
    """What happens when a reservation goes over the limit."""

    WARN = "warn"
    BLOCK = "block"


class ReservationState(StrEnum):
    """Where a reservation stands; `LAPSED` is not stored, it is what time makes of RESERVED."""

    RESERVED = "reserved"
    SETTLED = "settled"
    RELEASED = "released"
    LAPSED = "lapsed"


class BudgetStatus(NamedTuple):
    """How a budget stands in its current period."""

    limit: Decimal
    spent: Decimal
    reserved: Decimal

    @property
    def left(self) -> Decimal:
        """What can still be reserved; never below zero."""
        return max(self.limit - self.spent - self.reserved, Decimal(0))

    @property
    def over(self) -> bool:
        """Whether more is spent and reserved than allowed."""
        return self.spent + self.reserved > self.limit


def read_amount(value: Any, field: str, *, zero: bool = False) -> Decimal:
    """
    The amount in *value*: a Decimal or its text; a float is refused, for it is not exact.

    Raises:
        InvalidInput: not a number, negative, over 1e9, or with more than nine decimals.
    """
    if not isinstance(value, str | Decimal):
        raise wrong(field, "not_exact", 'expected an amount as text, such as "0.25"')
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise wrong(field, "not_a_number", "expected a decimal number") from None
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -PLACES:
        raise wrong(field, "decimals", f"expected a number of at most {PLACES} decimals")
    if not (Decimal(0) <= amount if zero else Decimal(0) < amount) or amount > MAX_AMOUNT:
        raise wrong(field, "bounds", f"expected {'' if zero else 'more than '}0 up to {MAX_AMOUNT}")
    return amount


def money_text(amount: Decimal) -> str:
    """*amount* as text without needless zeros: 0.25, 3, 0.000000015."""
    return f"{amount.normalize():f}"


def budget_id(student_id: UUID | None, period: Period) -> UUID:
    """The id of the owner's only budget of that kind of period."""
    return derived_id("learning.budget", str(student_id or "school"), period.value)


def check_thresholds(values: Sequence[Any]) -> list[int]:
    """Percentages, each once, in order; `InvalidInput` unless whole numbers of 1 to 1000."""
    if len(values) > MAX_THRESHOLDS or any(
        type(v) is not int or not 1 <= v <= 1000 for v in values
    ):
        reason = f"expected at most {MAX_THRESHOLDS} whole percentages from 1 to 1000"
        raise wrong("thresholds", "bounds", reason)
    return sorted(set(values))


def check_lapse(lapse: timedelta) -> timedelta:
    """*lapse*, when it is more than nothing and at most a day; else `InvalidInput`."""
    if not timedelta(0) < lapse <= MAX_LAPSE:
        raise wrong("lapse_s", "bounds", "expected more than 0 seconds and at most a day")
    return lapse


def current_period(period: Period, zone: str, last: TimeSpan | None, now: datetime) -> TimeSpan:
    """
    The period that *now* falls in, given the *last* one that money was spent in.

    A period that has begun ends as it was to end, though the budget's zone was changed or
    the clock set back since; the next one begins where it ended, so that no money is
    counted in two or in none.
    """
    if last is not None and now < last.end:
        return last
    span = period_at(period, now, zone_of(zone))
    return TimeSpan(max(span.start, last.end), span.end) if last is not None else span


def admit(
    name: str, standing: BudgetStatus, amount: Decimal, enforcement: Enforcement
) -> BudgetStatus:
    """
    How the budget stands with *amount* reserved too.

    Raises:
        BudgetExhausted: that would go over the limit, and the budget blocks.
    """
    after = standing._replace(reserved=standing.reserved + amount)
    if after.over and enforcement is Enforcement.BLOCK:
        raise BudgetExhausted(name, money_text(standing.left))
    return after


def reached(thresholds: Sequence[int], limit: Decimal, spent: Decimal) -> list[int]:
    """The thresholds that *spent* has reached; all of them once a zero limit is spent at all."""
    return [p for p in thresholds if spent > 0 and spent * 100 >= limit * p]


def shown_state(state: str, lapses_at: datetime, now: datetime) -> ReservationState:
    """The state as a reader should see it."""
    if state == ReservationState.RESERVED and lapses_at <= now:
        return ReservationState.LAPSED
    return ReservationState(state)
