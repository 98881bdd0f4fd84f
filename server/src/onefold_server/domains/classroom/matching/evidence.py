"""A place's words, aligned with the pupils' names."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from onefold_server.domains.classroom.matching.places import NameSpan, NameWeight, is_furniture
from onefold_server.domains.classroom.matching.roster import ClassRoster, Hit, Known, Likeness
from onefold_server.domains.classroom.matching.words import PARTICLES, Word

# What is left of a place's weight, by how much of the name is there. Below 0.7 / 0.95 it needs
# a teacher: both a first and a last name are required to be sure.
_ONE_SLIP: Final = 0.78
_TWO_SLIPS: Final = 0.62
_INITIAL: Final = 0.68
_INITIAL_AND_SLIP: Final = 0.5
_FIRST_ALONE: Final = 0.6
_LAST_ALONE: Final = 0.5
_SLIP_ALONE: Final = 0.4
_ADORNED: Final = 0.1  # off, where diacritics are written that the roster does not have
_PLAIN: Final = 0.01  # off, where those of the roster are not written: between two it decides not
_NOT_WRITTEN: Final = 0.03  # off for a further first or last name that is not written
_NOT_OURS: Final = 0.12  # off for a word inside the name that is not the pupil's


class Evidence(NamedTuple):
    """What one place says of one pupil."""

    pupil: int
    score: float
    weight: NameWeight
    first: Likeness
    last: Likeness

    @property
    def reason(self) -> str:
        return f"{_said(self.first, self.last)} {self.weight.where}"


def evidence(place: NameSpan, roster: ClassRoster) -> Iterator[Evidence]:
    """What *place* says, of every pupil it may name."""
    hits: dict[int, list[tuple[int, Hit]]] = defaultdict(list)
    for at, word in enumerate(place.words):
        for hit in roster.hits(word):
            hits[hit.pupil].append((at, hit))
    for pupil, found in hits.items():
        said = _judge(place, roster.known[pupil], _assign(found))
        if said:
            yield Evidence(pupil, *said)


def _assign(hits: Iterable[tuple[int, Hit]]) -> dict[int, tuple[int, Likeness]]:
    """For each word of the name the likest word of the place, each used for its own only."""
    parts: dict[int, tuple[int, Likeness]] = {}
    used: set[int] = set()
    for at, hit in sorted(hits, key=lambda found: (-found[1].likeness, found[0], found[1].parts)):
        if at not in used and parts.keys().isdisjoint(hit.parts):
            parts |= dict.fromkeys(hit.parts, (at, hit.likeness))
            used.add(at)
    return parts


def _judge(
    place: NameSpan, known: Known, parts: dict[int, tuple[int, Likeness]]
) -> tuple[float, NameWeight, Likeness, Likeness] | None:
    first = max((like for part, (_, like) in parts.items() if part < known.firsts), default=None)
    last = max((like for part, (_, like) in parts.items() if part >= known.firsts), default=None)
    taken = {at for at, _ in parts.values()}
    if first is None or last is None:
        initial = _initial(place.words, known.name[0 if first is None else known.firsts :], taken)
        taken |= initial
        missing = Likeness.INITIAL if initial else Likeness.NONE
        first, last = first or missing, last or missing
    inside = _inside(place.words, taken)
    weight = _weight(place, taken | inside)
    if weight is None or (weight is NameWeight.MENTION and not _is_mention(first, last, inside)):
        return None
    off = _NOT_OURS * len(inside) + _NOT_WRITTEN * min(2, len(known.name) - len(parts))
    share = _share(first, last) if known.whole else _FIRST_ALONE
    if min(first, last) <= Likeness.INITIAL:
        off = 0.0
    return round(weight.score * share - off, 4), weight, first, last


def _initial(place: tuple[Word, ...], name: tuple[Word, ...], taken: set[int]) -> set[int]:
    """Where the initial of the missing name stands beside the other one."""
    if not name or not taken:
        return set()
    for at in (min(taken) - 1, max(taken) + 1):
        beside = place[at].folded if 0 <= at < len(place) else ""
        if len(beside) == 1 and name[0].folded.startswith(beside):
            return {at}
    return set()


def _inside(place: tuple[Word, ...], taken: set[int]) -> set[int]:
    """Words within the name that are not of it; middle initials and particles are."""
    return {
        at
        for at in range(min(taken), max(taken))
        if at not in taken and len(place[at].folded) > 1 and place[at].folded not in PARTICLES
    }


def _weight(place: NameSpan, covered: set[int]) -> NameWeight | None:
    beside = (word for at, word in enumerate(place.words) if at not in covered)
    rest = [word for word in beside if not is_furniture(word) and word.folded not in PARTICLES]
    strict = all(len(word.folded) == 1 for word in rest)  # initials
    return place.alone if strict else place.among


def _is_mention(first: Likeness, last: Likeness, inside: set[int]) -> bool:
    """In prose only a whole and exact name counts: its words are words of the language too."""
    return min(first, last) >= Likeness.ADORNED and not inside


def _share(first: Likeness, last: Likeness) -> float:
    least, most = sorted((first, last))
    if least >= Likeness.ADORNED:
        return 1.0 - _ADORNED * (least is Likeness.ADORNED) - _PLAIN * (least is Likeness.PLAIN)
    if least is Likeness.SLIP:
        return _TWO_SLIPS if most is Likeness.SLIP else _ONE_SLIP
    if least is Likeness.INITIAL:
        return _INITIAL_AND_SLIP if most is Likeness.SLIP else _INITIAL
    if most is Likeness.SLIP:
        return _SLIP_ALONE
    return _FIRST_ALONE if first else _LAST_ALONE


def _said(first: Likeness, last: Likeness) -> str:
    named = [
        f"{kind} initial" if likeness is Likeness.INITIAL else f"{kind} name"
        for kind, likeness in (("first", first), ("last", last))
        if likeness
    ]
    said = "first and last name" if named == ["first name", "last name"] else " and ".join(named)
    return f"{said}, misspelt," if Likeness.SLIP in (first, last) else said
