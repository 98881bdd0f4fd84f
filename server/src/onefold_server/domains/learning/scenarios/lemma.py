"""
Which words and phrases a text holds, whatever their usual endings. Pure.

Lemma-light: a word is cut to a stem by the commonest endings of its language, no dictionary
involved. It finds `reservations` for `reservation` and `pedimos` for `pedir`; a language
without endings here is compared word for word, case and accents aside.

Limit: irregular forms (`went`) are other words; evidence phrases should name them.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from onefold_server.domains.learning.values import words_of

# Endings, the longest first; what is left of a word must have three letters.
_ENDINGS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "en": ("ings", "ing", "ied", "ies", "ed", "es", "er", "s", "y", "e"),
        "es": (
            "aciones", "iciones", "acion", "icion", "amos", "emos", "imos", "ando", "iendo",
            "aron", "ieron", "adas", "ados", "idas", "idos", "ada", "ado", "ida", "ido",
            "aria", "eria", "iria", "are", "ere", "ire", "ar", "er", "ir", "an", "en", "as",
            "es", "os", "a", "e", "o", "s",
        ),
        "fr": ("ations", "ation", "ons", "ez", "ent", "er", "ir", "es", "ee", "e", "s", "x"),
        "de": ("ungen", "ung", "en", "er", "es", "em", "te", "st", "e", "s", "n", "t"),
    }
)  # fmt: skip
_STEM: Final = 3  # letters

# Words that every text has: alone they show nothing.
_EN: Final = (
    "a an and any are at be by can do for from go have i in is it me my no not of on or so some "
    "that the this to was we what with would you your"
)
_ES: Final = (
    "a al con de del el ella en es esta la las le lo los me mi mis no o para pero por que se si "
    "son su sus te tu un una y ya yo"
)
_STOP: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"en": frozenset(_EN.split()), "es": frozenset(_ES.split())}
)


@lru_cache(maxsize=4096)
def stem(word: str, language: str) -> str:
    """The stem of a folded word: itself without the longest ending that leaves three letters."""
    for ending in _ENDINGS.get(language.partition("-")[0], ()):
        if word.endswith(ending) and len(word) - len(ending) >= _STEM:
            shorter = word[: -len(ending)]
            doubled = len(shorter) > _STEM and shorter[-1] == shorter[-2]
            return shorter[:-1] if doubled else shorter
    return word[:-1] if len(word) > _STEM and word[-1] == word[-2] else word


def stems(text: str, language: str) -> list[str]:
    """The stems of the words of *text*, in order."""
    return [stem(word, language) for word in words_of(text)]


def is_telling(phrase: str, language: str) -> bool:
    """Whether a phrase has a word that not every text has."""
    stop = _STOP.get(language.partition("-")[0], frozenset())
    return any(word not in stop for word in words_of(phrase))


def holds(text: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether the stems of a phrase stand in those of a text, one after the other."""
    size = len(phrase)
    return size > 0 and any(text[at : at + size] == phrase for at in range(len(text) - size + 1))


def found_in(text: str, phrases: Sequence[str], language: str) -> tuple[str, ...]:
    """Those of *phrases*, words or longer, that *text* holds; in their order."""
    said = stems(text, language)
    return tuple(phrase for phrase in phrases if holds(said, stems(phrase, language)))
