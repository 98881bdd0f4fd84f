"""A mapping file that is wrong is refused in one line."""

from pathlib import Path

import pytest

from onefold.errors import InvalidInput
from onefold_server.cli.ingest.spec import MapSpec, parse_spec, read_spec

EVENT = """
[event]
student_id = "student"
session_id = { column = "session" }
event_type = "type"
timestamp = "time"
"""


def refusal(text: str) -> str:
    with pytest.raises(InvalidInput) as refused:
        parse_spec(text, "map.toml")
    return str(refused.value)


def test_a_column_alone_is_short_for_a_table() -> None:
    """`x = "a"` says the same as `x = { column = "a" }`."""
    spec = parse_spec(EVENT + "[data]\nx = 3\n", "map.toml")

    assert spec.event.student_id.column == "student"
    assert spec.event.session_id.column == "session"
    assert spec.data["x"].column == 3


def test_the_file_is_a_csv_with_header_unless_told() -> None:
    """What most files are need not be said."""
    spec = parse_spec(EVENT, "map.toml")

    assert (spec.file.header, spec.file.format, spec.event.timestamp.format) == (
        True,
        None,
        "rfc3339",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[event", "map.toml: is not TOML"),
        ("x = 1\n" + EVENT, "map.toml: there is no key `x`"),
        (EVENT + "studnet = 1", "map.toml: there is no key `studnet` in `event`"),
        ("[event]\nstudent_id = 1", "map.toml: the key is missing: `session_id` in `event`"),
        (EVENT + "mission_id = true", "map.toml: expected a table, got `bool` in `event.mission"),
        (EVENT + "mission_id = {}", "map.toml: mission_id: say one of column, value and source"),
        (EVENT + "[data]\nx = { column = 1, value = 'a' }", "map.toml: data.x: say one of"),
        (EVENT + "mission_id = 0", "map.toml: mission_id: column 0: columns are counted from 1"),
        (EVENT + "mission_id = 1\n[file]\nformat = 'jsonl'", "map.toml: mission_id: column 1: JSO"),
        (EVENT + "[file]\nheader = false", "map.toml: student_id: the file has no header, so say"),
        (EVENT + "mission_id = 3\n[file]\ncolumns = 2", "map.toml: mission_id: column 3: file.col"),
        (
            EVENT + "mission_id = {value='x', head={column=0, when={column=1, equals='a'}}}",
            "map.toml: mission_id: column 0",
        ),
        (EVENT + "[file]\ndelimiter = ';;'", "map.toml: Expected `str` of length <= 1 in `file.d"),
        ("event = 1", "map.toml: expected a table, got `int` in `event`"),
    ],
)
def test_a_wrong_key_or_value_is_named(text: str, said: str) -> None:
    """With the place where it stands."""
    assert refusal(text).startswith(said)


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("zone = 'Mars/Olympus'", "zone 'Mars/Olympus' is not known here; use an IANA name"),
        ("zone = '../etc'", "zone '../etc' is not known here"),
        ("format = 'iso'", "format 'iso' has no year; say epoch_ms, epoch_s, rfc3339 or a strptim"),
        ("format = '%Y-%Q', zone = 'UTC'", "format: 'Q' is a bad directive in format '%Y-%Q'"),
        ("format = '%Y %m'", "the format has no offset (%z): say the zone, such as Europe/Oslo"),
    ],
)
def test_a_time_that_cannot_be_understood_is_refused_before_any_row(time: str, said: str) -> None:
    """A wrong zone or format is no fault of the rows."""
    text = EVENT.replace('"time"', f"{{ column = 'time', {time} }}")

    assert refusal(text).startswith(f"map.toml: timestamp: {said}")


@pytest.mark.parametrize(
    "time", ["format = 'epoch_ms'", "format = '%Y %z'", "format = '%c', zone = 'Europe/Oslo'"]
)
def test_a_time_that_can_be_understood_is_taken(time: str) -> None:
    """With an offset in the text no zone is needed."""
    text = EVENT.replace('"time"', f"{{ column = 'time', {time} }}")

    assert isinstance(parse_spec(text, "map.toml"), MapSpec)


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        ("column = 1", "say both column and matches, or neither"),
        ("column = 1, matches = '('", "'(' is no regular expression"),
        ("column = 0, matches = 'a'", "column 0: columns are counted from 1"),
    ],
)
def test_a_rename_that_cannot_be_followed_is_refused(rename: str, said: str) -> None:
    """Before any row is read."""
    table = f"{{ column = 'type', rename = [{{ name = 'A', to = 'b', {rename} }}] }}"

    assert refusal(EVENT.replace('"type"', table)).startswith(
        f"map.toml: event_type.rename: {said}"
    )


def test_a_mapping_is_read_from_its_file(tmp_path: Path) -> None:
    """By the path that was given."""
    file = tmp_path / "map.toml"
    file.write_text(EVENT)

    assert read_spec(file) == parse_spec(EVENT, "map.toml")


def test_a_mapping_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Whether it is missing or no text."""
    garbage = tmp_path / "garbage.toml"
    garbage.write_bytes(b"\xff")

    with pytest.raises(InvalidInput, match=r"missing\.toml: cannot be read: No such file"):
        read_spec(tmp_path / "missing.toml")
    with pytest.raises(InvalidInput, match=r"garbage\.toml: is not UTF-8 text"):
        read_spec(garbage)


def test_the_mapping_of_the_examples_is_one() -> None:
    """It is what the documentation points to."""
    example = Path(__file__).parents[4] / "examples" / "parallel-logs.toml"

    assert read_spec(example).file.columns == 6
