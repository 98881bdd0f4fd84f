"""What a suggestion is worth, what a decision may be, who may see a class. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from onefold.core.fields import text_flaw
from onefold.errors import FieldProblem, InvalidEvent, InvalidInput, NotFound
from onefold_server.domains.classroom.matching.values import SURE
from onefold_server.domains.classroom.matching.words import PARTICLES
from onefold_server.domains.directory.rules import Principal, Role, Scope

MAX_ESSAYS: Final = 5000  # of one event
MAX_STUDENTS: Final = 10_000  # whom one event names: they are looked up in one statement
MAX_SUGGESTIONS: Final = 20  # of one essay; the others are the least likely anyway
MAX_REASONS: Final = 20


class Status(StrEnum):
    """What is known of who wrote an essay."""

    PENDING = "pending_validation"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    NO_MATCH = "no_match"
    TIMEOUT_CONFIRMED = "timeout_confirmed"


class Method(StrEnum):
    """Who decided it."""

    HUMAN = "human"
    TIMEOUT = "timeout"
    AUTO = "auto"


class Candidate(NamedTuple):
    """A pupil who may have written an essay."""

    student_id: UUID
    score: float
    reasons: tuple[str, ...] = ()

    def shown(self) -> dict[str, Any]:
        """As it is stored beside an essay."""
        return {
            "student_id": str(self.student_id),
            "score": self.score,
            "reasons": list(self.reasons),
        }


class Dropped(NamedTuple):
    """Something of an event that could not be used, and why."""

    essay_id: str
    value: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class BatchEssay:
    """
    One essay of an event.

    Attributes:
        id: The essay.
        file_name: As it was handed in, if known.
        candidates: Who may have written it, in the order of the event.
        ambiguous: The producer says that it is not sure, whatever the score.
        note: Why there is no suggestion, in the producer's words.
    """

    id: UUID
    file_name: str | None = None
    candidates: tuple[Candidate, ...] = ()
    ambiguous: bool = False
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Suggested:
    """What one event suggests, as far as it can be read."""

    batch_id: UUID
    class_id: UUID
    total: int
    essays: tuple[BatchEssay, ...]
    students: frozenset[UUID]  # every pupil whom it names
    invalid: tuple[Dropped, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Who is suggested for one essay, and who else might be."""

    essay: BatchEssay
    best: Candidate | None
    others: tuple[Candidate, ...]
    ambiguous: bool

    @property
    def status(self) -> Status:
        """What the essay begins as."""
        return Status.NO_MATCH if self.best is None else Status.PENDING


@dataclass(kw_only=True)
class Taken:
    """
    What became of one event's suggestions; metrics and the log line are made of it.

    Attributes:
        stored: Essays that were not associated before.
        improved: Essays whose open suggestion was replaced by a better one.
        already_associated: Essays left as they were.
        no_match: Of those stored, without a usable suggestion.
        ambiguous: Of those stored, with several pupils equally likely.
        repeated: The event was applied before, and nothing was done now.
    """

    batch_id: UUID
    stored: int = 0
    improved: int = 0
    already_associated: int = 0
    no_match: int = 0
    ambiguous: int = 0
    invalid: list[Dropped] = field(default_factory=list)
    unknown_students: list[Dropped] = field(default_factory=list)
    not_enrolled: list[Dropped] = field(default_factory=list)
    repeated: bool = False


