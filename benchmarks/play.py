"""What is sent: the events of some players, as a game would report them; the same for a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

TYPES: Final = (
    "mission_start", "task_start", "choice_made", "failure", "retry",
    "recovery", "task_complete", "pause", "help_given", "mission_complete",
)  # fmt: skip
_LONGEST_PLAY: Final = timedelta(minutes=20)  # before now


@dataclass(frozen=True, kw_only=True)
class Player:
    """One pupil at play: a session of its own, and its events in their order."""

    student_id: UUID
    session_id: UUID
    events: Sequence[dict[str, Any]]

    def ids(self) -> set[UUID]:
        return {UUID(event["event_id"]) for event in self.events}


def players(seed: str, count: int, *, events_each: int, now: datetime) -> list[Player]:
    """Players whose ids and events follow from *seed* alone; their play ended by *now*."""
    random = Random(seed)
    return [_player(random, events_each, now) for _ in range(count)]


def _player(random: Random, count: int, now: datetime) -> Player:
    student_id, session_id = _uuid(random), _uuid(random)
    played = _events(random, count, student_id, session_id, now)
    return Player(student_id=student_id, session_id=session_id, events=list(played))


def _events(
    random: Random, count: int, student_id: UUID, session_id: UUID, now: datetime
) -> Iterator[dict[str, Any]]:
    student, session = str(student_id), str(session_id)
    for step in range(count):
        at = now - _LONGEST_PLAY * (1 - step / count)
        yield {
            "event_id": str(_uuid(random)),
            "student_id": student,
            "session_id": session,
            "event_type": TYPES[step % len(TYPES)],
            "timestamp": at.isoformat(),
            # 70 bytes, as in the measurements of the earlier system (research note, section 9).
            "data": {"task": step, "choice": "north gate", "score": 0.75, "tools": ["rope", "map"]},
            "mission_id": "harbour",
            "game_version": "1.4.0",
        }


def _uuid(random: Random) -> UUID:
    return UUID(int=random.getrandbits(128), version=4)
