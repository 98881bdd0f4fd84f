"""
The faults of the earlier systems, by research note and number; and which of them are closed.

A module of tests here says `NOTE = "idempotency"`, and the name of each of its tests, or the
id of its parameter, begins with the fault's number: `test_b06_…`, `…[b06_…]`. A test whose
function has `twin` in its name shows that the design with the fault is caught. `make faults`
runs them all and counts (`conftest.py`); a number of a table below without a test fails it.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Note:
    """
    One research note's list.

    Attributes:
        numbers: What has to be closed here.
        twins: Each number needs a broken twin as well.
    """

    numbers: frozenset[str]
    twins: bool


def upto(letter: str, last: int, *, without: frozenset[int] = frozenset()) -> frozenset[str]:
    """`B1` to `B25` and the like."""
    return frozenset(f"{letter}{n}" for n in range(1, last + 1) if n not in without)


NOTES: Mapping[str, Note] = {
    "idempotency": Note(numbers=upto("B", 25) | upto("O", 10) | upto("K", 4), twins=True),
    "learning": Note(numbers=upto("L", 46), twins=False),
    # Of later issues: B13 rate limits, B16 tokens, B17 metrics, B21 consent, B23 anomalies.
    "telemetry": Note(
        numbers=upto("B", 22, without=frozenset({13, 16, 17, 21})),
        twins=False,
    ),
    "classroom": Note(numbers=upto("B", 30), twins=False),
    "trace": Note(
        numbers=upto("A", 5)
        | upto("B", 20)
        | upto("C", 1)
        | upto("D", 3)
        | upto("E", 7)
        | upto("F", 3)
        | upto("G", 1),  # the note's last heading, of smaller ones
        twins=False,
    ),
}

_NUMBERS = re.compile(r"(?:^test_|\[|-)((?:[a-z]\d{1,2}_)+)")
_NUMBER = re.compile(r"([a-z])0*(\d+)_")


class Fault(NamedTuple):
    """What one test is about; with *twin* it shows the fault, otherwise that it is closed."""

    note: str
    number: str
    twin: bool


def faults_of(note: str, test: str) -> list[Fault]:
    """
    The faults that a test of *note* is about: one, `test_a3_a4_…` two, or none.

    Raises:
        LookupError: there is no such number.
    """
    found = _NUMBERS.search(test)
    if found is None:
        return []
    numbers = [letter.upper() + number for letter, number in _NUMBER.findall(found[1])]
    for number in numbers:
        if number not in NOTES[note].numbers:
            raise LookupError(f"{test}: the note {note!r} has no fault {number}")
    twin = "twin" in test.partition("[")[0]
    return [Fault(note, number, twin) for number in numbers]


@dataclass
class Tally:
    """What became of the tests of each fault; several may be about one."""

    notes: Mapping[str, Note] = field(default_factory=lambda: NOTES)
    passed: dict[Fault, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def note(self, fault: Fault, *, passed: bool) -> None:
        """One of its tests ended, or was skipped, which is not passing."""
        self.passed[fault].append(passed)

    def wanted(self, *, twin: bool) -> set[Fault]:
        """What the catalogue asks for, and what was tested besides."""
        listed = {
            Fault(name, number, twin)
            for name, note in self.notes.items()
            if note.twins or not twin
            for number in note.numbers
        }
        return listed | {fault for fault in self.passed if fault.twin == twin}

    def missing(self) -> list[str]:
        """What was asked for and is not closed, or not caught."""
        wanted = self.wanted(twin=False) | self.wanted(twin=True)
        return [
            f"{fault.note} {fault.number}{' (twin)' if fault.twin else ''}"
            for fault in sorted(wanted, key=_by_number)
            if not self._holds(fault)
        ]

    def verdict(self) -> str:
        """The one line at the end of `make faults`."""
        closed, caught = (self._of(self.wanted(twin=twin)) for twin in (False, True))
        return f"faults: {closed} closed, {caught} twins caught"

    def _of(self, wanted: set[Fault]) -> str:
        return f"{sum(self._holds(fault) for fault in wanted)} of {len(wanted)}"

    def _holds(self, fault: Fault) -> bool:
        ends = self.passed.get(fault, [])
        return bool(ends) and all(ends)


def _by_number(fault: Fault) -> tuple[str, str, int, bool]:
    return fault.note, fault.number[0], int(fault.number[1:]), fault.twin
