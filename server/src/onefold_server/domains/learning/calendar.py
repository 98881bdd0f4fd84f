"""Days, weeks and months as a person in a time zone lives them. Pure: no clock, no storage."""

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from onefold.errors import FieldProblem, InvalidInput


class Period(StrEnum):
    """How long a budget holds; a week begins on Monday (ISO 8601)."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class TimeSpan(NamedTuple):
    """From `start` up to, not including, `end`; both UTC."""

    start: datetime
    end: datetime


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(available_timezones())


def zone_of(name: str, field: str = "zone") -> ZoneInfo:
    """
    The zone of that IANA name, such as `Europe/Berlin`.

    Raises:
        InvalidInput: there is no such zone.
    """
    if name not in _known():
        reason = "expected an IANA time zone, such as Europe/Berlin"
        raise InvalidInput([FieldProblem(field, "zone", reason)])
    return ZoneInfo(name)


def local_day(instant: datetime, zone: ZoneInfo) -> date:
    """The calendar day that *instant* falls on for someone in *zone*."""
    return instant.astimezone(zone).date()


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """
    When *day* begins in *zone*, in UTC; also where a clock change skips midnight.

    A skipped midnight has the offset that held before it (PEP 495, fold=0): that is the
    instant of the change, with which the day does begin.
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def period_at(period: Period, instant: datetime, zone: ZoneInfo) -> TimeSpan:
    """
    The day, week or month that *instant* lies in. Spans of one zone neither overlap nor gap.
    """
    day = local_day(instant, zone)
    if period is Period.DAY:
        first, after = day, day + timedelta(days=1)
    elif period is Period.WEEK:
        first = day - timedelta(days=day.weekday())
        after = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
    return TimeSpan(day_start(first, zone), day_start(after, zone))


def streak(days: set[date], today: date) -> int:
    """
    How many days in a row end today, or yesterday while today may still come.

    Derived from the days themselves: no counter that could disagree with them.
    """
    at = today if today in days else today - timedelta(days=1)
    length = 0
    while at in days:
        length, at = length + 1, at - timedelta(days=1)
    return length


def longest_streak(days: set[date]) -> int:
    """The most days in a row there ever were."""
    starts = [day for day in days if day - timedelta(days=1) not in days]
    best = 0
    for at in starts:
        length = 0
        while at + timedelta(days=length) in days:
            length += 1
        best = max(best, length)
    return best
