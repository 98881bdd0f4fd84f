"""
A file becomes rows: unpacked, decoded, split into cells; one bad row costs itself alone.

Nothing grows with the file: a line is at most 1 MiB, a quoted row at most 100 lines.
"""

import csv
import gzip
import io
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

from onefold.core.json_value import decode_object
from onefold.errors import InvalidEvent, InvalidInput
from onefold_server.cli.ingest.rows import RowFault, SourceRow
from onefold_server.cli.ingest.spec import Column, FileSpec, Format, wrong

MAX_LINE_BYTES: Final = 1 << 20
MAX_ROW_LINES: Final = 100  # of a row whose quoted cells hold line ends
SHOWN: Final = 2000  # characters of a row that was too long to keep

_ENDINGS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
# What a file begins with when it is something else: https://en.wikipedia.org/wiki/List_of_file_signatures
_ELSEWISE: Final = (
    (b"PK\x03\x04", "is a zip archive or a spreadsheet; unpack it, or save the sheet as CSV"),
    (b"BZh", "is packed with bzip2; unpack it, or pack it with gzip"),
    (b"\xfd7zXZ", "is packed with xz; unpack it, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd; unpack it, or pack it with gzip"),
    (b"\xff\xfe", "is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16; save it as UTF-8"),
    (b"[", "is one JSON array; write one object a line: jq -c '.[]' FILE"),
)
_GZIP: Final = b"\x1f\x8b"
_SAMPLE: Final = 4096  # bytes by which a file is known


class TextLine(NamedTuple):
    """A line of text with its number, or what is wrong with it."""

    number: int
    text: str
    fault: RowFault | None = None


@dataclass(frozen=True)
class Layout:
    """Where columns are: the header's names, or in JSONL paths; None without a header."""

    source: str
    names: Sequence[str] | None
    json: bool = False

    def index(self, column: Column) -> int:
        """
        The place of *column* in a row's cells, from 0.

        Raises:
            InvalidInput: there is no such column, or more than one of the name.
        """
        names = self.names
        if isinstance(column, int):
            if names is not None and column > len(names):
                raise wrong(self.source, f"has no column {column}; it has {len(names)}")
            return column - 1
        if names is None or names.count(column) != 1:
            has = "several columns" if names and column in names else "no column"
            raise wrong(self.source, f"has {has} {column!r}; its header says {_few(names or ())}")
        return names.index(column)


@dataclass(frozen=True)
class Table:
    """What was found in a file: its layout, and its rows to be read once, in their order."""

    layout: Layout
    rows: Iterator[SourceRow]


