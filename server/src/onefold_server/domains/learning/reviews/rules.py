"""What a card is, what an answer makes of it, and what plots are drawn from. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from onefold.core.ids import derived_id
from onefold_server.domains.learning.calendar import local_day
from onefold_server.domains.learning.reviews.scheduling import (
    Plan,
    ReviewAnswer,
    Scheduler,
    new_memory,
    plan,
    recall,
)
from onefold_server.domains.learning.values import check_language, check_text, word_key, wrong

MAX_WORD: Final = 200  # characters
MAX_BACK: Final = 2000
MAX_FORECAST_DAYS: Final = 366
MAX_IMPORTED: Final = 20_000  # lines of a file: all other writers wait for them on SQLite


class CardSource(StrEnum):
    """Where a card came from."""

    SCENARIO = "scenario"
    MANUAL = "manual"
    IMPORT = "import"


def card_id(student_id: UUID, language: str, word: str) -> UUID:
    """The id of the one card that this learner has for this word; spelling by `word_key`."""
    return derived_id("learning.card", str(student_id), language, word_key(word))


def check_answer(value: Any) -> ReviewAnswer:
    """*value*, when it is 1 to 4; else `InvalidInput`."""
    if type(value) is not int or not 1 <= value <= 4:
        raise wrong("answer", "bounds", "expected 1 (again), 2 (hard), 3 (good) or 4 (easy)")
    return ReviewAnswer(value)


def new_card(
    school_id: UUID,
    student_id: UUID,
    language: str,
    word: str,
    *,
    now: datetime,
    back: str = "",
    source: CardSource = CardSource.MANUAL,
    source_id: str | None = None,
    scheduler: Scheduler = Scheduler.FSRS,
    memory: Mapping[str, Any] | None = None,
    due_at: datetime | None = None,
) -> dict[str, Any]:
    """
    The row of a fresh card, due at once unless told otherwise.

    Raises:
        InvalidInput: word, back or language is not usable.
    """
    check_language(language)
    shown = " ".join(check_text(word, "word", longest=MAX_WORD).split())
    if not shown:
        raise wrong("word", "length", "is blank")
    key = check_text(word_key(word), "word", longest=2 * MAX_WORD)  # folding may lengthen it
    check_text(back, "back", longest=MAX_BACK, shortest=0)
    remembered = dict(memory) if memory is not None else new_memory(scheduler)
    return {
        "school_id": school_id,
        "id": card_id(student_id, language, word),
        "student_id": student_id,
        "language": language,
        "word": shown,
        "word_key": key,
        "back": back,
        "source_kind": source.value,
        "source_id": source_id,
        "scheduler": scheduler.value,
        "memory": remembered,
        "due_at": due_at or now,
        "strength_days": float(remembered.get("interval_days", 0.0)),
        "reviews": 0,
        "lapses": 0,
        "met": 1,
        "created_at": now,
    }


def answered(
    card: Mapping[str, Any], answer: ReviewAnswer, *, review_id: UUID, now: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The card after *answer*, and the review's row."""
    scheduler = Scheduler(card["scheduler"])
    next_: Plan = plan(scheduler, card["memory"], answer, now=now)
    after = dict(card) | {
        "memory": next_.memory,
        "due_at": next_.due_at,
        "strength_days": next_.strength_days,
        "reviews": card["reviews"] + 1,
        "lapses": card["lapses"] + (answer is ReviewAnswer.AGAIN and card["reviews"] > 0),
    }
    review = {
        "school_id": card["school_id"],
        "id": review_id,
        "card_id": card["id"],
        "student_id": card["student_id"],
        "answer": int(answer),
        "at": now,
        "expected": recall(scheduler, card["memory"], now=now),
        "due_before": card["due_at"],
        "due_after": next_.due_at,
    }
    return after, review


def retention(reviews: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """
    How much was remembered, beside what had been foreseen.

    First answers tell nothing of remembering and are left out; None without any other.
    """
    asked = [r for r in reviews if r["expected"] is not None]
    if not asked:
        return {"reviews": 0, "remembered": 0, "retention": None, "expected": None}
    remembered = sum(r["answer"] > 1 for r in asked)
    return {
        "reviews": len(asked),
        "remembered": remembered,
        "retention": remembered / len(asked),
        "expected": sum(r["expected"] for r in asked) / len(asked),
    }


def forecast(
    due: Sequence[datetime], *, now: datetime, zone: ZoneInfo, days: int
) -> list[dict[str, Any]]:
    """
    How many cards are due on each of the next *days*, today first and with all overdue ones.
    """
    if not 1 <= days <= MAX_FORECAST_DAYS:
        raise wrong("days", "bounds", f"expected 1 to {MAX_FORECAST_DAYS}")
    today = local_day(now, zone)
    counts: dict[date, int] = {today + timedelta(days=n): 0 for n in range(days)}
    for at in due:
        day = max(today, local_day(at, zone))
        if day in counts:
            counts[day] += 1
    return [{"day": day, "due": n} for day, n in counts.items()]
