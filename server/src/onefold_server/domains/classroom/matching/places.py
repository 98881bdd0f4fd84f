"""Where in an essay or its file name an author may stand, and how much a name weighs there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Final, NamedTuple

from onefold_server.domains.classroom.matching.words import Word, cleaned, words

LINES: Final = 15  # from the top and from the bottom, blank ones not counted
_SHORT: Final = 12  # words; a longer line is prose


class NameWeight(Enum):
    """
    A kind of place: how sure a full and exact name there is, and its name for people.

    A label and a line of its own get 0.95, the earlier service's score for an exact name;
    the others are ordered by how often they name somebody who is not the author.
    """

    LABEL = 0.95, "after a label"
    LINE = 0.95, "on a line of its own"
    FILE = 0.9, "in the file name"
    ADDRESS = 0.85, "in an e-mail address"
    PART = 0.82, "in a part of a line"
    OTHER_LABEL = 0.6, "after a label that is not the author's"
    MENTION = 0.5, "in the text"

    @property
    def score(self) -> float:
        return self.value[0]

    @property
    def where(self) -> str:
        return self.value[1]


class NameSpan(NamedTuple):
    """
    Some words among which there may be an author's name.

    Attributes:
        words: The words.
        alone: The weight of a name beside which there is nothing but `FURNITURE`.
        among: The weight of a name among other words; None where it is no evidence.
    """

    words: tuple[Word, ...]
    alone: NameWeight
    among: NameWeight | None


@dataclass(frozen=True)
class Address:
    """An e-mail address; at the top or the bottom it is the author's, elsewhere anybody's."""

    text: str
    in_margin: bool


# What stands beside a name in a header and says nothing about it (folded).
_HEADER_WORDS: Final = """
a ak an ar argumenterande assignment au author av b by c class course d datum date draft e
elev elevens engelska english essay exam examination final forfattare from fran grupp group
gymnasiet gymnasium handed hand homework in inl inlamnad inlamning inlamnat inlamningsuppgift
kl klass klassen kurs kursprov language name namn nationella np nr number page prov sa scanned
school sida skola skolan skriven skrivuppgift slutversion student submitted sv svar sve svenska
te text the uppgift uppsats utkast v version written
jan januari january feb februari february mar mars march apr april maj may jun juni june jul
juli july aug augusti august sep sept september okt oktober oct october nov november dec
december mandag tisdag onsdag torsdag fredag monday tuesday wednesday thursday friday
"""
FURNITURE: Final = frozenset(_HEADER_WORDS.split())
# Who comes after one of these is written to or about.
_ADDRESSEES: Final = """
about dear for hej hello hi kara larare lararen mentor om opponent teacher till to
"""
_NOT_BY: Final = frozenset(_ADDRESSEES.split())

_AUTHOR: Final = (
    r"(?:elevens\s+)?namn|(?:full\s+|student\s+)?name|elev|student|author|f(?:ö|o)rfattare|"
    r"submitted\s+by|written\s+by|skriven\s+av|inl(?:ä|a)mnad\s+av|skribent|by|av|from|fr(?:å|a)n"
)
_LABELS: Final = (
    r"klass|class|kurs|course|datum|date|(?:ä|a)mne|subject|l(?:ä|a)rare|teacher|handledare|"
    r"supervisor|mentor|opponent|rektor|titel|title|uppgift|assignment|skola|school|"
    r"e-?post|e-?mail|mail|grupp|group|till|to|termin|term|prov|exam"
)
_LABEL: Final = re.compile(rf"(?<!\w)(?:(?P<author>{_AUTHOR})|(?:{_LABELS}))\s*[:=]", re.IGNORECASE)
_ANY_LABEL: Final = re.compile(r"^\W*[^\W\d_][\w /.-]{0,30}:\s")
_BY: Final = re.compile(rf"^\W*(?:{_AUTHOR})\s+(?P<name>\S.*)$", re.IGNORECASE)
_DATE: Final = re.compile(r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[./]\d{1,2}(?:[./]\d{2,4})?\b")
_PARTS: Final = re.compile(r"[,;|\t/•·–—()\[\]]+|\s-\s|\s{3,}")
_EMAIL: Final = re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,5}$")
_CAMEL: Final = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-ZÅÄÖÉÜØÆ])|\d+|_")


def margins(text: str) -> list[str]:
    """The first and the last lines of a cleaned text that are not blank."""
    lines = [line for line in text.splitlines() if line and not line.isspace()]
    return lines if len(lines) <= 2 * LINES else lines[:LINES] + lines[-LINES:]


def addresses(text: str, margin: str) -> list[Address]:
    """Every e-mail address of the text."""
    if "@" not in text:
        return []
    return [Address(found, found in margin) for found in dict.fromkeys(_EMAIL.findall(text))]


def in_line(line: str) -> Iterator[NameSpan]:
    """The places of one line."""
    line = _EMAIL.sub(" ", line)
    labels = list(_LABEL.finditer(line))
    if labels:
        yield from _labelled(line, labels)
        return
    whole = tuple(words(line))
    if not whole:
        return
    if len(whole) > _SHORT:
        yield NameSpan(whole, NameWeight.MENTION, NameWeight.MENTION)
        return
    if _ANY_LABEL.match(line):
        yield NameSpan(whole, NameWeight.OTHER_LABEL, NameWeight.OTHER_LABEL)
        return
    if said := _BY.match(line):
        yield NameSpan(tuple(words(said["name"])), NameWeight.LABEL, None)
    yield NameSpan(whole, NameWeight.LINE, NameWeight.MENTION)
    parts = _PARTS.split(_DATE.sub("|", line))
    if len(parts) > 1 and not line.rstrip().endswith((".", "!", "?")):
        yield from (NameSpan(tuple(words(part)), NameWeight.PART, None) for part in parts)


def _labelled(line: str, labels: list[re.Match[str]]) -> Iterator[NameSpan]:
    yield from in_line(line[: labels[0].start()])
    ends = chain((label.start() for label in labels[1:]), [len(line)])
    for label, end in zip(labels, ends, strict=True):
        if label["author"]:
            value = _DATE.split(line[label.end() : end])[0]
            yield NameSpan(tuple(words(value)), NameWeight.LABEL, NameWeight.PART)


def in_file_name(file_name: str) -> Iterator[NameSpan]:
    """The file name, taken apart; nothing where it says whom the essay is for or about."""
    stem = _EXTENSION.sub("", cleaned(file_name.replace("\\", "/").rpartition("/")[2]))
    parted = tuple(words(_CAMEL.sub(" ", stem)))
    if parted and not _NOT_BY.intersection(word.folded for word in parted):
        yield NameSpan(parted, NameWeight.FILE, NameWeight.FILE)


def in_address(address: Address) -> Iterator[NameSpan]:
    """The name in an address that is nobody's of the class."""
    if address.in_margin:
        local = re.sub(r"[\d_]+", " ", address.text.partition("@")[0])
        yield NameSpan(tuple(words(local)), NameWeight.ADDRESS, None)


def is_furniture(word: Word) -> bool:
    """Whether *word* may stand beside a name without making it prose."""
    return word.folded in FURNITURE or not word.folded.isalpha()
