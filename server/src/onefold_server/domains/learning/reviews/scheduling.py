"""
When a word should be asked again. Pure: what is remembered of a card, an answer, an instant.

Two schedulers. `fsrs` is the reference implementation from PyPI (Free Spaced Repetition
Scheduler, version 6), without its random spread, so that the same answers always give the
same plan. `sm2` serves cards that come from elsewhere with an ease and an interval; it is
the note's variant (section 6.1) with its two faults mended: a lapse begins again at the
first interval, and no better answer ever gives a shorter interval (fault 24).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple

from fsrs import Card, Rating, State
from fsrs import Scheduler as Fsrs


class ReviewAnswer(IntEnum):
    """How well a word was remembered."""

    AGAIN = 1
    HARD = 2
    GOOD = 3
    EASY = 4


class Scheduler(StrEnum):
    """Which of the two plans a card."""

    FSRS = "fsrs"
    SM2 = "sm2"


class Plan(NamedTuple):
    """
    What an answer leads to.

    Attributes:
        memory: What the scheduler remembers of the card, as JSON.
        due_at: When to ask again.
        strength_days: For fsrs the stability, for sm2 the interval.
    """

    memory: dict[str, Any]
    due_at: datetime
    strength_days: float


KNOWN_DAYS: Final = 21.0  # Anki's word for a mature card: an interval of three weeks
RETENTION: Final = 0.9  # the chance of remembering that due dates aim at

_FSRS: Final = Fsrs(desired_retention=RETENTION, enable_fuzzing=False, maximum_interval=3650)

FIRST_DAYS: Final = 1
GRADUATED_DAYS: Final = 4
EASY_DAYS: Final = 7
LONGEST_DAYS: Final = 365
EASE: Final = 2.5
_EASE_BOUNDS: Final = (1.3, 3.0)
_EASE_STEP: Final = 0.15


def new_memory(scheduler: Scheduler) -> dict[str, Any]:
    """What is remembered of a card that was never asked."""
    if scheduler is Scheduler.FSRS:
        return {"state": int(State.Learning), "step": 0}
    return {"ease": EASE, "repetition": 0, "interval_days": 0}


def imported_memory(ease: float, repetition: int, interval_days: int) -> dict[str, Any]:
    """What an imported card brings along, brought within bounds."""
    return {
        "ease": min(max(ease, _EASE_BOUNDS[0]), _EASE_BOUNDS[1]),
        "repetition": repetition,
        "interval_days": min(interval_days, LONGEST_DAYS),
    }


def plan(
    scheduler: Scheduler, memory: Mapping[str, Any], answer: ReviewAnswer, *, now: datetime
) -> Plan:
    """
    When to ask again after *answer*. An instant before the last answer's counts as that one.
    """
    last = _last(memory)
    at = max(now, last) if last else now
    if scheduler is Scheduler.FSRS:
        return _plan_fsrs(memory, answer, at)
    return _plan_sm2(memory, answer, at)


def recall(scheduler: Scheduler, memory: Mapping[str, Any], *, now: datetime) -> float | None:
    """
    The chance that the word is remembered *now*; None when it was never asked.

    sm2 has no model of forgetting; its interval is taken for the time in which recall falls
    to 90 %, along the curve that fsrs uses.
    """
    last = _last(memory)
    if last is None:
        return None
    if scheduler is Scheduler.FSRS:
        card = _card(memory)
    else:
        card = Card(1, State.Review, None, float(max(memory["interval_days"], 1)), 5.0, last, last)
    return float(_FSRS.get_card_retrievability(card, max(now, last)))


def _last(memory: Mapping[str, Any]) -> datetime | None:
    text = memory.get("last_review")
    return datetime.fromisoformat(text) if text else None


def _card(memory: Mapping[str, Any]) -> Card:
    last = _last(memory)
    return Card(
        card_id=1,  # given, because the library would sleep to make one
        state=State(memory["state"]),
        step=memory["step"],
        stability=memory.get("stability"),
        difficulty=memory.get("difficulty"),
        due=last,
        last_review=last,
    )


def _plan_fsrs(memory: Mapping[str, Any], answer: ReviewAnswer, at: datetime) -> Plan:
    after, _ = _FSRS.review_card(_card(memory), Rating(answer), at)
    stability = float(after.stability or 0.0)
    remembered = {
        "state": int(after.state),
        "step": after.step,
        "stability": stability,
        "difficulty": after.difficulty,
        "last_review": at.isoformat(),
    }
    return Plan(remembered, after.due, stability)


def sm2_interval(repetition: int, interval: int, ease: float, answer: ReviewAnswer) -> int:
    """Days until the next question; AGAIN <= HARD <= GOOD <= EASY always."""
    if answer is ReviewAnswer.AGAIN:
        return FIRST_DAYS
    if repetition == 0:
        return EASY_DAYS if answer is ReviewAnswer.EASY else FIRST_DAYS
    good = GRADUATED_DAYS if repetition == 1 else max(interval + 1, int(interval * ease))
    if answer is ReviewAnswer.HARD:
        good = min(good, max(interval + 1, int(interval * 1.2)))
    if answer is ReviewAnswer.EASY:
        good = max(good, int(interval * (ease + _EASE_STEP) * 1.3))
    return min(good, LONGEST_DAYS)


_EASE_MOVES: Final = {
    ReviewAnswer.AGAIN: -_EASE_STEP,
    ReviewAnswer.HARD: -_EASE_STEP / 2,
    ReviewAnswer.GOOD: 0.0,
    ReviewAnswer.EASY: _EASE_STEP,
}


def _plan_sm2(memory: Mapping[str, Any], answer: ReviewAnswer, at: datetime) -> Plan:
    ease, repetition = float(memory["ease"]), int(memory["repetition"])
    days = sm2_interval(repetition, int(memory["interval_days"]), ease, answer)
    low, high = _EASE_BOUNDS
    remembered = {
        "ease": round(min(max(ease + _EASE_MOVES[answer], low), high), 3),
        "repetition": 0 if answer is ReviewAnswer.AGAIN else repetition + 1,
        "interval_days": days,
        "last_review": at.isoformat(),
    }
    return Plan(remembered, at + timedelta(days=days), float(days))
