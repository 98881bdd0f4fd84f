"""Rows become events, as the mapping says."""

import io
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefold.core.ids import derived_id
from onefold.errors import InvalidInput
from onefold_server.cli.ingest.mapping import HEAD_ROWS, read_events, snake_case
from onefold_server.cli.ingest.rows import RowFault
from onefold_server.cli.ingest.sources import RowSource
from onefold_server.cli.ingest.spec import parse_spec

SCHOOL = UUID(int=9)
A, B = str(UUID(int=10)), str(UUID(int=11))
ROW = f"{A}\t{B}\tMouseMoveV\t2026-01-31T12:00:00Z"
MAP = """
[file]
format = "tsv"
header = false
[event]
student_id = {student}
session_id = {session}
event_type = {type}
timestamp = 4
{event}
[data]
{data}
"""


def mapping(**parts: str) -> str:
    return MAP.format(
        **({"student": "1", "session": "2", "type": "3", "event": "", "data": ""} | parts)
    )


def events(
    content: str,
    spec: str | None,
    *,
    name: str | None = "log.tsv",
    school_id: UUID | None = SCHOOL,
) -> list[Any]:
    """Each row's event, or the code of what is wrong with it."""
    source = RowSource(name, io.BytesIO(content.encode()))
    read = read_events(source, parse_spec(spec, "map.toml") if spec else None, school_id=school_id)
    return [out.code if isinstance(out, RowFault) else out for _, out in read]


def event(content: str, spec: str | None, **how: Any) -> Any:
    (only,) = events(content, spec, **how)
    return only


def refusal(content: str, spec: str | None, **how: Any) -> str:
    with pytest.raises(InvalidInput) as refused:
        events(content, spec, **how)
    return str(refused.value)


def test_columns_become_fields() -> None:
    """A row without an id gets one from the file's name and its line."""
    assert event(ROW, mapping()) == {
        "event_id": str(derived_id("row", "log.tsv", "1")),
        "student_id": A,
        "session_id": B,
        "event_type": "MouseMoveV",
        "timestamp": "2026-01-31T12:00:00+00:00",
        "data": {},
    }


def test_identical_lines_are_different_events() -> None:
    """Their lines differ; and they are the same two when the file is read again."""
    first = events(f"{ROW}\n{ROW}\n", mapping())
    again = events(f"{ROW}\n{ROW}\n", mapping())

    assert first[0]["event_id"] != first[1]["event_id"]
    assert first == again


def test_an_id_of_its_own_wins() -> None:
    """Only where the cell is empty, the line gives one."""
    spec = mapping(event="event_id = 5")

    own, none = events(f"{ROW}\t{{{A}}}\n".replace("{", "").replace("}", "") + ROW + "\t\n", spec)

    assert own["event_id"] == A
    assert none["event_id"] == str(derived_id("row", "log.tsv", "2"))


def test_rows_without_id_need_a_source_with_a_name() -> None:
    """Else the same rows would have other ids at the next call."""
    assert refusal(ROW, mapping(), name=None) == (
        "standard input: line 1 has no event_id: say --source NAME, from which ids are made"
    )


def test_an_id_may_be_32_digits() -> None:
    """It is told as a UUID is told."""
    short = UUID(A).hex.upper()

    assert event(ROW.replace(A, short), mapping())["student_id"] == A


def test_an_id_that_is_no_uuid_is_a_fault_unless_derived() -> None:
    """It is not guessed that a text was meant to be an id."""
    assert event(ROW.replace(A, "5-2"), mapping()) == "not_a_uuid"


def test_derived_ids_depend_on_text_kind_and_namespace() -> None:
    """A pupil's is the one that the roster's import derives, in that school."""
    row = ROW.replace(A, "5-2").replace(B, "5-2")
    spec = mapping(
        student="{ column = 1, derive = true }", session="{ column = 2, derive = 'game' }"
    )

    derived = event(row, spec)

    assert derived["student_id"] == str(derived_id("student", str(SCHOOL), "5-2"))
    assert derived["session_id"] == str(derived_id("session", "game", "5-2"))


def test_deriving_a_pupil_needs_the_school() -> None:
    """A server's school is not known until it is said."""
    spec = mapping(student="{ column = 1, derive = true }")

    assert refusal(ROW, spec, school_id=None).startswith("school: pupils' ids are derived within")


def test_a_lone_surrogate_is_no_id() -> None:
    """JSON can spell it; no database can store it."""
    spec = mapping(student="{ column = 'who', derive = true }", session="'session'", type="'type'")
    spec = spec.replace('"tsv"', '"jsonl"').replace("= 4", "= 'time'")
    line = f'{{"who": "\\ud800", "session": "{B}", "type": "a", "time": "2026-01-31T12:00:00Z"}}'

    assert event(line, spec, name="log.jsonl") == "malformed_json"


