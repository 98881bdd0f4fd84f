"""What days and counts say about a learner or a class. Pure; no number is stored twice."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from onefold_server.domains.learning.calendar import longest_streak, streak
from onefold_server.domains.learning.days.rules import COUNTS
from onefold_server.domains.learning.sessions.rules import accuracy


def totals(days: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts of all days, and the accuracy over them: of all answers, not of the days."""
    sums = dict.fromkeys(COUNTS, 0)
    for day in days:
        for name in COUNTS:
            sums[name] += day[name]
    return sums | {"accuracy_rate": accuracy(sums["items_correct"], sums["items_incorrect"])}


def active_days(days: Iterable[Mapping[str, Any]]) -> set[date]:
    """The days on which the learner learnt: ended a session or answered a card."""
    return {day["day"] for day in days if day["sessions"] or day["reviews"]}


def streaks(days: Sequence[Mapping[str, Any]], today: date) -> dict[str, Any]:
    """Days in a row, by the learner's own calendar."""
    active = active_days(days)
    return {
        "current": streak(active, today),
        "longest": longest_streak(active),
        "active_days": len(active),
        "last_day": max(active, default=None),
    }


def by_day(days: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each day with its own accuracy, for plots."""
    return [
        {
            "day": day["day"],
            **{name: day[name] for name in COUNTS},
            "accuracy_rate": accuracy(day["items_correct"], day["items_incorrect"]),
        }
        for day in days
    ]


def sessions_by_type(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How many sessions there are of each type, by state."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        found[row["session_type"]][row["state"]] = row["n"]
    return dict(found)


def grouped(rows: Iterable[Mapping[str, Any]]) -> dict[UUID, list[Mapping[str, Any]]]:
    """Rows by their learner."""
    found: dict[UUID, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["student_id"]].append(row)
    return found


NO_WORDS = {"learnt": 0, "known": 0, "due": 0}


def words(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Words met, known (remembered for three weeks and more), and due to review."""
    for row in rows:
        return {name: row[name] for name in NO_WORDS}
    return dict(NO_WORDS)
