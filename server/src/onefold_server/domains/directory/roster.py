"""What a roster file says: the pupils it names, and the lines that are no use. Pure."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final
from uuid import UUID

from onefold.errors import FieldProblem, InvalidInput
from onefold_server.domains.directory.rules import (
    ROSTER_COLUMNS,
    ROSTER_IDS,
    RosterLine,
    id_by_email,
    read_roster_line,
)

_DELIMITERS: Final = ",;\t"  # the second is what spreadsheets write where a comma is decimal


@dataclass(frozen=True, kw_only=True)
class RosterFile:
    """
    A roster file, read.

    Attributes:
        lines: The usable lines by pupil; the last one of each counts.
        line_of: Where each of them stands, from 1.
        refused: The others: line, field, code and reason.
    """

    lines: dict[UUID, RosterLine] = field(default_factory=dict)
    line_of: dict[UUID, int] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def of_known(self, school_id: UUID, emails: Mapping[str, UUID]) -> "RosterFile":
        """This roster with lines known by their address alone under whose pupil has it."""
        lines, line_of = {}, {}
        for id_, line in self.lines.items():
            by_email = line.email and id_ == id_by_email(school_id, line.email)
            meant = emails.get(line.email or "", id_) if by_email else id_
            lines[meant] = replace(line, student_id=meant)
            line_of[meant] = self.line_of[id_]
        return replace(self, lines=lines, line_of=line_of)

    def without_taken(
        self, owners: Mapping[str, UUID], *, unique: str = "external_id"
    ) -> "RosterFile":
        """
        This roster without lines whose `external_id`, or other *unique* field, is another's.

        That is: of an earlier line, or in the school as it stands, even if the file gives
        that pupil another one. Such a line is refused now and taken at the next import.

        Args:
            owners: Whose each `external_id` is in the school.
            unique: `external_id` or `email`.
        """
        taken = dict(owners)
        kept: dict[UUID, RosterLine] = {}
        refused = list(self.refused)
        for id_, line in self.lines.items():
            mark = getattr(line, unique)
            if mark and taken.setdefault(mark, id_) != id_:
                problem = FieldProblem(unique, "taken", "is another pupil's")
                refused.append({"line": self.line_of[id_], **problem._asdict()})
            else:
                kept[id_] = line
        return replace(self, lines=kept, refused=sorted(refused, key=lambda r: r["line"]))


def read_roster(school_id: UUID, text: Iterable[str]) -> RosterFile:
    """
    The roster in the CSV lines *text*; commas, semicolons or tabs, as its header has them.

    Raises:
        InvalidInput: the header is not usable, or the file is not CSV.
    """
    roster = RosterFile()
    reader = _reader(text)
    try:
        for line in reader:
            _take(roster, school_id, reader.line_num, line)
    except csv.Error as error:
        reason = f"is not CSV in line {reader.line_num}: {error}"
        raise InvalidInput([FieldProblem("body", "malformed", reason)]) from None
    return roster


def _reader(text: Iterable[str]) -> "csv.DictReader[str]":
    lines: Iterator[str] = iter(text)
    header = next(lines, "").removeprefix("\ufeff")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.DictReader(chain([header], lines), delimiter=delimiter)
    columns = [name.strip() for name in reader.fieldnames or ()]
    usable = set(ROSTER_IDS) & set(columns) and set(columns) <= set(ROSTER_COLUMNS)
    if not usable or len(set(columns)) != len(columns):
        reason = f"expected a header with columns among {', '.join(ROSTER_COLUMNS)}"
        raise InvalidInput([FieldProblem("header", "columns", reason)])
    reader.fieldnames = columns
    return reader


def _take(roster: RosterFile, school_id: UUID, number: int, line: dict[str | Any, Any]) -> None:
    problems: Iterable[FieldProblem] = ()
    if None in line:  # where DictReader puts what has no column
        problems = [FieldProblem("line", "columns", "has more cells than the header")]
    else:
        try:
            read = read_roster_line(school_id, line)
        except InvalidInput as error:
            problems = error.problems
        else:
            roster.lines[read.student_id] = read
            roster.line_of[read.student_id] = number
    roster.refused.extend({"line": number, **problem._asdict()} for problem in problems)
