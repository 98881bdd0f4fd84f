"""What suggestions and decisions come to, without a database."""

from uuid import UUID, uuid4

import pytest

from onefold.errors import FieldProblem, InvalidEvent
from onefold_server.domains.classroom.rules import (
    MAX_ESSAYS,
    MAX_STUDENTS,
    BatchEssay,
    Candidate,
    Decision,
    EssayDecision,
    Status,
    choose,
    is_sure,
    read_suggested,
    settle,
    split_name,
)

A, B, C = (UUID(int=n) for n in (1, 2, 3))


def chosen(*candidates: tuple[UUID, float], enrolled: tuple[UUID, ...] = (A, B, C)) -> list[UUID]:
    """Who is suggested, the best first."""
    essay = BatchEssay(id=uuid4(), candidates=tuple(Candidate(*c) for c in candidates))
    found = choose(essay, enrolled=enrolled)
    return [c.student_id for c in (found.best, *found.others) if c]


def test_the_highest_score_is_chosen_and_all_others_kept() -> None:
    """Of one pupil named twice the better; who is not in the class is not chosen."""
    assert chosen((A, 0.3), (B, 0.9), (A, 0.5)) == [B, A]
    assert chosen((A, 0.9), (B, 0.8), enrolled=(B,)) == [B]
    assert chosen() == []


@pytest.mark.parametrize(
    ("scores", "said", "expected"),
    [
        ((0.9, 0.9), False, True),
        ((0.9, 0.8), False, False),
        ((0.9,), True, True),
        ((), True, False),
    ],
)
def test_what_is_ambiguous(scores: tuple[float, ...], said: bool, expected: bool) -> None:
    """A tie at the top, or the producer's word; an essay without a match is not."""
    candidates = tuple(map(Candidate, (A, B), scores))
    essay = BatchEssay(id=uuid4(), candidates=candidates, ambiguous=said)

    assert choose(essay, enrolled=(A, B)).ambiguous is expected


@pytest.mark.parametrize(
    ("status", "score", "ambiguous", "expected"),
    [
        ("pending_validation", 0.7, False, True),
        ("pending_validation", 0.69, False, False),
        ("pending_validation", 0.99, True, False),
        ("no_match", None, False, False),
        ("confirmed", 0.99, False, False),
    ],
)
def test_what_is_sure(status: str, score: float | None, ambiguous: bool, expected: bool) -> None:
    """From 0.7 on, unambiguous, and only while it is open."""
    assert is_sure(status, score, ambiguous=ambiguous) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Anna Andersson", ("Anna", "Andersson")),
        ("Lars Erik von Sydow", ("Lars Erik", "von Sydow")),
        ("María de la Cruz", ("María", "de la Cruz")),
        ("Svartling, Björn", ("Björn", "Svartling")),
        ("Zoë", ("Zoë", "")),
        ("", ("", "")),
        ("von Essen", ("von", "Essen")),
    ],
)
def test_names_are_split_with_their_particles(name: str, expected: tuple[str, str]) -> None:
    """A particle belongs to the last name, unless nothing would be left before it."""
    assert split_name(name) == expected


def test_a_decision_without_a_pupil_means_the_suggested_one() -> None:
    """Nobody suggested: a pupil must be named; rejected: none may be."""
    id_ = uuid4()
    row = {"suggested_student_id": A}

    yes = settle(Decision(essay_id=id_, confirmed=True), row)
    no = settle(Decision(essay_id=id_, confirmed=False), row)
    nobody = settle(Decision(essay_id=id_, confirmed=True), {"suggested_student_id": None})

    assert yes == EssayDecision(essay_id=id_, status=Status.CONFIRMED, student_id=A)
    assert no == EssayDecision(essay_id=id_, status=Status.REJECTED, student_id=None)
    assert isinstance(nobody, FieldProblem)


def test_too_many_essays_are_refused() -> None:
    """One event has its bound."""
    data = {"batch_id": str(A), "class_id": str(B), "match_results": [{}] * (MAX_ESSAYS + 1)}

    with pytest.raises(InvalidEvent, match="at most 5000"):
        read_suggested(data)


def test_too_many_pupils_are_refused() -> None:
    """They are looked up in one statement, which has its bound too."""
    suggestions = [
        {"student_id": str(UUID(int=n)), "confidence_score": 0.5} for n in range(MAX_STUDENTS + 1)
    ]
    essay = {"essay_id": str(C), "suggestions": suggestions}
    data = {"batch_id": str(A), "class_id": str(B), "match_results": [essay]}

    with pytest.raises(InvalidEvent, match="at most 10000 pupils"):
        read_suggested(data)


def test_texts_that_cannot_be_stored_are_left_out() -> None:
    """A reason or file name with U+0000 costs neither suggestion nor essay."""
    suggestion = {
        "student_id": str(A),
        "confidence_score": 1,
        "match_reasons": ["name\0", "email", 7, "x" * 200],
    }
    essay = {"essay_id": str(C), "filename": "a\0b", "suggestions": [suggestion]}
    data = {"batch_id": str(A), "class_id": str(B), "match_results": [essay]}

    (read,) = read_suggested(data).essays

    assert read.file_name is None
    assert read.candidates == (Candidate(A, 1.0, ("email", "x" * 100)),)
