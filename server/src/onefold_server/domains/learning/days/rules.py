"""What each fact adds to its learner's day. Pure; the same for counting and for recounting."""

from collections.abc import Iterable
from datetime import date
from typing import Final, NamedTuple
from uuid import UUID

COUNTS: Final = (
    "sessions",
    "seconds",
    "items_studied",
    "items_correct",
    "items_incorrect",
    "reviews",
    "reviews_correct",
    "cards_new",
    "scenarios",
)


class DayShare(NamedTuple):
    """How much a fact adds to one learner's day; negative when it takes back."""

    school_id: UUID
    student_id: UUID
    day: date
    counts: dict[str, int]


def session_counts(*, seconds: int, studied: int, correct: int, incorrect: int) -> dict[str, int]:
    """A session that ended: its time and items, on the day of its end."""
    return {
        "sessions": 1,
        "seconds": seconds,
        "items_studied": studied,
        "items_correct": correct,
        "items_incorrect": incorrect,
    }


def review_counts(answer: int) -> dict[str, int]:
    """One answer; 1 is the only wrong one."""
    return {"reviews": 1, "reviews_correct": int(answer > 1)}


NEW_CARD: Final = {"cards_new": 1}
SCENARIO: Final = {"scenarios": 1}


def negated(counts: dict[str, int]) -> dict[str, int]:
    """What takes *counts* back."""
    return {name: -value for name, value in counts.items()}


def sum_shares(shares: Iterable[DayShare]) -> dict[tuple[UUID, UUID, date], dict[str, int]]:
    """All shares added up by learner and day, in the order of their keys; all counts named."""
    total: dict[tuple[UUID, UUID, date], dict[str, int]] = {}
    for school_id, student_id, day, counts in shares:
        sums = total.setdefault((school_id, student_id, day), dict.fromkeys(COUNTS, 0))
        for name, value in counts.items():
            sums[name] += value
    return {key: total[key] for key in sorted(total)}
