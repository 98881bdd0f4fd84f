"""A school to look at: a class and its play, believable and the same at every call."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from onefold.core.ids import derived_id
from onefold_server.domains.directory.rules import Principal
from onefold_server.domains.telemetry.rules import MAX_BATCH
from onefold_server.installation import Installation

SEED: Final = 20_260_101
PLAYED_UNTIL: Final = datetime(2026, 1, 31, 14, tzinfo=UTC)
SCHOOL: Final = "Demo School"
SCHOOL_ID: Final = derived_id("demo", "school")
CLASS: Final = "7b"
_NAMES: Final = (
    "Ada Alm", "Bilal Berg", "Chidi Cole", "Dana Dahl", "Elif Ek", "Farid Falk", "Greta Grön",
    "Hugo Holm", "Iris Ito", "Jamal Jung", "Kim Kjær", "Lena Lund", "Mateo Moe", "Nora Nagy",
    "Otis Öst", "Priya Patel", "Quinn Quist", "Rosa Ruiz", "Sami Sand", "Tove Tran", "Uma Ulf",
    "Vera Vik", "Wim Wolf", "Ylva Yang",
)  # fmt: skip
_SESSIONS_PER_PUPIL: Final = 4
_MISSIONS: Final = ("harbour", "greenhouse", "observatory")


def pupils() -> dict[UUID, str]:
    """The class: id and name of each pupil."""
    return {derived_id("demo", "pupil", name): name for name in _NAMES}


def play() -> Iterator[dict[str, Any]]:
    """The events of the class, in the order of each session: the same at every call."""
    random = Random(SEED)  # noqa: S311 (play, not secrets)
    for student_id in pupils():
        skill = random.uniform(0.35, 0.95)
        for number in range(_SESSIONS_PER_PUPIL):
            back = timedelta(days=7 * number + random.randint(1, 5), minutes=random.randint(1, 300))
            yield from _session(random, student_id, number, PLAYED_UNTIL - back, skill)


def _session(
    random: Random, student_id: UUID, number: int, start: datetime, skill: float
) -> Iterator[dict[str, Any]]:
    session_id = derived_id("demo", "session", str(student_id), str(number))
    mission = random.choice(_MISSIONS)
    at = start
    for step, (event_type, data) in enumerate(_steps(random, skill)):
        at += timedelta(seconds=random.expovariate(1 / 25))
        yield {
            "event_id": str(derived_id("demo", "event", str(session_id), str(step))),
            "student_id": str(student_id),
            "session_id": str(session_id),
            "event_type": event_type,
            "timestamp": at.isoformat(),
            "data": data,
            "mission_id": mission,
            "game_version": "1.4.0",
        }


def _steps(random: Random, skill: float) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "mission_start", {}
    for task in range(random.randint(4, 9)):
        yield "task_start", {"task": task}
        for _ in range(random.randint(1, 4)):
            yield "choice_made", {"task": task, "choice": random.choice("abcd")}
        while random.random() > skill:
            yield "failure", {"task": task}
            yield "retry", {"task": task}
            if random.random() < skill:
                yield "recovery", {"task": task}
        if random.random() < 0.25:
            yield random.choice(("help_given", "help_received", "decision_made")), {"task": task}
        if random.random() > skill:
            yield "pause", {}
        if random.random() < 0.6 + skill / 3:
            yield "task_complete", {"task": task}
    if random.random() < skill:
        yield "mission_complete", {}


async def fill(onefold: Installation) -> dict[str, Any]:
    """Make the school, its class and its events; what is there already stays as it is."""
    directory = onefold.directory
    school_id = await directory.create_school(SCHOOL, auto_enrol=True, school_id=SCHOOL_ID)
    roster = [
        "student_id,name,class_name",
        *(f"{id_},{name},{CLASS}" for id_, name in pupils().items()),
    ]
    await directory.import_roster(school_id, roster)
    played = list(play())
    totals = {"applied": 0, "repeated": 0}
    caller = Principal.local(school_id)
    for start in range(0, len(played), MAX_BATCH):
        receipt = await onefold.telemetry.ingest(caller, played[start : start + MAX_BATCH])
        totals["applied"] += receipt.applied
        totals["repeated"] += receipt.repeated
    while await onefold.telemetry.close_idle_sessions():
        pass
    return {"school_id": school_id, "student_ids": list(pupils()), **totals}
