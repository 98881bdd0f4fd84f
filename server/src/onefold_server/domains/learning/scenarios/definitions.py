"""
What a scenario is: data, validated whole, and the twelve that come with the package.

A scenario is told in one or more languages; each telling has the same phases with the same
objectives, so that success means the same in every language. What is asked for can be
achieved: every objective names phrases that show it, and every criterion needs objectives
that its phase has (faults 34 and 37).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from onefold.core.identity import fingerprint
from onefold.errors import FieldProblem, InvalidInput
from onefold_server.domains.learning.scenarios.lemma import is_telling
from onefold_server.domains.learning.values import check_language, check_object

MAX_DEFINITION_BYTES: Final = 64 * 1024

Id = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_-]{0,99}\Z")]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]
Word = Annotated[str, Meta(min_length=1, max_length=100)]


class Category(StrEnum):
    """What a scenario is about."""

    TRAVEL = "travel"
    RESTAURANT = "restaurant"
    SHOPPING = "shopping"
    BUSINESS = "business"
    HEALTHCARE = "healthcare"
    SOCIAL = "social"
    EMERGENCY = "emergency"
    EDUCATION = "education"
    DAILY_LIFE = "daily_life"
    HOBBIES = "hobbies"


class Difficulty(StrEnum):
    """How hard a scenario is; ranked by `RANK`, never by its spelling."""

    BEGINNER = "beginner"
    INTERMEDIATE = "intermediate"
    ADVANCED = "advanced"
    NATIVE = "native"


RANK: Final = {difficulty: rank for rank, difficulty in enumerate(Difficulty)}


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a definition; unknown fields are refused."""


class Criterion(_Data, frozen=True, kw_only=True):
    """What must be achieved in a phase: all of these objectives."""

    needs: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=20)]


class PhaseFrame(_Data, frozen=True, kw_only=True):
    """What a phase is in every language."""

    id: Id
    minutes: Annotated[int, Meta(ge=1, le=120)]
    criteria: Annotated[tuple[Criterion, ...], Meta(max_length=10)] = ()


class Objective(_Data, frozen=True, kw_only=True):
    """Something to achieve; any phrase of `evidence` in a learner's text shows it."""

    id: Id
    text: Text
    evidence: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=20)]


class Phase(_Data, frozen=True, kw_only=True):
    """A phase told in one language."""

    id: Id
    title: Text
    objectives: Annotated[tuple[Objective, ...], Meta(min_length=1, max_length=20)]
    vocabulary: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=50)]
    phrases: Annotated[tuple[Word, ...], Meta(max_length=20)] = ()


class Telling(_Data, frozen=True, kw_only=True):
    """A scenario told in one language."""

    title: Text
    description: Text
    setting: Text
    learner_role: Text
    tutor_role: Text
    opening: Text
    goals: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=20)]
    phases: Annotated[tuple[Phase, ...], Meta(min_length=1, max_length=20)]


class Definition(_Data, frozen=True, kw_only=True):
    """A whole scenario."""

    id: Id
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    category: Category
    difficulty: Difficulty
    minutes: Annotated[int, Meta(ge=1, le=480)]
    phases: Annotated[tuple[PhaseFrame, ...], Meta(min_length=1, max_length=20)]
    languages: Annotated[dict[str, Telling], Meta(min_length=1, max_length=50)]

    def fingerprint(self) -> bytes:
        """By which the same version is told from another one of the same number."""
        return fingerprint(msgspec.json.decode(msgspec.json.encode(self)))

    def script(self, language: str) -> "ScenarioScript":
        """
        The scenario in one language, as an attempt keeps it.

        Raises:
            KeyError: it is not told in that language.
        """
        telling = self.languages[language]
        return ScenarioScript(
            title=telling.title,
            category=self.category,
            difficulty=self.difficulty,
            minutes=self.minutes,
            opening=telling.opening,
            phases=tuple(
                ScriptPhase(**msgspec.structs.asdict(phase), criteria=frame.criteria)
                for frame, phase in zip(self.phases, telling.phases, strict=True)
            ),
        )


class ScriptPhase(Phase, frozen=True, kw_only=True):
    """A phase with its criteria."""

    criteria: tuple[Criterion, ...] = ()


class ScenarioScript(_Data, frozen=True, kw_only=True):
    """What an attempt needs of a scenario: one language, phases and their criteria."""

    title: str
    category: Category
    difficulty: Difficulty
    minutes: int
    opening: str
    phases: tuple[ScriptPhase, ...]


def read_definition(raw: Any) -> Definition:
    """
    The scenario that *raw* describes.

    Raises:
        InvalidInput: it does not have the shape, or names every way in which it does not
            hold together.
    """
    check_object(raw, "definition", limit_bytes=MAX_DEFINITION_BYTES)
    try:
        definition = msgspec.convert(raw, Definition)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise InvalidInput([FieldProblem(where.strip(".`") or "", "shape", reason)]) from None
    problems = list(_problems(definition))
    if problems:
        raise InvalidInput(problems)
    return definition


def _problems(definition: Definition) -> Iterator[FieldProblem]:
    yield from _twice("phases", [frame.id for frame in definition.phases])
    for language, telling in definition.languages.items():
        where = f"languages.{language}"
        try:
            check_language(language, where)
        except InvalidInput as error:
            yield from error.problems
        if [p.id for p in telling.phases] != [f.id for f in definition.phases]:
            yield FieldProblem(f"{where}.phases", "phases", "are not the scenario's, in its order")
            continue
        for frame, phase in zip(definition.phases, telling.phases, strict=True):
            yield from _phase_problems(f"{where}.phases.{phase.id}", language, frame, phase)
    yield from _different_objectives(definition)


def _phase_problems(
    where: str, language: str, frame: PhaseFrame, phase: Phase
) -> Iterator[FieldProblem]:
    ids = [objective.id for objective in phase.objectives]
    yield from _twice(f"{where}.objectives", ids)
    for criterion in frame.criteria:
        missing = set(criterion.needs) - set(ids)
        if missing:
            reason = f"has no objective {', '.join(sorted(missing))} that a criterion needs"
            yield FieldProblem(where, "unreachable", reason)
    for objective in phase.objectives:
        for phrase in objective.evidence:
            if not is_telling(phrase, language):
                reason = f"{phrase!r} shows nothing: it has stop words only"
                yield FieldProblem(f"{where}.objectives.{objective.id}", "evidence", reason)


def _different_objectives(definition: Definition) -> Iterator[FieldProblem]:
    told = {
        language: [{o.id for o in phase.objectives} for phase in telling.phases]
        for language, telling in definition.languages.items()
    }
    first = next(iter(told))
    for language, objectives in told.items():
        if objectives != told[first]:
            reason = f"objectives differ from those told in {first}"
            yield FieldProblem(f"languages.{language}", "objectives", reason)


def _twice(where: str, ids: Sequence[str]) -> Iterator[FieldProblem]:
    for id_, count in Counter(ids).items():
        if count > 1:
            yield FieldProblem(where, "twice", f"{id_} is there {count} times")


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, Definition]:
    """The scenarios that come with the package, by id; a fault in one stops the start."""
    found = {}
    for file in sorted(
        (f for f in files(__package__).joinpath("catalogue").iterdir() if f.name.endswith(".json")),
        key=lambda f: f.name,
    ):
        definition = read_definition(msgspec.json.decode(file.read_bytes()))
        found[definition.id] = definition
    return found
