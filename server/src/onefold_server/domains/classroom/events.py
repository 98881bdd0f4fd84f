"""What the classroom reads and publishes: facts, in the past tense, versioned."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from onefold.core.envelope import Event
from onefold.core.ids import derived_id
from onefold.ports.tables import Row
from onefold_server.domains.classroom.rules import (
    EssayDecision,
    Method,
    Status,
    Taken,
    instant_text,
)

SOURCE: Final = "onefold.classroom"
SUGGESTED: Final = "batch.author.matches.suggested"
CONFIRMED: Final = "student.associations.confirmed"
DECIDED: Final = "classroom.associations.decided"
NOTIFIED: Final = "notification.teacher.requested"
CLASS_CREATED: Final = "classroom.class.created"
CLASS_UPDATED: Final = "classroom.class.updated"
CLASS_DELETED: Final = "classroom.class.deleted"
STUDENT_CREATED: Final = "classroom.student.created"
STUDENT_UPDATED: Final = "classroom.student.updated"
STUDENT_DELETED: Final = "classroom.student.deleted"


def is_suggested(event: Event) -> bool:
    """Whether *event* is one that `read_suggested` reads, whatever its producer calls it."""
    name = event.type.removeprefix("huleedu.")
    return name in {SUGGESTED, f"{SUGGESTED}.v1"} and event.version == 1


def confirmed(
    batch: Mapping[str, Any], rows: Sequence[Row], *, at: datetime, timeout: bool
) -> Event:
    """
    Every essay of a batch has been dealt with; rejected and unmatched ones are in it too.

    The id follows from batch and revision: however often it is written, it goes out once.
    """
    statuses = [row["status"] for row in rows]
    sure = {Status.CONFIRMED.value, Status.TIMEOUT_CONFIRMED.value}
    return Event(
        id=str(
            derived_id(CONFIRMED, str(batch["school_id"]), str(batch["id"]), str(batch["revision"]))
        ),
        type=CONFIRMED,
        source=SOURCE,
        key=str(batch["id"]),
        occurred_at=at,
        data={
            "school_id": str(batch["school_id"]),
            "batch_id": str(batch["id"]),
            "class_id": str(batch["class_id"]),
            "course_code": batch["course_code"],
            "associations": [_association(row) for row in rows],
            "timeout_triggered": timeout,
            "validation_summary": {
                "total_associations": len(rows),
                "confirmed": sum(status in sure for status in statuses),
                "rejected": statuses.count(Status.REJECTED.value),
                "no_match": statuses.count(Status.NO_MATCH.value),
            },
        },
    )


def _association(row: Row) -> dict[str, Any]:
    return {
        "essay_id": str(row["essay_id"]),
        "student_id": _id(row["student_id"]),
        "status": row["status"],
        "suggested_student_id": _id(row["suggested_student_id"]),
        "confidence_score": row["score"],
        "validation_method": row["method"],
        "validated_by": row["validated_by"],
        "validated_at": instant_text(row["validated_at"]),
    }


def decided(
    batch: Mapping[str, Any],
    settled: Sequence[EssayDecision],
    *,
    by: str,
    at: datetime,
    event_id: UUID,
) -> Event:
    """A teacher decided who wrote some essays of a batch."""
    return Event(
        id=str(event_id),
        type=DECIDED,
        source=SOURCE,
        key=str(batch["id"]),
        occurred_at=at,
        data={
            "school_id": str(batch["school_id"]),
            "batch_id": str(batch["id"]),
            "class_id": str(batch["class_id"]),
            "decisions": [
                {
                    "essay_id": str(one.essay_id),
                    "student_id": _id(one.student_id),
                    "status": one.status.value,
                }
                for one in settled
            ],
            "validation_method": Method.HUMAN.value,
            "validated_by": by,
            "validated_at": at.isoformat(),
        },
    )


def notification(batch: Mapping[str, Any], taken: Taken, *, cause: str, at: datetime) -> Event:
    """The teacher is to look at suggestions; one for every *cause* (an event's identity)."""
    subject = (str(batch["school_id"]), str(batch["id"]), cause)
    return Event(
        id=str(derived_id(NOTIFIED, *subject)),
        type=NOTIFIED,
        source=SOURCE,
        key=str(batch["id"]),
        occurred_at=at,
        causation_id=cause,
        data={
            "school_id": str(batch["school_id"]),
            "teacher_id": batch["owner"],
            "notification_type": "author_matches_suggested",
            "category": "student_workflow",
            "priority": "high",
            "action_required": taken.stored + taken.improved > 0,
            "deadline_timestamp": instant_text(batch["deadline"]),
            "batch_id": str(batch["id"]),
            "class_id": str(batch["class_id"]),
            "payload": {
                "stored": taken.stored,
                "improved": taken.improved,
                "already_associated": taken.already_associated,
                "no_match": taken.no_match,
                "ambiguous": taken.ambiguous,
            },
        },
    )


def about(type_: str, key: UUID, data: Mapping[str, Any], *, event_id: UUID, at: datetime) -> Event:
    """Something happened to a class or a pupil; the data is it as it then stood."""
    return Event(
        id=str(event_id), type=type_, source=SOURCE, key=str(key), occurred_at=at, data=dict(data)
    )


def _id(value: UUID | None) -> str | None:
    return None if value is None else str(value)
