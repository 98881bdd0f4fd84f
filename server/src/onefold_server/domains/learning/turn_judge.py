"""Who decides what a learner's turn in a scenario has achieved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Task:
    """
    What a phase of a scenario asks for.

    Attributes:
        language: Of the learner's text.
        vocabulary: Words to use.
        phrases: Whole phrases to use.
        objectives: By id: what is to be achieved, in words for people.
        evidence: By objective id: phrases of which any one shows that it was achieved.
    """

    language: str
    vocabulary: tuple[str, ...]
    phrases: tuple[str, ...]
    objectives: Mapping[str, str]
    evidence: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a learner said; the ids let a judge that costs money account for it once."""

    school_id: UUID
    student_id: UUID
    turn_id: UUID
    said: str


@dataclass(frozen=True, kw_only=True)
class TurnResult:
    """What of a task one turn has achieved: items of that task, in the task's order."""

    vocabulary: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    feedback: tuple[str, ...] = ()
    judge: str = "lemma"


class TurnJudge(Protocol):
    """Judges one turn by itself; what earlier turns achieved is added up elsewhere."""

    async def judge(self, task: Task, turn: Turn) -> TurnResult:
        """
        What *turn* achieves of *task*.

        Called outside of any transaction: it may take long. May be called again for the
        same turn, after a crash or when the scenario moved on meanwhile.

        Returns:
            Only items of *task*; naming one twice is the same as once.

        Raises:
            OnefoldError: no verdict; the turn was not recorded and may be sent again.
        """
        ...
