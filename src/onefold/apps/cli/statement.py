"""A broker's statement as CSV: one closed or open trade a line, named by account and ticket."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from onefold.core.ids import derived_id
from onefold.domains.trace.rules import AMOUNTS
from onefold.errors import FieldProblem, InvalidInput

_TEXT: Final = ("instrument", "currency", "user_id", "account_id")
_CHOICES: Final = ("side", "mode", "status")
_TIMES: Final = ("entry_time", "exit_time")
COLUMNS: Final = ("ticket", *_TEXT, *_CHOICES, *_TIMES, *AMOUNTS, "comment")
_NEEDED: Final = ("ticket", "instrument", "side", "entry_time", "entry_price")


@dataclass(frozen=True)
class Line:
    """One line as it will be recorded; the service judges its facts."""

    number: int
    trade_id: UUID
    facts: dict[str, Any]


def read_statement(file: Path, *, user: str, account: str, mode: str) -> Iterator[Line]:
    """
    The lines of *file*. The same ticket of the same account is the same trade.

    Raises:
        InvalidInput: the header lacks a column that is needed, or has one nobody knows.
    """
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        header = [name.strip() for name in rows.fieldnames or []]
        rows.fieldnames = header
        missing = [name for name in _NEEDED if name not in header]
        unknown = [name for name in header if name not in COLUMNS]
        if missing or unknown:
            reason = f"lacks {', '.join(missing)}" if missing else f"unknown: {', '.join(unknown)}"
            raise InvalidInput([FieldProblem("header", "columns", reason)])
        for row in rows:
            cells = {k: v.strip() for k, v in row.items() if k and isinstance(v, str) and v.strip()}
            yield _line(rows.line_num, cells, user, account, mode)


def _line(number: int, cells: dict[str, str], user: str, account: str, mode: str) -> Line:
    facts: dict[str, Any] = {"user_id": user, "account_id": account, "mode": mode}
    private = {k: cells.pop(k) for k in ("ticket", "comment") if k in cells}
    facts |= {name: _cell(name, text) for name, text in cells.items()}
    facts.setdefault("status", "closed" if facts.get("exit_time") else "open")
    facts["private"] = private
    ticket = private.get("ticket", f"line {number}")
    return Line(number, derived_id("trace.statement", facts["account_id"], ticket), facts)


def _cell(name: str, text: str) -> Any:
    if name in _TIMES:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return None  # missing, for the service to name
    return text.lower() if name in _CHOICES else text
