"""Text to words: one spelling for what readers take as the same."""

import re
from functools import lru_cache
from typing import Final, NamedTuple
from unicodedata import normalize

_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_APOSTROPHES: Final = re.compile("['\u2018\u2019\u02bc\u00b4`]")
_MARKS: Final = re.compile("[\u0300-\u036f]")
_WORD: Final = re.compile(r"[^\W_]+")
# Letters that Unicode does not take apart, and that people without the key type so.
_LETTERS: Final = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d",
                                 "þ": "th", "ı": "i", "ħ": "h"})  # fmt: skip

# Part of a surname that is left out, moved and capitalised at will, so never compared.
_SMALL: Final = """
af al av bin da das de del della den der des di do dos du el ibn la le ten ter van vom von
y zu zum zur
"""
PARTICLES: Final = frozenset(_SMALL.split())


class Word(NamedTuple):
    """A word as it was written, in small letters, and without its diacritics."""

    written: str
    folded: str


def cleaned(text: str) -> str:
    """NFC, without invisible characters and apostrophes: `O’Brien` is one word."""
    return _APOSTROPHES.sub("", _INVISIBLE.sub("", normalize("NFC", text)))


def folded(text: str) -> str:
    """Small letters without diacritics: `Åström` is `astrom`, `Weiß` is `weiss`."""
    small = text.casefold()
    if small.isascii():
        return small
    return _MARKS.sub("", normalize("NFKD", small)).translate(_LETTERS)


@lru_cache(maxsize=16_384)
def _word(written: str) -> Word:
    return Word(written, folded(written))


def words(text: str) -> list[Word]:
    """The words of a cleaned text; hyphens part them."""
    return [_word(written) for written in _WORD.findall(text.casefold())]


def name_words(name: str) -> list[Word]:
    """The words of a name that are compared: without particles, unless it has no others."""
    every = words(cleaned(name))
    return [word for word in every if word.folded not in PARTICLES] or every
