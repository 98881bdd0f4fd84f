"""
The mapping file: which column is what. This file is its reference; nothing is read here but it.

docs/howto/load-logs.md explains it with examples. Columns are named by the header's names,
or counted from 1 as `cut` and `awk` count them.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from onefold.errors import FieldProblem, InvalidInput

Column = str | int  # a header's name (in JSONL a path such as `user.id`), or a number from 1
Format = Literal["jsonl", "csv", "tsv"]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the mapping file: a key that is not known is a mistake, not a comment."""


class FileSpec(_Table, frozen=True, kw_only=True):
    """
    How the file is written.

    Attributes:
        format: Told by the file's name or its first line unless given.
        header: Whether the first line names the columns; JSONL has none.
        columns: How many a row has where no header tells; other rows are rejected.
        delimiter: One character; `,` in CSV and a tab in TSV.
        quote: One character, or empty for a file that quotes nothing; `"` in CSV, empty in TSV.
    """

    format: Format | None = None
    header: bool = True
    columns: Annotated[int, Meta(ge=1)] | None = None
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] | None = None
    quote: Annotated[str, Meta(max_length=1)] | None = None


class Condition(_Table, frozen=True, kw_only=True):
    """A row of which a column is exactly `equals`."""

    column: Column
    equals: str


class Head(_Table, frozen=True, kw_only=True):
    """
    A value that one of a file's first 100 rows tells for all of them.

    Attributes:
        column: Where the value stands in that row.
        when: Which row it is: the first of which this holds.
        ignore: Values that tell nothing, such as `NONE`.
    """

    column: Column
    when: Condition
    ignore: frozenset[str] = frozenset()


class ValueOrigin(_Table, frozen=True, kw_only=True):
    """
    Where a value comes from: `head` if it is found, else exactly one of the other three.

    Attributes:
        column: A cell of the row.
        value: The same for every row.
        source: `name` of the file without folder, `.gz` and last ending; `row`, its line.
        head: See `Head`.
    """

    column: Column | None = None
    value: str | None = None
    source: Literal["name", "row"] | None = None
    head: Head | None = None


class IdSpec(ValueOrigin, frozen=True, kw_only=True):
    """
    A UUID; with `derive` one made from the text, which is always the same for the same text.

    Attributes:
        derive: true, or a text that keeps ids of one game apart from those of another. A
            `student_id` derived with true is the one that `onefold student import` gives
            the pupil of that `external_id`.
    """

    derive: bool | str = False


class Rename(_Table, frozen=True, kw_only=True):
    """
    Another name for a type of event; the first that fits counts.

    Attributes:
        name: The type as the file spells it.
        to: What it becomes; no style is applied to it.
        column, matches: Only where that column, as a whole, matches the regular expression.
    """

    name: str
    to: str
    column: Column | None = None
    matches: str | None = None


class TypeSpec(ValueOrigin, frozen=True, kw_only=True):
    """The type of event, in the style `as_is` or `snake_case` (from `CamelCase`, `kebab-case`)."""

    style: Literal["as_is", "snake_case"] = "as_is"
    rename: tuple[Rename, ...] = ()


class TimeSpec(ValueOrigin, frozen=True, kw_only=True):
    """
    When it happened.

    Attributes:
        format: `rfc3339`, `epoch_s`, `epoch_ms`, or a format of Python's `strptime`.
        zone: IANA name of the zone of texts without an offset, such as `Europe/Oslo`.
        ambiguous: Of a local time that occurs twice, when clocks go back: `earlier`,
            `later` or `reject`.
        nonexistent: A local time that is skipped, when clocks go forward: `shift` it by
            what was skipped (02:30 becomes 03:30), or `reject`.
    """

    format: str = "rfc3339"
    zone: str | None = None
    ambiguous: Literal["earlier", "later", "reject"] = "earlier"
    nonexistent: Literal["shift", "reject"] = "shift"


class DataSpec(ValueOrigin, frozen=True, kw_only=True):
    """
    A member of `data`; a cell that is empty is left out.

    Attributes:
        type: `text`; `number`; `json`, the JSON that the cell holds; `auto`, a number where
            the cell is one as JSON spells it, else text. Without it, `text`, and in JSONL
            the value as it is.
    """

    type: Literal["text", "number", "json", "auto"] | None = None


class EventSpec(_Table, frozen=True, kw_only=True):
    """The fields of an event. Without `event_id` it is made from source name and line."""

    student_id: IdSpec
    session_id: IdSpec
    event_type: TypeSpec
    timestamp: TimeSpec
    event_id: IdSpec | None = None
    data: DataSpec | None = None  # a whole object, to which the table [data] adds
    mission_id: ValueOrigin | None = None
    game_version: ValueOrigin | None = None