def test_constants_source_name_and_line_are_values_too() -> None:
    """What is not in a row can be said for all of them."""
    spec = mapping(
        session="{ source = 'name' }",
        event="mission_id = { value = 'harbour' }\ngame_version = { source = 'name' }",
        data="line = { source = 'row' }",
    )

    made = event(ROW, spec, name=f"{B}.tsv")

    assert (made["session_id"], made["mission_id"], made["game_version"]) == (B, "harbour", B)
    assert made["data"] == {"line": 1}


def test_a_source_name_that_nobody_said_is_asked_for() -> None:
    """Standard input has none."""
    said = refusal(ROW, mapping(session="{ source = 'name' }"), name=None)

    assert said == "standard input: has no name for the mapping to use: say --source NAME"


HEAD = "{ value = '%s', head = { column = 3, when = { column = 1, equals = 'who' }%s } }"


@pytest.mark.parametrize(
    ("head", "student"),
    [
        (f"x\nwho\t.\t{A}\n", A),  # a row too short for the condition is passed over
        (f"\nwho\t.\nwho\t.\t{A}\n", A),
        ("who\t.\tNONE\n", B),
        ("", B),
        ("x\n" * HEAD_ROWS + f"who\t.\t{A}\n", B),
    ],
)
def test_one_of_the_first_rows_may_tell_for_all(head: str, student: str) -> None:
    """Unless it tells nothing; later rows are not looked at."""
    spec = mapping(student=HEAD % (B, ", ignore = ['NONE']"))

    made = [one for one in events(head + ROW, spec) if isinstance(one, dict)]

    assert made[-1]["student_id"] == student


def test_a_broken_row_tells_nothing_for_all() -> None:
    """A row that cannot be read is passed over in the search."""
    spec = mapping(student=HEAD % (B, "")).replace("header = false", "header = false\ncolumns = 4")

    assert events(f"who\n{ROW}\n", spec)[1]["student_id"] == B


def test_types_of_events_take_the_style() -> None:
    """The domain wants snake case, games write as they like."""
    spec = mapping(type="{ column = 3, style = 'snake_case' }")

    assert event(ROW, spec)["event_type"] == "mouse_move_v"


@pytest.mark.parametrize(
    ("name", "styled"),
    [
        ("MouseMoveV", "mouse_move_v"),
        ("endHover", "end_hover"),
        ("SessionID", "session_id"),
        ("UploadDataWWW", "upload_data_www"),
        ("HTTPRequest2Sent", "http_request2_sent"),
        ("mission-start now", "mission_start_now"),
        ("_tooltip_", "tooltip"),
        ("---", ""),
    ],
)
def test_snake_case_splits_words_where_people_do(name: str, styled: str) -> None:
    """Acronyms stay together."""
    assert snake_case(name) == styled


@given(st.text(max_size=30))
def test_snake_case_of_snake_case_is_the_same(name: str) -> None:
    """A type that is in the style already is left as it is."""
    once = snake_case(name)

    assert snake_case(once) == once


def test_types_are_renamed_by_name_and_by_what_another_column_says() -> None:
    """The first rule that fits counts; where none does, the style applies."""
    rules = (
        "{ name = 'PopUp', to = 'task_complete', column = 5, matches = 'Success.*' },"
        "{ name = 'PopUp', to = 'failure', column = 5, matches = '.*again!' },"
        "{ name = 'Open', to = 'pause' }"
    )
    spec = mapping(type=f"{{ column = 3, style = 'snake_case', rename = [{rules}] }}")
    told = [("PopUp", "Success!"), ("PopUp", "Try again!"), ("PopUp", ""), ("Open", "x")]
    rows = "\n".join(f"{ROW.replace('MouseMoveV', name)}\t{text}" for name, text in told)

    types = [one["event_type"] for one in events(rows, spec)]

    assert types == ["task_complete", "failure", "pop_up", "pause"]


def test_a_missing_cell_is_a_missing_field() -> None:
    """Which the domain then refuses by its name."""
    assert "event_type" not in event(ROW.replace("MouseMoveV", ""), mapping())
    assert "timestamp" not in event(ROW.replace("2026-01-31T12:00:00Z", ""), mapping())


def test_a_row_that_is_too_short_is_a_fault() -> None:
    """Where no header says how many columns there are."""
    assert events(f"{ROW}\nx\ty\n", mapping(data="v = 4"))[1] == "not_a_uuid"
    assert event(f"{A}\t{B}\n", mapping()) == "column_count"


@pytest.mark.parametrize(
    ("type_", "cell", "value"),
    [
        ("text", "736.5", "736.5"),
        ("text", " x ", " x "),
        ("number", "736.5", 736.5),
        ("number", " 007 ", 7),
        ("number", "+1.", 1.0),
        ("number", "1e3", 1000.0),
        ("auto", "736.5", 736.5),
        ("auto", "-12", -12),
        ("auto", "007", "007"),
        ("auto", "5-2", "5-2"),
        ("auto", "1e999", "1e999"),
        ("auto", "9" * 401, "9" * 401),
        ("json", '{"a": [1, null]}', {"a": [1, None]}),
    ],
)
def test_cells_of_data_have_types(type_: str, cell: str, value: Any) -> None:
    """Text as it is, numbers by value, JSON decoded."""
    spec = mapping(data=f"v = {{ column = 5, type = '{type_}' }}")

    assert event(f"{ROW}\t{cell}", spec)["data"] == {"v": value}


