"""A row becomes an event, as the mapping says. Whether it is a good one, the domain decides."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import msgspec

from onefold.core.ids import derived_id
from onefold.core.json_value import decode_json
from onefold.errors import InvalidEvent
from onefold_server.cli.ingest.rows import RowFault, SourceRow
from onefold_server.cli.ingest.sources import Layout, RowSource
from onefold_server.cli.ingest.spec import (
    Column,
    DataSpec,
    EventSpec,
    FileSpec,
    Head,
    IdSpec,
    MapSpec,
    Rename,
    TimeSpec,
    TypeSpec,
    ValueOrigin,
    wrong,
)
from onefold_server.cli.ingest.times import time_reader
from onefold_server.domains.telemetry.rules import TelemetryEvent

HEAD_ROWS: Final = 100  # among which `head` looks
FIELDS: Final = TelemetryEvent.__struct_fields__  # of an event, in their order

Cell = Callable[[SourceRow], Any]  # a JSON value; None where there is nothing; raises Fault
TextCell = Callable[[SourceRow], str | None]
_UUID: Final = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_JSON_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WORTH_KEEPING: Final = 200  # characters: a memory of 1024 texts stays small
_LONGEST_NUMBER: Final = 400  # characters: more than any double needs


@dataclass(frozen=True)
class Binding:
    """
    What a mapping is applied to.

    Attributes:
        source: Gives names.
        layout: Where its columns are.
        school_id: In which pupils' ids are derived; None where it is not known.
        head: The first rows of the source.
    """

    source: RowSource
    layout: Layout
    school_id: UUID | None
    head: Sequence[SourceRow]


def read_events(
    source: RowSource, spec: MapSpec | None, *, school_id: UUID | None
) -> Iterator[tuple[SourceRow, Any]]:
    """
    Each row of *source* with its event, or with the `RowFault` that keeps it from being one.

    Without *spec* the fields have their own names: JSONL is taken as it is, and the header
    of CSV or TSV names fields of an event, `data` holding JSON.

    Raises:
        InvalidInput: the file or the mapping is not usable; said before the first row, or
            where a row without an id needs the source to have a name.
    """
    table = source.table(spec.file if spec else FileSpec())
    head = list(islice(table.rows, HEAD_ROWS))
    bound = Binding(source, table.layout, school_id, head)
    if spec is None and table.layout.json:
        event = _as_it_is(source)
    else:
        event = _mapped(spec or _own_names(table.layout), bound)
    return _each(chain(head, table.rows), event)


def _each(
    rows: Iterator[SourceRow], event: Callable[[SourceRow], Any]
) -> Iterator[tuple[SourceRow, Any]]:
    for row in rows:
        if row.fault:
            yield row, row.fault
            continue
        try:
            yield row, event(row)
        except RowFault as fault:
            yield row, fault


def _as_it_is(source: RowSource) -> Callable[[SourceRow], Any]:
    def event(row: SourceRow) -> Any:
        if row.cells.get("event_id") is None:
            row.cells["event_id"] = row_id(source, row)
        return row.cells

    return event


def row_id(source: RowSource, row: SourceRow) -> str:
    """The id of a row that has none: the same whenever and wherever the file is loaded."""
    if source.name is None:
        reason = f"line {row.number} has no event_id: say --source NAME, from which ids are made"
        raise wrong(source.label, reason)
    return str(derived_id("row", source.name, str(row.number)))


def _own_names(layout: Layout) -> MapSpec:
    names = layout.names or ()
    foreign = [name for name in names if name not in FIELDS]
    missing = {"student_id", "session_id", "event_type", "timestamp"} - set(names)
    if foreign or missing:
        told = "has " + ", ".join(foreign) if foreign else "lacks " + ", ".join(sorted(missing))
        known = ", ".join(FIELDS)
        raise wrong(layout.source, f"its header {told}; fields are {known}: say others in --map")
    tables: dict[str, dict[str, str]] = {name: {"column": name} for name in names}
    if "data" in tables:
        tables["data"]["type"] = "json"
    return MapSpec(event=msgspec.convert(tables, EventSpec))


def _mapped(spec: MapSpec, bound: Binding) -> Callable[[SourceRow], dict[str, Any]]:
    said = spec.event
    fields: dict[str, Cell] = {
        "student_id": _id_cell("student", said.student_id, bound),
        "session_id": _id_cell("session", said.session_id, bound),
        "event_type": _type_cell(said.event_type, bound),
        "timestamp": _time_cell(said.timestamp, bound),
    }
    if said.event_id:
        fields["event_id"] = _id_cell("event", said.event_id, bound)
    for name in ("mission_id", "game_version"):
        if origin := getattr(said, name):
            fields[name] = _text_cell(origin, bound)
    data = _data_cell(spec, bound)

    def event(row: SourceRow) -> dict[str, Any]:
        made = {name: value for name, cell in fields.items() if (value := cell(row)) is not None}
        if "event_id" not in made:
            made["event_id"] = row_id(bound.source, row)
        made["data"] = data(row)
        return made

    return event


def _cell(origin: ValueOrigin, bound: Binding) -> Cell:
    """What *origin* says, as it stands in the file."""
    if origin.head is not None:
        found = _found_in_head(origin.head, bound)
        if found is not None:
            return lambda _: found
    if origin.column is not None:
        return _column(origin.column, bound.layout)
    if origin.source == "row":
        return lambda row: row.number
    constant = origin.value if origin.source is None else bound.source.stem
    if constant is None:
        raise wrong(bound.source.label, "has no name for the mapping to use: say --source NAME")
    return lambda _: constant


def _column(column: Column, layout: Layout) -> Cell:
    if layout.json:
        if isinstance(column, int):
            raise wrong(layout.source, f"is JSONL, so say the name of column {column}")
        return _path(column)
    index = layout.index(column)
    take = itemgetter(index)

    def cell(row: SourceRow) -> Any:
        try:
            return take(row.cells) or None
        except IndexError:
            reason = f"expected a column {index + 1}, found {len(row.cells)} columns"
            raise RowFault("column_count", reason) from None

    return cell


def _path(path: str) -> Cell:
    """A member of a JSON object by its name, else by the names along the way to it."""
    steps = path.split(".")

    def cell(row: SourceRow) -> Any:
        if path in row.cells:
            return row.cells[path]
        value = row.cells
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    return cell


def _found_in_head(head: Head, bound: Binding) -> str | None:
    marks = _text(_column(head.when.column, bound.layout))
    value = _text(_column(head.column, bound.layout))
    for row in bound.head:
        try:
            if not row.fault and marks(row) == head.when.equals:
                found = value(row)
                return None if found in head.ignore else found
        except RowFault:
            continue
    return None


def _text_cell(origin: ValueOrigin, bound: Binding) -> TextCell:
    return _text(_cell(origin, bound))


def _text(cell: Cell) -> TextCell:
    def text(row: SourceRow) -> str | None:
        value = cell(row)
        if isinstance(value, dict | list):
            raise RowFault("not_a_text", "a text or a number is expected, not an object or a list")
        if value is None:
            return None
        said = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return said.strip() or None

    return text


def _id_cell(kind: str, spec: IdSpec, bound: Binding) -> Cell:
    text = _text_cell(spec, bound)
    if spec.derive is False:
        return _remembering(text, partial(_uuid, kind))
    return _remembering(text, partial(_derived, *_derived_from(kind, spec.derive, bound)))


def _remembering(text: TextCell, convert: Callable[[str], str]) -> TextCell:
    """*convert* of *text*; the last 1024 are remembered, for most rows repeat one of them."""
    remembered = lru_cache(maxsize=1024)(convert)

    def cell(row: SourceRow) -> str | None:
        said = text(row)
        if said is None:
            return None
        return remembered(said) if len(said) <= _WORTH_KEEPING else convert(said)

    return cell


def _uuid(kind: str, text: str) -> str:
    if not _UUID.fullmatch(text):
        reason = f"{text[:60]!r} is no UUID; to make one of it, say derive in --map"
        raise RowFault("not_a_uuid", f"{kind}_id {reason}")
    return str(UUID(text))


def _derived_from(kind: str, derive: str | bool, bound: Binding) -> Sequence[str]:
    apart = [derive] if isinstance(derive, str) else []
    if kind != "student":
        return [kind, *apart]
    if bound.school_id is None:
        raise wrong("school", "pupils' ids are derived within a school: say --school with its id")
    return [kind, str(bound.school_id), *apart]  # as `onefold student import` derives them


def _derived(*parts: str) -> str:
    return str(derived_id(*parts))


def _type_cell(spec: TypeSpec, bound: Binding) -> Cell:
    text = _text_cell(spec, bound)
    renames = [(r.name, _rename_applies(r, bound), r.to) for r in spec.rename]
    named = {r.name for r in spec.rename}
    styled = _remembering(text, snake_case if spec.style == "snake_case" else str)

    def type_(row: SourceRow) -> str | None:
        said = text(row)
        if said in named:
            for name, applies, to in renames:
                if name == said and applies(row):
                    return to
        return styled(row)

    return type_


def _rename_applies(rename: Rename, bound: Binding) -> Callable[[SourceRow], bool]:
    if rename.column is None or rename.matches is None:
        return lambda _: True
    text, pattern = _text(_column(rename.column, bound.layout)), re.compile(rename.matches)
    return lambda row: pattern.fullmatch(text(row) or "") is not None


def snake_case(name: str) -> str:
    """`MouseMoveV`, `mouseMoveV`, `mouse-move V`: `mouse_move_v`; `SessionID`: `session_id`."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", words)
    return re.sub(r"[\W_]+", "_", words).strip("_").lower()