def read_suggested(data: Any) -> Suggested:
    """
    What the data of `batch.author.matches.suggested` (v1) suggests.

    Essays and suggestions that cannot be read are dropped singly, each with its reason.

    Raises:
        InvalidEvent: batch, class or the list of essays cannot be read; nothing can be used.
    """
    if not isinstance(data, Mapping):
        raise InvalidEvent("expected an object", "data")
    results = data.get("match_results")
    if not isinstance(results, Sequence) or isinstance(results, str):
        raise InvalidEvent("expected a list", "data.match_results")
    if len(results) > MAX_ESSAYS:
        raise InvalidEvent(f"at most {MAX_ESSAYS} essays", "data.match_results")
    invalid: list[Dropped] = []
    essays: dict[UUID, BatchEssay] = {}
    ids = _Ids()
    for raw in results:
        essay = _read_essay(raw, ids, invalid)
        if essay is None:
            continue
        if essay.id in essays:
            invalid.append(Dropped(str(essay.id), "", "repeated_in_batch"))
        else:
            essays[essay.id] = essay
    if len(ids) > MAX_STUDENTS:
        raise InvalidEvent(f"at most {MAX_STUDENTS} pupils", "data.match_results")
    return Suggested(
        batch_id=read_batch_id(data),
        class_id=_own_id(data, "class_id"),
        total=len(results),
        essays=tuple(essays.values()),
        students=frozenset(id_ for id_ in ids.values() if id_),
        invalid=tuple(invalid),
    )


def read_batch_id(data: Any) -> UUID:
    """The batch that such data is about; `InvalidEvent` when it names none."""
    if not isinstance(data, Mapping):
        raise InvalidEvent("expected an object", "data")
    return _own_id(data, "batch_id")


class _Ids(dict[str, UUID | None]):
    """Pupils' ids as an event spells them, each read once: a class is named over and over."""

    def __missing__(self, text: str) -> UUID | None:
        self[text] = found = as_id(text)
        return found


def _own_id(data: Mapping[str, Any], name: str) -> UUID:
    found = as_id(data.get(name))
    if found is None:
        raise InvalidEvent("expected a UUID", f"data.{name}")
    return found


def as_id(value: Any) -> UUID | None:
    """The UUID that *value* spells, or None."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        return None


def _read_essay(raw: Any, ids: _Ids, invalid: list[Dropped]) -> BatchEssay | None:
    if not isinstance(raw, dict):
        invalid.append(Dropped("", _short(raw), "not_an_object"))
        return None
    id_ = as_id(raw.get("essay_id"))
    if id_ is None:
        invalid.append(Dropped(_short(raw.get("essay_id")), "", "essay_id_not_a_uuid"))
        return None
    given = raw.get("suggestions") or ()
    if not isinstance(given, list | tuple):
        invalid.append(Dropped(str(id_), _short(given), "suggestions_not_a_list"))
        given = ()
    read = [_read_candidate(id_, one, ids, invalid) for one in given]
    return BatchEssay(
        id=id_,
        file_name=_text(raw.get("filename"), 255),
        candidates=tuple([one for one in read if one]),
        ambiguous=raw.get("ambiguous") is True,
        note=_text(raw.get("no_match_reason"), 200),
    )


def _read_candidate(
    essay_id: UUID, raw: Any, ids: _Ids, invalid: list[Dropped]
) -> Candidate | None:
    if not isinstance(raw, dict):
        invalid.append(Dropped(str(essay_id), _short(raw), "not_an_object"))
        return None
    spelt, score = raw.get("student_id"), raw.get("confidence_score")
    student_id = ids[spelt] if isinstance(spelt, str) else None
    if student_id is None:
        invalid.append(Dropped(str(essay_id), _short(spelt), "student_id_not_a_uuid"))
        return None
    # Neither true nor a text is a number, and NaN is between no two.
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        invalid.append(Dropped(str(essay_id), str(student_id), "score_not_between_0_and_1"))
        return None
    reasons = raw.get("match_reasons")
    named = reasons[:MAX_REASONS] if isinstance(reasons, list | tuple) else ()
    return Candidate(student_id, float(score), tuple(filter(None, map(_reason, named))))


def _reason(value: Any) -> str | None:
    return _text(value, 100)


def _text(value: Any, longest: int) -> str | None:
    """*value* cut to what the database can keep; None when it is no text."""
    if not isinstance(value, str) or not value:
        return None
    plain = value.isascii() and value.isprintable()
    return value[:longest] if plain or not text_flaw(value) else None


def _short(value: Any) -> str:
    return _text(str(value), 60) or ""


_SCORE = attrgetter("score")


def choose(essay: BatchEssay, *, enrolled: Collection[UUID]) -> Choice:
    """
    The likeliest pupil of the class for *essay*, and the others.

    The highest score wins; of equal ones the first, but then the essay is ambiguous.

    Args:
        essay: With whom its event suggests.
        enrolled: Who is in the class, of those whom the event names.
    """
    usable: dict[UUID, Candidate] = {}
    for candidate in sorted(essay.candidates, key=_SCORE, reverse=True):
        if candidate.student_id in enrolled:
            usable.setdefault(candidate.student_id, candidate)
    best, *others = usable.values() or [None]
    tied = best is not None and any(other.score == best.score for other in others if other)
    return Choice(
        essay=essay,
        best=best,
        others=tuple(other for other in others if other)[:MAX_SUGGESTIONS],
        ambiguous=best is not None and (tied or essay.ambiguous),
    )


def is_sure(status: str, score: float | None, *, ambiguous: bool) -> bool:
    """Whether the deadline may confirm a suggestion without a teacher."""
    return status == Status.PENDING and score is not None and score >= SURE and not ambiguous


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A teacher's word on one essay; without `student_id` the suggested pupil is meant."""

    essay_id: UUID
    confirmed: bool
    student_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class EssayDecision:
    """What a decision comes to for one essay."""

    essay_id: UUID
    status: Status
    student_id: UUID | None


