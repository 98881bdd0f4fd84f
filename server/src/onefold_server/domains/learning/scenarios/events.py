"""What scenarios publish: facts, in the past tense, versioned."""

from collections.abc import Mapping
from typing import Any, Final

from onefold.core.envelope import Event
from onefold.core.ids import derived_id

SOURCE: Final = "onefold_server.embed.learning"
COMPLETED: Final = "learning.scenario.completed"
ABANDONED: Final = "learning.scenario.abandoned"


def ended(history: Mapping[str, Any]) -> Event:
    """
    An attempt at a scenario ended. The id follows from the attempt, which ends once; the key
    is the learner, so that what a learner did arrives in order.
    """
    type_ = COMPLETED if history["outcome"] == "completed" else ABANDONED
    texts = ("school_id", "attempt_id", "student_id", "session_id")
    said = (
        "scenario_id", "scenario_version", "language", "duration_s", "phases_completed",
        "phases_total", "vocabulary_mastered", "objectives_completed", "success_rate",
        "completion_score",
    )  # fmt: skip
    return Event(
        id=str(derived_id(type_, str(history["school_id"]), str(history["attempt_id"]))),
        type=type_,
        source=SOURCE,
        key=str(history["student_id"]),
        occurred_at=history["ended_at"],
        data={name: str(history[name]) for name in texts} | {name: history[name] for name in said},
    )
