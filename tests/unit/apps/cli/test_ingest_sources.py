"""Files become rows, and a bad row costs itself alone."""

import gzip
import io
from pathlib import Path
from typing import Any

import pytest

from onefold.errors import InvalidInput
from onefold_server.cli.ingest.sources import (
    MAX_LINE_BYTES,
    MAX_ROW_LINES,
    Layout,
    RowSource,
    source_name,
)
from onefold_server.cli.ingest.spec import FileSpec


def source(content: bytes, name: str | None = "log.csv") -> RowSource:
    return RowSource(name, io.BytesIO(content))


def rows_of(content: bytes, name: str | None = "log.csv", **file: Any) -> list[tuple[int, Any]]:
    """Number of each row, with its cells or the code of its fault."""
    table = source(content, name).table(FileSpec(**file))
    return [(row.number, row.fault.code if row.fault else row.cells) for row in table.rows]


def refusal(content: bytes, name: str | None = "log.csv", **file: Any) -> str:
    with pytest.raises(InvalidInput) as refused:
        rows_of(content, name, **file)
    return str(refused.value)


def test_rows_of_csv_are_numbered_by_their_line() -> None:
    """A row's number is the one an editor shows: header and blank lines count."""
    rows = rows_of(b'a,b\n1,"x, y"\n\n2,z\n')

    assert rows == [(2, ["1", "x, y"]), (4, ["2", "z"])]


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_cell() -> None:
    """A file saved by a spreadsheet reads like any other."""
    table = source(b"\xef\xbb\xbfa,b\r\n1,2\r\n").table(FileSpec())

    assert table.layout.names == ["a", "b"]
    assert [row.cells for row in table.rows] == [["1", "2"]]


def test_tsv_quotes_nothing() -> None:
    """A quotation mark in a tab-separated file is a character like any other."""
    assert rows_of(b'1\t"x\n', "log.tsv", header=False) == [(1, ["1", '"x'])]


def test_delimiter_and_quote_can_be_chosen() -> None:
    """A semicolon file with single quotes is read when the mapping says so."""
    rows = rows_of(b"a;b\n1;'x;y'\n", delimiter=";", quote="'")

    assert rows == [(2, ["1", "x;y"])]


def test_a_quoted_cell_may_hold_line_ends() -> None:
    """Such a row has the number of the line on which it begins."""
    rows = rows_of(b'a,b\n1,"x\ny ""z""\n"\n2,w\n')

    assert rows == [(2, ["1", 'x\ny "z"\n']), (5, ["2", "w"])]


@pytest.mark.parametrize(
    "tail", [b"", b'3,"y"z\n', b'3,"y\n', b'3,\xff"\n', b"3,y\n" * MAX_ROW_LINES]
)
def test_a_quote_that_is_never_closed_costs_its_own_line(tail: bytes) -> None:
    """The rows after it are read as if it was not there."""
    rows = rows_of(b'a,b\n1,"x\n2,w\n' + tail)

    assert rows[:2] == [(2, "unclosed_quote"), (3, ["2", "w"])]
    assert len(rows) == 2 + tail.count(b"\n")


def test_a_quoted_row_of_two_lines_with_too_few_columns_costs_one_line() -> None:
    """What does not fit the header is given up line by line."""
    rows = rows_of(b'a,b\n"1\n2"\n3,w\n')

    assert rows == [(2, "unclosed_quote"), (3, "column_count"), (4, ["3", "w"])]


def test_a_wrong_number_of_columns_costs_that_row() -> None:
    """The header says how many there must be."""
    rows = rows_of(b"a,b\n1\n1,2,3\n1,2\n")

    assert rows == [(2, "column_count"), (3, "column_count"), (4, ["1", "2"])]


def test_text_after_a_closing_quote_costs_that_row() -> None:
    """It is not guessed what was meant."""
    assert rows_of(b'a,b\n1,"x"y\n1,2\n') == [(2, "malformed_row"), (3, ["1", "2"])]


def test_bytes_that_are_not_utf8_cost_that_row() -> None:
    """The rejects file shows them escaped."""
    table = source(b"a\nxy\xff\nz\n").table(FileSpec())
    bad, good = list(table.rows)

    assert (bad.number, bad.raw, str(bad.fault)) == (
        2,
        "xy\\xff",
        "('not_utf8', 'byte 3 of the line is not UTF-8')",
    )
    assert good.cells == ["z"]


@pytest.mark.parametrize("end", [b"\n", b"x" * MAX_LINE_BYTES + b"\n"])
def test_a_line_that_is_too_long_costs_that_row(end: bytes) -> None:
    """A line of any length is skipped in bounded memory."""
    rows = rows_of(b"a\n" + b"x" * MAX_LINE_BYTES + end + b"z\n")

    assert rows == [(2, "line_too_long"), (3, ["z"])]


def test_json_lines_give_objects() -> None:
    """What is no object, or no JSON, costs its own line."""
    rows = rows_of(b'{"a": 1}\n[1]\n{"a"\n{"a": 2}\n\xff\n', "log.jsonl")

    expected = [{"a": 1}, "malformed_json", "malformed_json", {"a": 2}, "not_utf8"]
    assert [cells for _, cells in rows] == expected