def settle(decision: Decision, row: Mapping[str, Any]) -> EssayDecision | FieldProblem:
    """What *decision* makes of the essay's *row*, or why it cannot be."""
    if not decision.confirmed:
        if decision.student_id is not None:
            reason = f"essay {decision.essay_id} is rejected: name no pupil"
            return FieldProblem("student_id", "rejected", reason)
        return EssayDecision(essay_id=decision.essay_id, status=Status.REJECTED, student_id=None)
    student_id = decision.student_id or row["suggested_student_id"]
    if student_id is None:
        reason = f"nobody is suggested for essay {decision.essay_id}: name a pupil"
        return FieldProblem("student_id", "missing", reason)
    return EssayDecision(essay_id=decision.essay_id, status=Status.CONFIRMED, student_id=student_id)


def is_same(settled: EssayDecision, row: Mapping[str, Any]) -> bool:
    """Whether the essay was decided just so before."""
    return bool(row["status"] == settled.status and row["student_id"] == settled.student_id)


def require_mine(caller: Principal, row: Mapping[str, Any] | None, thing: str, id_: UUID) -> None:
    """Raise `NotFound` unless the caller owns the class of *row*, or is the school's admin."""
    if row is None or not (caller.role is Role.ADMIN or row["owner"] == caller.name):
        raise NotFound(thing, str(id_))


def require_teacher(caller: Principal) -> None:
    """Raise `Forbidden` unless the caller may teach; a pupil's own key never may."""
    caller.require(Scope.CLASSROOM_TEACH)


def split_name(name: str) -> tuple[str, str]:
    """First and last names in a display name: particles belong to the last name."""
    if "," in name:
        last, _, first = name.partition(",")
        return first.strip(), last.strip()
    words = name.split()
    if len(words) < 2:
        return " ".join(words), ""
    start = len(words) - 1
    while start > 1 and words[start - 1].casefold().strip("'’") in PARTICLES:
        start -= 1
    return " ".join(words[:start]), " ".join(words[start:])


def instant_text(at: datetime | None) -> str | None:
    """An instant as events carry it."""
    return None if at is None else at.isoformat()


def problems(found: Sequence[FieldProblem]) -> None:
    """Raise `InvalidInput` with what was found, if anything."""
    if found:
        raise InvalidInput(found)
