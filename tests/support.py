"""What many tests need: schools, callers, events that are right unless told otherwise."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from onefold.domains.directory.rules import SCOPES_OF, Principal, Role
from onefold.wiring import Onefold


@dataclass(frozen=True)
class School:
    """A school that enrols unknown pupils, and those who may act in it."""

    id: UUID
    service: Principal
    teacher: Principal
    admin: Principal


def principal(school_id: UUID, role: Role, student_id: UUID | None = None) -> Principal:
    """A caller of that role in that school, with all of the role's scopes."""
    return Principal(
        school_id=school_id,
        role=role,
        scopes=SCOPES_OF[role],
        name=f"test {role}",
        student_id=student_id,
    )


async def new_school(
    onefold: Onefold, name: str = "Test School", *, auto_enrol: bool = True
) -> School:
    """A fresh school."""
    id_ = await onefold.directory.create_school(name, auto_enrol=auto_enrol)
    return School(
        id_,
        principal(id_, Role.SERVICE),
        principal(id_, Role.TEACHER),
        principal(id_, Role.ADMIN),
    )


def telemetry_event(now: datetime, **fields: Any) -> dict[str, Any]:
    """A fresh event as a game would send it at *now*; *fields* override."""
    return {
        "event_id": str(uuid4()),
        "student_id": str(uuid4()),
        "session_id": str(uuid4()),
        "event_type": "mission_start",
        "timestamp": now.isoformat(),
        "data": {"level": 1},
    } | fields
