"""What a load looks like: a bar while it runs, and what became of it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from onefold_server.cli.ingest.loader import Distinct, Load, Tally
from onefold_server.cli.ingest.sources import RowSource

Progress = Callable[[RowSource, Tally], None]


@contextmanager
def progress_bar(total_bytes: int | None, stream: TextIO | None = None) -> Iterator[Progress]:
    """
    A bar on stderr, if that is a terminal; else nothing is shown.

    Args:
        total_bytes: Of all files; None when it is not known.
        stream: Instead of stderr.
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        yield lambda _source, _tally: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=total_bytes, rows=0)
        # By the id of a tally, which is kept: a freed one's id could come again.
        done: dict[int, tuple[Tally, int]] = {}

        def show(source: RowSource, tally: Tally) -> None:
            done[id(tally)] = tally, source.read_bytes if source.size else 0
            read = sum(size for _, size in done.values())
            rows = sum(tally.rows for tally, _ in done.values())
            bar.update(task, description=source.label, completed=read, rows=rows)

        yield show


_COUNTS = ("rows", "applied", "repeated", "refused")


def summary(load: Load) -> str:
    """The table of what became of each source, and of all."""
    header = ("source", *_COUNTS, "sessions")
    rows = [_cells(tally, tally.source) for tally in load.tallies]
    files = len(load.tallies)
    rows.append(_cells(load.total, f"total of {files} source{'s' * (files != 1)}"))
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    lines = [_line(row, widths) for row in (header, *rows)]
    return "\n".join([*lines[:-1], "-" * len(lines[0]), lines[-1]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *counts = [
        cell.rjust(width) if at else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join([first, *counts])


def _cells(tally: Tally, name: str) -> tuple[str, ...]:
    counts = (f"{getattr(tally, count):,}" for count in _COUNTS)
    return (name, *counts, _many(tally.sessions))


def _many(sessions: Distinct) -> str:
    return f"{len(sessions):,}" + ("" if sessions.exact else "+")


def as_json(load: Load, *, closed: int | None, interrupted: bool) -> dict[str, Any]:
    """The same for programs; `sessions_exact` is false where there were more than told."""
    return {
        "sources": [_object(tally) for tally in load.tallies],
        "total": _object(load.total),
        "refused_by_code": dict(sorted(load.rejects.codes.items())),
        "rejects": str(load.rejects.path) if load.rejects.codes else None,
        "closed_sessions": closed,
        "interrupted": interrupted,
    }


def _object(tally: Tally) -> dict[str, Any]:
    counts = {count: getattr(tally, count) for count in _COUNTS}
    sessions = {"sessions": len(tally.sessions), "sessions_exact": tally.sessions.exact}
    return {"source": tally.source} | counts | sessions