@pytest.mark.parametrize("wrap", [gzip.compress, bytes])
@pytest.mark.parametrize(
    ("content", "name", "cells"),
    [
        (b'{"a": 1}\n', None, {"a": 1}),
        (b"a,b\n1,2\n", None, ["1", "2"]),
        (b"a\tb\n1\t2\n", "log.txt", ["1", "2"]),
        (b"a,b\tc\n1,2\t3\n", "log.tab", ["1,2", "3"]),
    ],
)
def test_the_format_is_told_by_name_or_first_line(
    wrap: Any, content: bytes, name: str | None, cells: Any
) -> None:
    """Packed or not, and whatever the name says about that."""
    assert [found for _, found in rows_of(wrap(content), name)] == [cells]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "log: is empty; leave it out"),
        (b"\n\n", "log: looks like neither"),
        (b"hello\n", "log: looks like neither JSONL nor CSV nor TSV; say file.format in --map"),
        (b"PK\x03\x04abc", "log: is a zip archive"),
        (b"BZh91", "log: is packed with bzip2"),
        (b"[{}, {}]", "log: is one JSON array; write one object a line"),
        (b"a\0b,c\n", "log: is no text"),
        (b"\xff\xc0,\x80\n\xfe\xff\n\x81\n", "log: is no text"),
        (b"\xff\xfea\0", "log: is UTF-16; save it as UTF-8"),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(content: bytes, said: str) -> None:
    """The line says what the file is, and what would be right."""
    assert refusal(content, "log").startswith(said)


@pytest.mark.parametrize("content", [b'a,"b\n', b'a,"b"c\n', b"a,b\xff\n1,2\n"])
def test_a_first_line_that_is_no_header_is_refused(content: bytes) -> None:
    """Nothing can be read below names that cannot be read."""
    assert refusal(content) == "log.csv: its first line is no header; see file.header in --map"


def test_blank_lines_alone_are_an_empty_file() -> None:
    """There is no header in them."""
    assert refusal(b"\n\n") == "log.csv: is empty; leave it out"


@pytest.mark.parametrize("cut", [slice(3), slice(12), slice(None, -12)])
def test_a_packed_file_that_broke_off_at_once_is_refused(cut: slice) -> None:
    """It is told from an empty one."""
    assert "log.csv: is a damaged gzip file" in refusal(gzip.compress(b"a\nx\n")[cut])


def test_rows_come_before_the_damage_is_told() -> None:
    """What could be unpacked is given before the error."""
    packed = gzip.compress(b"a\n" + b"".join(b"%d\n" % n for n in range(90_000)))
    rows = source(packed[:-9]).table(FileSpec()).rows

    assert next(rows).cells == ["0"]
    with pytest.raises(InvalidInput, match="the rows before the damage are loaded"):
        list(rows)


def test_columns_are_found_by_name_and_counted_from_one() -> None:
    """As `cut` counts them."""
    layout = Layout("log.csv", ["a", "b", "b"])

    assert (layout.index("a"), layout.index(1), layout.index(3)) == (0, 0, 2)
    assert Layout("log.csv", None).index(7) == 6


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("b", "log.csv: has several columns 'b'"),
        ("c", "log.csv: has no column 'c'; its header says a, b, b"),
        (4, "log.csv: has no column 4; it has 3"),
    ],
)
def test_a_column_that_is_not_there_is_named(column: str | int, said: str) -> None:
    """So that the mapping can be mended without looking into the file."""
    with pytest.raises(InvalidInput) as refused:
        Layout("log.csv", ["a", "b", "b"]).index(column)

    assert str(refused.value).startswith(said)


def test_only_the_first_names_of_a_wide_header_are_told() -> None:
    """An error stays one line."""
    with pytest.raises(InvalidInput) as refused:
        Layout("log.csv", [str(n) for n in range(50)]).index("x")

    assert str(refused.value).endswith("10, 11, …")


def test_a_name_is_that_of_the_file_wherever_it_lies() -> None:
    """Rows keep their ids when a file is moved or packed."""
    assert source_name(Path("/a/b/log.csv.gz")) == source_name(Path("log.csv")) == "log.csv"


def test_a_file_knows_its_name_and_size(tmp_path: Path) -> None:
    """Both are for people to see; the name is also what ids are made from."""
    file = tmp_path / "log.csv"
    file.write_bytes(b"a\n1\n")

    opened = RowSource.open(file)

    assert (opened.name, opened.label, opened.stem) == ("log.csv", "log.csv", "log")
    assert (opened.size, opened.read_bytes) == (4, 0)
    assert len(list(opened.table(FileSpec()).rows)) == 1
    assert opened.read_bytes == 4
    opened.close()


def test_a_source_without_a_name_is_standard_input() -> None:
    """It is called that, and gives no name to a mapping."""
    unnamed = source(b"", None)

    assert (unnamed.label, unnamed.stem) == ("standard input", None)


@pytest.mark.parametrize(
    ("name", "said"), [(".", "is a folder"), ("missing.csv", "cannot be read: No such file")]
)
def test_what_cannot_be_opened_is_refused(tmp_path: Path, name: str, said: str) -> None:
    """In one line that names it."""
    with pytest.raises(InvalidInput, match=said):
        RowSource.open(tmp_path / name)


def test_a_pipe_has_neither_name_nor_size() -> None:
    """`/dev/fd/63` would be another name at the next call."""
    opened = RowSource.open(Path("/dev/null"))

    assert (opened.name, opened.size) == (None, None)
    opened.close()


def test_a_file_whose_name_is_no_text_needs_another(tmp_path: Path) -> None:
    """Ids are made from names, so these have to be text."""
    file = tmp_path / "\udcff.csv"
    file.touch()

    with pytest.raises(InvalidInput, match=r"is a name that is not UTF-8; say --source NAME"):
        RowSource.open(file)
    RowSource.open(file, "log.csv").close()