def _time_cell(spec: TimeSpec, bound: Binding) -> Cell:
    return _remembering(_text_cell(spec, bound), time_reader(spec))


def _data_cell(spec: MapSpec, bound: Binding) -> Callable[[SourceRow], Any]:
    whole = _typed(spec.event.data, bound) if spec.event.data else None
    members = {name: _typed(origin, bound) for name, origin in spec.data.items()}

    def data(row: SourceRow) -> Any:
        base = (whole(row) if whole else None) or {}
        if not members:
            return base
        if not isinstance(base, dict):
            raise RowFault("data", "data expected an object")
        told = {n: value for n, cell in members.items() if (value := cell(row)) is not None}
        return base | told

    return data


def _typed(spec: DataSpec, bound: Binding) -> Cell:
    cell = _cell(spec, bound)
    if spec.source == "row" or (bound.layout.json and spec.type in {None, "json", "auto"}):
        return cell
    convert = _CONVERT[spec.type or "text"]
    if convert is str:
        return _text_as_is(cell)
    text = _text(cell)
    return lambda row: None if (said := text(row)) is None else convert(said)


def _text_as_is(cell: Cell) -> Cell:
    """Spaces at either end belong to it, unlike those around an id or a number."""
    stripped = _text(cell)

    def text(row: SourceRow) -> str | None:
        value = cell(row)
        return value if isinstance(value, str) else stripped(row)

    return text


def _number(text: str) -> float | int:
    if not _NUMBER.fullmatch(text) or len(text) > _LONGEST_NUMBER:
        raise RowFault("number", f"{text[:60]!r} is no number")
    if text.lstrip("+-").isdecimal():
        return int(text)
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise RowFault("number", f"{text[:60]!r} is too large for a number")
    return value


def _auto(text: str) -> Any:
    if not _JSON_NUMBER.fullmatch(text) or len(text) > _LONGEST_NUMBER:
        return text
    try:
        return _number(text)
    except RowFault:
        return text


def _json(text: str) -> Any:
    try:
        return decode_json(text, "")
    except InvalidEvent as error:
        raise RowFault("malformed_json", str(error)) from None


_CONVERT: Final[Mapping[str, Callable[[str], Any]]] = {
    "text": str,
    "number": _number,
    "auto": _auto,
    "json": _json,
}