class RowSource:
    """
    A named stream of rows.

    Args:
        name: From which ids of rows without one are made; None when nobody named it.
        stream: Read as it comes and never sought; closed with the source.
        size: Of the file in bytes, as far as it is known.

    Raises:
        InvalidInput: *name* is not text, as the name of a file need not be.
    """

    def __init__(self, name: str | None, stream: BinaryIO, *, size: int | None = None) -> None:
        if name is not None and not _is_text(os.fsencode(name)):
            raise wrong(ascii(name), "is a name that is not UTF-8; say --source NAME")
        self.name, self.size = name, size
        self._stream = stream

    @classmethod
    def open(cls, path: Path, name: str | None = None) -> "RowSource":
        """
        The file *path*.

        Raises:
            InvalidInput: it is not there, is a folder or cannot be read; its name is no text.
        """
        if path.is_dir():
            raise wrong(str(path), "is a folder; name the files in it")
        try:
            stream = path.open("rb")
        except OSError as error:
            raise wrong(str(path), f"cannot be read: {error.strerror}") from None
        try:
            if not path.is_file():  # a pipe: its name says nothing, and it cannot be measured
                return cls(name, stream)
            return cls(name or source_name(path), stream, size=path.stat().st_size)
        except InvalidInput:
            stream.close()
            raise

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name or "standard input"

    @property
    def stem(self) -> str | None:
        """The name without its last ending."""
        return self.name and Path(self.name).stem

    @property
    def read_bytes(self) -> int:
        """How much of `size` was read."""
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()

    def table(self, file: FileSpec) -> Table:
        """
        Begin to read.

        Raises:
            InvalidInput: it is empty, no text, or its header is not usable.
        """
        plain = _unpacked(self._stream)
        with _told_of_damage(self.label):
            sample = plain.peek(_SAMPLE)[:_SAMPLE]
        _check_sample(sample, self.label)
        format_ = file.format or self._format(sample)
        lines = _from_archive(_lines(plain), self.label)
        if format_ == "jsonl":
            return Table(Layout(self.label, None, json=True), _json_rows(lines))
        dialect = _Dialect.of(file, format_)
        if not file.header:
            return Table(Layout(self.label, None), _cell_rows(lines, dialect, file.columns))
        names = _header(lines, dialect, self.label)
        return Table(Layout(self.label, names), _cell_rows(lines, dialect, len(names)))

    def _format(self, sample: bytes) -> Format:
        by_name = _ENDINGS.get(Path(self.name or "").suffix.lower())
        if by_name:
            return by_name
        first = sample.lstrip(b"\xef\xbb\xbf \r\n").split(b"\n", 1)[0]
        if first.startswith(b"{"):
            return "jsonl"
        if b"\t" in first:
            return "tsv"
        if b"," in first:
            return "csv"
        raise wrong(
            self.label, "looks like neither JSONL nor CSV nor TSV; say file.format in --map"
        )


def source_name(path: Path) -> str:
    """The name by which a file's rows are known, wherever it lies and whether packed or not."""
    return path.name.removesuffix(".gz")


def _unpacked(stream: BinaryIO) -> io.BufferedReader:
    # `open("rb")` and stdin's buffer are BufferedReaders; others are wrapped for their peek.
    buffered = (
        stream
        if isinstance(stream, io.BufferedReader)
        else io.BufferedReader(cast(io.RawIOBase, stream))
    )
    if buffered.peek(2)[:2] == _GZIP:
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=buffered)), 1 << 16)
    return buffered


def _check_sample(sample: bytes, label: str) -> None:
    if not sample:
        raise wrong(label, "is empty; leave it out")
    for magic, reason in _ELSEWISE:
        if sample.startswith(magic):
            raise wrong(label, reason)
    lines = sample.splitlines()
    if len(sample) == _SAMPLE:
        lines[-1] = lines[-1][:-3]  # the last character may be cut through
    readable = sum(_is_text(line) for line in lines)
    if b"\0" in sample or 2 * readable < len(lines):
        raise wrong(label, "is no text; JSONL, CSV or TSV in UTF-8 is expected, plain or gzip")


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _from_archive(lines: Iterator[TextLine], label: str) -> Iterator[TextLine]:
    with _told_of_damage(label):
        yield from lines