@pytest.mark.parametrize("type_", ["text", "number", "auto", "json"])
def test_an_empty_cell_of_data_is_left_out(type_: str) -> None:
    """Nothing was said, so nothing is stored."""
    spec = mapping(data=f"v = {{ column = 5, type = '{type_}' }}")

    assert event(f"{ROW}\t", spec)["data"] == {}


@pytest.mark.parametrize(
    ("type_", "cell", "code"),
    [
        ("number", "fast", "number"),
        ("number", "nan", "number"),
        ("number", "1_000", "number"),
        ("number", "٣", "number"),
        ("number", "1e999", "number"),
        ("number", "9" * 401, "number"),
        ("json", "{", "malformed_json"),
    ],
)
def test_a_cell_that_is_not_of_its_type_is_a_fault(type_: str, cell: str, code: str) -> None:
    """Of its row alone."""
    spec = mapping(data=f"v = {{ column = 5, type = '{type_}' }}")

    assert event(f"{ROW}\t{cell}", spec) == code


def test_a_whole_object_can_be_the_data_and_get_members() -> None:
    """The members of the table [data] win."""
    spec = mapping(event="data = { column = 5, type = 'json' }", data="v = 3")

    assert event(f'{ROW}\t{{"v": 1, "w": 2}}', spec)["data"] == {"v": "MouseMoveV", "w": 2}
    assert event(f"{ROW}\t[1]", spec) == "data"


JSON_MAP = f"""
[event]
student_id = {{ value = "{A}" }}
session_id = "game.session"
event_type = {{ column = "kind" }}
timestamp = {{ column = "at", format = "epoch_ms" }}
[data]
raw = "payload"
text = {{ column = "payload.n", type = "text" }}
number = {{ column = "payload.n", type = "number" }}
dotted = "a.b"
"""


def test_members_of_json_are_found_by_their_path() -> None:
    """A name with dots in it wins over the path."""
    line = (
        f'{{"game": {{"session": "{B}"}}, "kind": "a", "at": 0, "payload": {{"n": 2.5}}, "a.b": 1}}'
    )

    made = event(line, JSON_MAP, name="log.jsonl")

    assert (made["session_id"], made["timestamp"]) == (B, "1970-01-01T00:00:00+00:00")
    assert made["data"] == {"raw": {"n": 2.5}, "text": "2.5", "number": 2.5, "dotted": 1}


def test_an_object_is_no_text() -> None:
    """Where an id, a type or a time is expected."""
    line = f'{{"game": {{"session": "{B}"}}, "kind": {{}}, "at": 0}}'

    assert event(line, JSON_MAP, name="log.jsonl") == "not_a_text"


def test_a_path_through_something_else_finds_nothing() -> None:
    """As if the member was not there."""
    line = '{"game": 7, "kind": "a", "at": 0}'

    assert "session_id" not in event(line, JSON_MAP, name="log.jsonl")


def test_json_has_no_numbered_columns() -> None:
    """The mapping is refused when the file turns out to be JSONL."""
    spec = mapping().replace('format = "tsv"', "").replace("header = false", "")

    assert refusal('{"a": 1}', spec, name="log").startswith("log: is JSONL, so say the name of col")


def test_json_lines_need_no_mapping() -> None:
    """They are taken as they are; an id is added where there is none."""
    own, none, null = events(
        f'{{"event_id": "{A}", "x": 1}}\n{{"x": 2}}\n{{"event_id": null}}', None, name="log.jsonl"
    )

    assert own == {"event_id": A, "x": 1}
    assert none == {"event_id": str(derived_id("row", "log.jsonl", "2")), "x": 2}
    assert null == {"event_id": str(derived_id("row", "log.jsonl", "3"))}


def test_csv_with_the_names_of_the_fields_needs_no_mapping() -> None:
    """Its column `data` holds JSON; empty cells are fields that are not there."""
    content = (
        "event_id,student_id,session_id,event_type,timestamp,data,mission_id\n"
        f'{A},{A},{B},a,2026-01-31T12:00:00Z,"{{""x"": 1}}",\n'
    )

    made = event(content, None, name="log.csv")
    bare = event(content.replace(",data", "").replace(',"{""x"": 1}"', ""), None, name="log.csv")

    assert (made["event_id"], made["data"], "mission_id" in made) == (A, {"x": 1}, False)
    assert bare["data"] == {}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("student_id,session_id,event_type,timestamp,colour", "log.csv: its header has colour; f"),
        ("student_id,session_id", "log.csv: its header lacks event_type, timestamp; fields are"),
    ],
)
def test_a_header_of_other_names_asks_for_a_mapping(header: str, said: str) -> None:
    """Nothing is guessed from names that are alike."""
    assert refusal(header + "\n1,2\n", None, name="log.csv").startswith(said)
