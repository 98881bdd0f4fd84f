"""A broker's statement as CSV: one closed or open trade a line, named by account and ticket."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from onefold.core.ids import derived_id
from onefold.errors import FieldProblem, InvalidInput
from onefold_server.domains.trades.rules import AMOUNTS

_TEXT: Final = ("instrument", "currency", "user_id", "account_id")
_CHOICES: Final = ("side", "mode", "status")
_TIMES: Final = ("entry_time", "exit_time")
COLUMNS: Final = ("ticket", *_TEXT, *_CHOICES, *_TIMES, *AMOUNTS, "comment")
_NEEDED: Final = ("ticket", "instrument", "side", "entry_time", "entry_price")


@dataclass(frozen=True)
class StatementLine:
    """One line as it will be recorded; the service judges its facts."""

    number: int
    trade_id: UUID
    facts: dict[str, Any]
    problem: InvalidInput | None = None  # it cannot be read, and so is not recorded


def read_statement(file: Path, *, user: str, account: str, mode: str) -> Iterator[StatementLine]:
    """
    The lines of *file*. The same ticket of the same account is the same trade.

    Raises:
        InvalidInput: there is no such file of UTF-8 text, or it is not CSV; the header lacks a
            column that is needed, has one nobody knows, or one twice.
    """
    try:
        yield from _lines(file, user=user, account=account, mode=mode)
    except OSError as error:
        raise _wrong("statement", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _wrong("statement", "is not UTF-8 text; save it as such") from None
    except csv.Error as error:
        raise _wrong("statement", f"is not CSV: {error}") from None


def _wrong(field: str, reason: str) -> InvalidInput:
    return InvalidInput([FieldProblem(field, "statement", reason)])


def _lines(file: Path, *, user: str, account: str, mode: str) -> Iterator[StatementLine]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        header = [name.strip() for name in rows.fieldnames or []]
        rows.fieldnames = header
        missing = [name for name in _NEEDED if name not in header]
        unknown = [name for name in header if name not in COLUMNS]
        twice = sorted({name for name in header if header.count(name) > 1})
        for wrong, names in (("lacks", missing), ("unknown:", unknown), ("has twice:", twice)):
            if names:
                reason = f"{wrong} {', '.join(names)}"
                raise InvalidInput([FieldProblem("header", "columns", reason)])
        for row in rows:
            # A comma in a number that is not quoted moves every cell behind it.
            torn = None in row or None in row.values()
            cells = {k: v.strip() for k, v in row.items() if k and isinstance(v, str) and v.strip()}
            line = _line(rows.line_num, cells, user, account, mode)
            flaw = _wrong("line", f"has not {len(header)} cells, as the header has")
            yield replace(line, problem=flaw) if torn else line


def _line(number: int, cells: dict[str, str], user: str, account: str, mode: str) -> StatementLine:
    facts: dict[str, Any] = {"user_id": user, "account_id": account, "mode": mode}
    private = {k: cells.pop(k) for k in ("ticket", "comment") if k in cells}
    problem = None if "ticket" in private else _wrong("ticket", "is required")
    for name, text in cells.items():
        try:
            facts[name] = _cell(name, text)
        except ValueError:
            problem = _wrong(name, "expected an instant such as 2026-01-31T09:00:00Z")
    facts.setdefault("status", "closed" if facts.get("exit_time") else "open")
    facts["private"] = private
    whose = (facts["user_id"], facts["account_id"], private.get("ticket", ""))
    return StatementLine(number, derived_id("trace.statement", *whose), facts, problem)


def _cell(name: str, text: str) -> Any:
    if name in _TIMES:
        return datetime.fromisoformat(text)
    return text.lower() if name in _CHOICES else text
