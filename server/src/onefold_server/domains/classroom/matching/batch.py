"""
All essays of a batch together: a pupil writes one of them.

Authors are assigned one to one, greedily by score. An optimal assignment would differ from it
only among candidates within `MARGIN` of each other, and none of those is ever sure.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from onefold_server.domains.classroom.matching.authors import ScoredPupil, candidates
from onefold_server.domains.classroom.matching.roster import ClassRoster
from onefold_server.domains.classroom.matching.values import (
    MARGIN,
    UNSURE,
    Essay,
    Match,
    Pupil,
    Suggestion,
)

_SHOWN = 3
_EPSILON = 1e-9  # 0.95 - 0.85 is a margin


@dataclass
class _Ranked:
    essay: Essay
    candidates: list[ScoredPupil]
    ambiguous: bool = False

    def tied(self) -> list[ScoredPupil]:
        """Those as likely as the likeliest, which is one of them."""
        best = max(one.score for one in self.candidates)
        return [one for one in self.candidates if _close(best, one.score)]


def match(essays: Sequence[Essay], pupils: Sequence[Pupil]) -> list[Match]:
    """
    Who wrote each of *essays*, which were handed in together by a class of *pupils*.

    Args:
        essays: Each with its id, text, and file name if there is one.
        pupils: The whole class: a name is ambiguous only beside the others'.

    Returns:
        A match for each essay, in their order.
    """
    roster = ClassRoster(pupils)
    ranked = [_Ranked(essay, candidates(essay, roster)) for essay in essays]
    _assign([one for one in ranked if one.candidates])
    _mark_ties([one for one in ranked if one.candidates])
    _mark_second_essays([one for one in ranked if one.candidates])
    return [_match(one, roster) for one in ranked]


def _assign(ranked: Sequence[_Ranked]) -> None:
    """Of those who tie for an essay, put the one first who has no other."""
    offers = [(one.score, essay, one) for essay in ranked for one in essay.tied()]
    taken: set[int] = set()
    served: set[int] = set()
    for _, essay, one in sorted(offers, key=lambda offer: -offer[0]):
        if one.pupil not in taken and id(essay) not in served:
            taken.add(one.pupil)
            served.add(id(essay))
            essay.candidates.remove(one)
            essay.candidates.insert(0, one)


def _mark_ties(ranked: Sequence[_Ranked]) -> None:
    for essay in ranked:
        if len(essay.tied()) > 1:
            _make_unsure(essay)


def _mark_second_essays(ranked: Sequence[_Ranked]) -> None:
    """Of a pupil's essays only one that is clearly the likeliest may be sure."""
    by_pupil: dict[int, list[_Ranked]] = defaultdict(list)
    for essay in ranked:
        by_pupil[essay.candidates[0].pupil].append(essay)
    for essays in by_pupil.values():
        if len(essays) > 1:
            best, second, *_ = sorted((e.candidates[0].score for e in essays), reverse=True)
            for essay in essays:
                if essay.candidates[0].score < best or _close(best, second):
                    essay.candidates[0].reasons.append("has another essay in this batch")
                    _make_unsure(essay)


def _make_unsure(essay: _Ranked) -> None:
    essay.ambiguous = True
    for one in essay.candidates:
        one.score = min(one.score, UNSURE)


def _match(ranked: _Ranked, roster: ClassRoster) -> Match:
    if not ranked.candidates:
        return Match(ranked.essay.id, (), ambiguous=False)
    shown = max(_SHOWN, len(ranked.tied()))
    suggestions = tuple(
        Suggestion(roster.known[one.pupil].pupil.id, one.score, tuple(one.reasons))
        for one in ranked.candidates[:shown]
    )
    return Match(ranked.essay.id, suggestions, ranked.ambiguous)


def _close(better: float, worse: float) -> bool:
    return better - worse < MARGIN - _EPSILON
