"""
Cards as text that Anki imports and exports: CSV with `#` headers. Pure.

Anki's manual, "Importing / Text Files": the file may open with lines such as
`#separator:Comma`, `#html:false`, `#columns:Front,Back,Tags`, `#tags column:3`; fields follow
as CSV. Ours has the learning state as further columns, which Anki maps to fields or ignores
and which we read back.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Final

from onefold_server.domains.learning.reviews.scheduling import EASE, Scheduler
from onefold_server.domains.learning.values import wrong

COLUMNS: Final = (
    "Front", "Back", "Tags", "Language", "Due", "Interval", "Ease", "Repetitions",
)  # fmt: skip
_SEPARATORS: Final = {
    "comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " ", "colon": ":",
}  # fmt: skip


def write(cards: Iterable[Mapping[str, Any]]) -> str:
    """The cards as one file; what fsrs knows is told in sm2's words."""
    out = io.StringIO()
    out.write("#separator:Comma\n#html:false\n")
    out.write(f"#columns:{','.join(COLUMNS)}\n#tags column:3\n")
    # All quoted: a word that begins with `#` would be read as a header, U+2028 as a line's end.
    lines = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for card in cards:
        sm2 = card["scheduler"] == Scheduler.SM2
        memory = card["memory"]
        lines.writerow(
            [
                card["word"],
                card["back"],
                f"onefold {card['source_kind']}",
                card["language"],
                card["due_at"].isoformat(),
                memory["interval_days"] if sm2 else round(card["strength_days"]),
                memory["ease"] if sm2 else EASE,
                memory["repetition"] if sm2 else card["reviews"] - card["lapses"],
            ]
        )
    return out.getvalue()


def read(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """
    The cards' cells by lower-case column name, with the line each ends on.

    Without a `#columns` header the first two columns are front and back.

    Raises:
        InvalidInput: there is no front column, the separator is a quote, or quotes do not match.
    """
    lines = list(io.StringIO(text.lstrip("\ufeff"), newline=""))
    opening = list(takewhile(lambda line: line.startswith("#"), lines))
    said = (line[1:].strip().partition(":") for line in opening)
    headers = {name.lower(): value for name, _, value in said}
    separator = headers.get("separator", "tab" if "\t" in "".join(lines[:9]) else "comma")
    delimiter = _SEPARATORS.get(separator.lower(), separator[:1] or ",")
    if delimiter == '"':
        raise wrong("separator", "separator", "expected one that is no quote, such as Comma")
    named = headers.get("columns", "front,back").lower()
    columns = next(csv.reader([named], delimiter=delimiter if delimiter in named else ","))
    if "front" not in columns:
        raise wrong("columns", "columns", "expected a column named Front")
    body = csv.reader(lines[len(opening) :], delimiter=delimiter, strict=True)
    try:
        for cells in body:
            if any(cell.strip() for cell in cells):
                yield (
                    len(opening) + body.line_num,
                    dict(zip(columns, (c.strip() for c in cells), strict=False)),
                )
    except csv.Error as error:
        raise wrong(f"line {len(opening) + body.line_num}", "csv", str(error)) from None


def read_due(text: str) -> datetime | None:
    """
    The instant in a `Due` cell, UTC where it has no offset; None when the cell is empty.

    Raises:
        InvalidInput: it is no instant.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong("Due", "timestamp", "expected an RFC 3339 time") from None


def read_number(text: str, name: str, default: float, *, most: float) -> float:
    """
    The number in a cell, *default* when it is empty.

    Raises:
        InvalidInput: it is no number from 0 to *most*.
    """
    try:
        number = float(text) if text else default
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise wrong(name, "bounds", f"expected a number from 0 to {most:g}")
    return number
