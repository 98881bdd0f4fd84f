"""
What turns amount to: progress, scores, the end. Pure: no clock, no storage.

Progress of a phase only grows: what a turn achieves is added to what earlier turns have.
A phase with criteria is scored by them: each counts 1 when all its objectives are achieved
and a half when some are, and the phase is done at 0.7 of them. One without is scored by the
note's weights, 0.3 vocabulary + 0.3 phrases + 0.4 objectives, and done at 0.6; a phase that
has no phrases shares their weight among the others. The note judged the last message alone,
so that some phases could not be done by any message (fault 34).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from onefold_server.domains.learning.scenarios.definitions import (
    RANK,
    Definition,
    ScenarioScript,
    ScriptPhase,
)
from onefold_server.domains.learning.turn_judge import Task, TurnResult

DONE_BY_CRITERIA: Final = 0.7
DONE_BY_WEIGHT: Final = 0.6
MAX_SAID: Final = 4000  # characters of a turn
_EPSILON: Final = 1e-9  # 0.3 + 0.3 must reach 0.6


class AttemptState(StrEnum):
    """Where an attempt stands."""

    ACTIVE = "active"
    COMPLETED = "completed"
    ABANDONED = "abandoned"


class Achieved(msgspec.Struct, frozen=True, kw_only=True):
    """What has been achieved of one phase, in the script's order."""

    vocabulary: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """
    What an attempt amounts to.

    Attributes:
        success_rate: The mean score of all its phases, 0 to 1.
        completion_score: The same in percent.
        phases_completed: How many are done.
        items_studied: Words and objectives of the phases it came to.
        items_correct: Those of them that were achieved.
    """

    success_rate: float
    completion_score: float
    phases_completed: int
    items_studied: int
    items_correct: int


def task_of(phase: ScriptPhase, language: str) -> Task:
    """What a judge is asked."""
    return Task(
        language=language,
        vocabulary=phase.vocabulary,
        phrases=phase.phrases,
        objectives={o.id: o.text for o in phase.objectives},
        evidence={o.id: o.evidence for o in phase.objectives},
    )


def grown(phase: ScriptPhase, before: Achieved, verdict: TurnResult) -> Achieved:
    """*before* with what *verdict* adds; items that are not the phase's are left out."""
    ids = tuple(objective.id for objective in phase.objectives)
    return Achieved(
        vocabulary=_union(phase.vocabulary, before.vocabulary, verdict.vocabulary),
        phrases=_union(phase.phrases, before.phrases, verdict.phrases),
        objectives=_union(ids, before.objectives, verdict.objectives),
    )


def _union(all_: Sequence[str], *some: Iterable[str]) -> tuple[str, ...]:
    wanted = {item for items in some for item in items}
    return tuple(item for item in all_ if item in wanted)


def phase_score(phase: ScriptPhase, achieved: Achieved) -> float:
    """How far a phase is, 0 to 1; it only grows as more is achieved."""
    if phase.criteria:
        marks = [_mark(set(c.needs), set(achieved.objectives)) for c in phase.criteria]
        return sum(marks) / len(marks)
    parts = [
        (0.3, len(achieved.vocabulary), len(phase.vocabulary)),
        (0.3, len(achieved.phrases), len(phase.phrases)),
        (0.4, len(achieved.objectives), len(phase.objectives)),
    ]
    counted = [(weight, done / of) for weight, done, of in parts if of]
    return sum(w * share for w, share in counted) / sum(w for w, _ in counted)


def _mark(needs: set[str], achieved: set[str]) -> float:
    return 1.0 if needs <= achieved else 0.5 if needs & achieved else 0.0


def is_done(phase: ScriptPhase, achieved: Achieved) -> bool:
    """Whether the phase is done."""
    enough = DONE_BY_CRITERIA if phase.criteria else DONE_BY_WEIGHT
    return phase_score(phase, achieved) >= enough - _EPSILON


def phases_done(script: ScenarioScript, progress: Mapping[str, Achieved]) -> int:
    """How many phases, from the first, are done; the next one is where the attempt stands."""
    done = 0
    for phase in script.phases:
        if not is_done(phase, progress.get(phase.id, Achieved())):
            break
        done += 1
    return done


def scores(script: ScenarioScript, progress: Mapping[str, Achieved]) -> Scores:
    """What the attempt amounts to as it stands."""
    done = phases_done(script, progress)
    marks = [phase_score(p, progress.get(p.id, Achieved())) for p in script.phases]
    rate = sum(marks) / len(marks)
    met = script.phases[: done + 1]
    studied = sum(len(p.vocabulary) + len(p.objectives) for p in met)
    correct = sum(
        len(a.vocabulary) + len(a.objectives) for a in (progress.get(p.id, Achieved()) for p in met)
    )
    return Scores(
        success_rate=round(rate, 4),
        completion_score=round(rate * 100, 2),
        phases_completed=done,
        items_studied=studied,
        items_correct=correct,
    )


def mastered(script: ScenarioScript, progress: Mapping[str, Achieved]) -> list[str]:
    """The words that were used, in the script's order, each once."""
    words = [w for p in script.phases for w in progress.get(p.id, Achieved()).vocabulary]
    return list(dict.fromkeys(words))


def objectives_done(script: ScenarioScript, progress: Mapping[str, Achieved]) -> list[str]:
    """The objectives that were achieved, as `phase/objective`."""
    return [
        f"{p.id}/{id_}" for p in script.phases for id_ in progress.get(p.id, Achieved()).objectives
    ]


def read_progress(raw: Mapping[str, Any]) -> dict[str, Achieved]:
    """Progress as it is stored."""
    return msgspec.convert(raw, dict[str, Achieved])


def ended_at(
    started_at: datetime, changed_at: datetime, now: datetime, outcome: AttemptState
) -> datetime:
    """A completed attempt ends now, an abandoned one at its last turn; never before its start."""
    return (
        max(now, changed_at) if outcome is AttemptState.COMPLETED else max(changed_at, started_at)
    )


def recommended(
    definitions: Iterable[Definition], done: ScenarioScript, *, language: str, finished: set[str]
) -> list[str]:
    """
    Up to three scenarios to go on with: harder ones of the same kind first, then others.

    Harder is by rank, not by spelling (fault 35); what was finished is left out.
    """
    rank = RANK[done.difficulty]
    harder, level = [], []
    for definition in definitions:
        if definition.id in finished or language not in definition.languages:
            continue
        if definition.category is done.category and RANK[definition.difficulty] > rank:
            harder.append(definition)
        elif definition.category is not done.category and RANK[definition.difficulty] == rank:
            level.append(definition)
    harder.sort(key=lambda d: (RANK[d.difficulty], d.id))
    level.sort(key=lambda d: d.id)
    return [d.id for d in (*harder, *level)][:3]
