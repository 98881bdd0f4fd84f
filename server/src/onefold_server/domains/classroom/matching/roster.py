"""The names of a class, searchable by any word, also a misspelt one."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from rapidfuzz import process
from rapidfuzz.distance import OSA

from onefold_server.domains.classroom.matching.values import Pupil
from onefold_server.domains.classroom.matching.words import Word, cleaned, folded, name_words, words

_SLIP_FROM: Final = 4  # letters; a shorter name one letter off is another name
_TWO_SLIPS_FROM: Final = 8


class Likeness(IntEnum):
    """How a written word is like a word of a name, the likest last."""

    NONE = 0
    INITIAL = 1
    SLIP = 2  # misspelt
    ADORNED = 3  # diacritics that the roster does not have
    PLAIN = 4  # without the diacritics that the roster has
    SAME = 5


class Hit(NamedTuple):
    """A word that is like the words *parts* of a pupil's name: one, or several in one."""

    pupil: int
    parts: tuple[int, ...]
    likeness: Likeness


class Known(NamedTuple):
    """A pupil, the compared words of the name, and how many of them are first names."""

    pupil: Pupil
    name: tuple[Word, ...]
    firsts: int

    @property
    def whole(self) -> bool:
        """Whether there is a first and a last name; one alone identifies nobody."""
        return 0 < self.firsts < len(self.name)


class ClassRoster:
    """The pupils of a class. Remembers what it was asked: a batch asks the same words."""

    def __init__(self, pupils: Sequence[Pupil]) -> None:
        self.known = [_known(pupil) for pupil in pupils]
        self.emails: dict[str, list[int]] = defaultdict(list)
        self._spelt: dict[str, dict[Hit, Word]] = defaultdict(dict)
        for number, known in enumerate(self.known):
            for word, parts in _spellings(known):
                self._spelt[word.folded].setdefault(Hit(number, parts, Likeness.SAME), word)
            if known.pupil.email:
                self.emails[plain_email(known.pupil.email)].append(number)
        self._spellings = list(self._spelt)
        self._asked: dict[str, tuple[Hit, ...]] = {}

    def may_name(self, written: Sequence[Word], *, in_full: bool) -> bool:
        """Whether a word is like one of a name; *in_full*, whether two are, to the letter."""
        if in_full:
            return sum(word.folded in self._spelt for word in written) > 1
        return any(self.hits(word) for word in written)

    def hits(self, word: Word) -> tuple[Hit, ...]:
        """The words of names that *word* is like; misspelt only where it is no name itself."""
        found = self._asked.get(word.written)
        if found is None:
            found = self._asked[word.written] = tuple(self._hits(word))
        return found

    def _hits(self, word: Word) -> list[Hit]:
        spelt = self._spelt.get(word.folded)
        if spelt:
            return [hit._replace(likeness=_likeness(word, known)) for hit, known in spelt.items()]
        return [
            hit._replace(likeness=Likeness.SLIP)
            for spelling in self._nearly(word.folded)
            for hit in self._spelt[spelling]
        ]

    def _nearly(self, written: str) -> list[str]:
        if len(written) < _SLIP_FROM - 1 or not written.isalpha():
            return []
        near = process.extract(
            written, self._spellings, scorer=OSA.distance, score_cutoff=2, limit=None
        )
        return [spelling for spelling, slips, _ in near if slips <= slips_allowed(spelling)]


def slips_allowed(spelling: str) -> int:
    """How many letters may be wrong, missing, too many or swapped in a word this long."""
    return (len(spelling) >= _SLIP_FROM) + (len(spelling) >= _TWO_SLIPS_FROM)


def plain_email(address: str) -> str:
    """The address without what mail servers ignore: case, a `+tag`, Gmail's dots."""
    local, _, domain = folded(address.strip()).rpartition("@")
    local = local.split("+")[0]
    if domain in {"gmail.com", "googlemail.com"}:
        local = local.replace(".", "")
    return f"{local}@{domain}"


def _spellings(known: Known) -> Iterator[tuple[Word, tuple[int, ...]]]:
    """Each word of the name, and the words that it is written as when nothing parts them."""
    for part, word in enumerate(known.name):
        yield word, (part,)
    firsts, lasts = tuple(range(known.firsts)), tuple(range(known.firsts, len(known.name)))
    first, last = _one_word(known.pupil.first_name), _one_word(known.pupil.last_name)
    yield from ((word, parts) for word, parts in ((first, firsts), (last, lasts)) if parts)
    if known.whole:
        for one, other in ((first, last), (last, first)):
            yield Word(one.written + other.written, one.folded + other.folded), (*firsts, *lasts)


def _one_word(name: str) -> Word:
    every = words(cleaned(name))
    return Word("".join(w.written for w in every), "".join(w.folded for w in every))


def _likeness(written: Word, known: Word) -> Likeness:
    if written.written == known.written:
        return Likeness.SAME
    return Likeness.PLAIN if written.written == written.folded else Likeness.ADORNED


def _known(pupil: Pupil) -> Known:
    firsts = name_words(pupil.first_name)
    return Known(pupil, (*firsts, *name_words(pupil.last_name)), len(firsts))