@contextmanager
def _told_of_damage(label: str) -> Iterator[None]:
    """A damaged archive is our error; what came before the damage stands."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = f"is a damaged gzip file ({error}); the rows before the damage are loaded"
        raise wrong(label, reason) from None


def _lines(stream: io.BufferedReader) -> Iterator[TextLine]:
    """The lines that are not blank; those that are too long or not UTF-8 with their fault."""
    number, encoding = 0, "utf-8-sig"
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(MAX_LINE_BYTES)
            fault = RowFault("line_too_long", f"the line is over {MAX_LINE_BYTES} bytes")
            yield TextLine(number, "", fault)
        elif raw.strip():
            yield _decoded(number, raw.rstrip(b"\r\n"), encoding)
        encoding = "utf-8"  # only the first line may begin with a byte order mark


def _decoded(number: int, raw: bytes, encoding: str) -> TextLine:
    try:
        return TextLine(number, raw.decode(encoding))
    except UnicodeDecodeError as error:
        fault = RowFault("not_utf8", f"byte {error.start + 1} of the line is not UTF-8")
        return TextLine(number, raw.decode(errors="backslashreplace"), fault)


def _json_rows(lines: Iterator[TextLine]) -> Iterator[SourceRow]:
    for line in lines:
        if line.fault:
            yield _unread(line, line.fault)
            continue
        try:
            yield SourceRow(line.number, line.text, decode_object(line.text, ""))
        except InvalidEvent as error:
            yield _unread(line, RowFault("malformed_json", str(error)))


def _unread(line: TextLine, fault: RowFault) -> SourceRow:
    return SourceRow(line.number, line.text[:SHOWN], (), fault)


class _Dialect(NamedTuple):
    delimiter: str
    quote: str

    @classmethod
    def of(cls, file: FileSpec, format_: Format) -> "_Dialect":
        usual = cls("\t", "") if format_ == "tsv" else cls(",", '"')
        quote = usual.quote if file.quote is None else file.quote
        return cls(file.delimiter or usual.delimiter, quote)

    def cells(self, text: str) -> list[str]:
        """
        The cells of one row.

        Raises:
            _Unclosed: a quote is still open at the end: the row may go on in the next line.
            Fault: it is not such a row.
        """
        if self.quote not in text or not self.quote:
            return text.split(self.delimiter)
        reader = csv.reader([text], delimiter=self.delimiter, quotechar=self.quote, strict=True)
        try:
            return next(reader)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise _Unclosed from None
            raise RowFault("malformed_row", str(error)) from None


class _Unclosed(Exception):
    pass


def _header(lines: Iterator[TextLine], dialect: _Dialect, label: str) -> Sequence[str]:
    first = next(lines, None)
    if first is None:
        raise wrong(label, "is empty; leave it out")
    try:
        if first.fault:
            raise first.fault
        return [name.strip() for name in dialect.cells(first.text)]
    except (RowFault, _Unclosed):
        raise wrong(label, "its first line is no header; see file.header in --map") from None


def _cell_rows(
    lines: Iterator[TextLine], dialect: _Dialect, width: int | None
) -> Iterator[SourceRow]:
    """
    The rows; *width* cells each, if that is known.

    A row whose quote stays open is tried with the lines that follow. When no row comes of
    it, its first line is rejected alone and the others are read anew.
    """
    waiting: deque[TextLine] = deque()

    def take() -> TextLine | None:
        return waiting.popleft() if waiting else next(lines, None)

    while (line := take()) is not None:
        if line.fault:
            yield _unread(line, line.fault)
            continue
        try:
            yield _row(line, dialect, width)
        except RowFault as fault:
            yield _unread(line, fault)
        except _Unclosed:
            row, unused = _continued(line, take, dialect, width)
            waiting.extendleft(reversed(unused))
            yield row


def _row(line: TextLine, dialect: _Dialect, width: int | None) -> SourceRow:
    cells = dialect.cells(line.text)
    if width is not None and len(cells) != width:
        raise RowFault("column_count", f"expected {width} columns, found {len(cells)}")
    return SourceRow(line.number, line.text, cells)


def _continued(
    first: TextLine, take: Callable[[], TextLine | None], dialect: _Dialect, width: int | None
) -> tuple[SourceRow, list[TextLine]]:
    """The row that begins with *first* and goes on, and the lines that are none of it."""
    more: list[TextLine] = []
    size = len(first.text)
    while len(more) < MAX_ROW_LINES - 1 and size <= MAX_LINE_BYTES and (line := take()):
        more.append(line)
        size += len(line.text)
        if line.fault:
            break
        if dialect.quote not in line.text:
            continue
        try:
            return _row(TextLine(first.number, _joined([first, *more])), dialect, width), []
        except _Unclosed:
            continue
        except RowFault:
            break
    return _unread(first, RowFault("unclosed_quote", "a quote is opened and never closed")), more


def _joined(lines: Iterable[TextLine]) -> str:
    return "\n".join(line.text for line in lines)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown}, …" if len(names) > 12 else shown
