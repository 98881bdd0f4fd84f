"""What a file is made of before any of it is an event."""

from dataclasses import dataclass
from typing import Any


class RowFault(Exception):
    """Why a row is no event: a stable code, and a reason for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class SourceRow:
    """
    One row of a file.

    Attributes:
        number: The line on which it begins, from 1; header and blank lines count, so that
            it is the number an editor shows.
        raw: The row as it stands in the file, without its line end.
        cells: Its cells as texts, or in JSONL the object; empty when there is a fault.
        fault: Why it cannot be read, or None.
    """

    number: int
    raw: str
    cells: Any
    fault: RowFault | None = None