class MapSpec(_Table, frozen=True, kw_only=True):
    """A whole mapping file."""

    event: EventSpec
    file: FileSpec = FileSpec()
    data: dict[str, DataSpec] = {}


def read_spec(path: Path) -> MapSpec:
    """
    The mapping in the file *path*.

    Raises:
        InvalidInput: in one line: what is wrong, where, and what would be right.
    """
    try:
        return parse_spec(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise wrong(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise wrong(str(path), "is not UTF-8 text") from None


def parse_spec(text: str, name: str) -> MapSpec:
    """The mapping that *text* spells; *name* is what errors call it. Raises as `read_spec`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise wrong(name, f"is not TOML: {error}") from None
    try:
        spec = msgspec.convert(_spelled_out(tables), MapSpec)
    except msgspec.ValidationError as error:
        raise wrong(name, _in_words(str(error))) from None
    _check(spec, name)
    return spec


def wrong(field: str, reason: str) -> InvalidInput:
    """The error for something the user named and must change."""
    return InvalidInput([FieldProblem(field, "unusable", reason)])


def _spelled_out(tables: Mapping[str, Any]) -> dict[str, Any]:
    """*tables* with `name = COLUMN` written as `name = { column = COLUMN }`."""
    full = dict(tables)
    for table in ("event", "data"):
        if isinstance(full.get(table), dict):
            full[table] = {
                name: {"column": given} if type(given) in {str, int} else given
                for name, given in full[table].items()
            }
    return full


def _in_words(refusal: str) -> str:
    words = refusal.replace("Object contains unknown field", "there is no key")
    words = words.replace("Object missing required field", "the key is missing:")
    words = re.sub(r"Expected `object( \| null)?`", "expected a table", words)
    return words.replace(" - at `$.", " in `").replace(" - at `$`", "")


def _check(spec: MapSpec, name: str) -> None:
    origins: dict[str, ValueOrigin | None] = {
        field: getattr(spec.event, field) for field in EventSpec.__struct_fields__
    }
    origins |= {f"data.{member}": origin for member, origin in spec.data.items()}
    for field, origin in origins.items():
        if origin is not None:
            _check_origin(origin, spec.file, f"{name}: {field}")
    _check_time(spec.event.timestamp, f"{name}: timestamp")
    for rename in spec.event.event_type.rename:
        _check_rename(rename, spec.file, f"{name}: event_type.rename")


def _check_origin(origin: ValueOrigin, file: FileSpec, where: str) -> None:
    given = [origin.column, origin.value, origin.source]
    if sum(one is not None for one in given) != 1:
        raise wrong(where, "say one of column, value and source")
    head = origin.head
    columns = [origin.column, *([head.column, head.when.column] if head else [])]
    for column in columns:
        check_column(column, file, where)


def check_column(column: Column | None, file: FileSpec, where: str) -> None:
    """Raise unless *column* can be found in such a *file*."""
    if isinstance(column, str) and not file.header and file.format != "jsonl":
        raise wrong(where, f"the file has no header, so say the number of column {column!r}")
    if isinstance(column, int) and (column < 1 or file.format == "jsonl"):
        reason = "JSONL has names, no numbers" if column >= 1 else "columns are counted from 1"
        raise wrong(where, f"column {column}: {reason}")
    if isinstance(column, int) and column > (file.columns or column):
        raise wrong(where, f"column {column}: file.columns says {file.columns}")


def _check_rename(rename: Rename, file: FileSpec, where: str) -> None:
    if (rename.column is None) != (rename.matches is None):
        raise wrong(where, "say both column and matches, or neither")
    check_column(rename.column, file, where)
    try:
        re.compile(rename.matches or "")
    except re.error as error:
        raise wrong(where, f"{rename.matches!r} is no regular expression: {error}") from None


_WITHOUT_PERCENT: Final = frozenset({"rfc3339", "epoch_s", "epoch_ms"})


def _check_time(spec: TimeSpec, where: str) -> None:
    if spec.zone is not None:
        _check_zone(spec.zone, where)
    if spec.format in _WITHOUT_PERCENT:
        return
    if not re.search("%[YyGcx]", spec.format):
        known = ", ".join(sorted(_WITHOUT_PERCENT))
        raise wrong(where, f"format {spec.format!r} has no year; say {known} or a strptime format")
    try:
        datetime.strptime("", spec.format)  # noqa: DTZ007 (only the format is tried)
    except ValueError as error:
        if "does not match" not in str(error):
            raise wrong(where, f"format: {error}") from None
    if spec.zone is None and "%z" not in spec.format:
        raise wrong(where, "the format has no offset (%z): say the zone, such as Europe/Oslo")


def _check_zone(zone: str, where: str) -> None:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        reason = "is not known here; use an IANA name such as Europe/Oslo or UTC"
        raise wrong(where, f"zone {zone!r} {reason}") from None
