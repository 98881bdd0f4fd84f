"""Batches go out one after the other, and every row is accounted for."""

import io
import json
import os
import pty
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from onefold.errors import InvalidInput, StoreUnavailable
from onefold_server.cli.ingest.interrupt import Interrupt
from onefold_server.cli.ingest.loader import (
    MAX_BATCH_BYTES,
    Distinct,
    Load,
    Tally,
    batches,
)
from onefold_server.cli.ingest.rejects import Reject, Rejects
from onefold_server.cli.ingest.report import as_json, progress_bar, summary
from onefold_server.cli.ingest.rows import SourceRow
from onefold_server.cli.ingest.sources import RowSource
from onefold_server.cli.ingest.spec import wrong
from onefold_server.domains.telemetry.intake import Receipt, Refusal


class Ledger:
    """A sink that keeps what it is sent: new ids apply, known ones repeat, `bad` is refused."""

    def __init__(self) -> None:
        self.sent: list[tuple[UUID, Sequence[Any]]] = []
        self.known: set[str] = set()

    async def send(self, batch_id: UUID, events: Sequence[Any]) -> Receipt:
        self.sent.append((batch_id, events))
        bad = [
            Refusal(index=index, event_id=None, code="conflict", reason="because")
            for index, event in enumerate(events)
            if event["event_type"] == "bad"
        ]
        ids = [event["event_id"] for event in events if event["event_type"] != "bad"]
        new = [id_ for id_ in ids if id_ not in self.known]
        self.known.update(new)
        return Receipt(applied=len(new), repeated=len(ids) - len(new), refused=bad)


class AwayAfter(Ledger):
    """A ledger that is lost after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    async def send(self, batch_id: UUID, events: Sequence[Any]) -> Receipt:
        if not self._left:
            raise StoreUnavailable("gone")
        self._left -= 1
        return await super().send(batch_id, events)


def line(type_: str = "a", session: int = 1) -> str:
    return json.dumps({"event_type": type_, "session_id": str(UUID(int=session))}) + "\n"


def source(content: str, name: str | None = "log.jsonl") -> RowSource:
    return RowSource(name, io.BytesIO(content.encode()))


@pytest.fixture
def rejects(tmp_path: Path) -> Iterator[Rejects]:
    """A rejects file that is not there yet."""
    with Rejects(tmp_path / "rejects.jsonl") as opened:
        yield opened


@pytest.fixture
def load(rejects: Rejects) -> Load:
    """A load into a ledger."""
    return Load(Ledger(), rejects, None, None, Interrupt())


def quiet(_source: RowSource, _tally: Tally) -> None:
    """No bar."""


def counts(tally: Tally) -> tuple[int, int, int, int, int]:
    return tally.rows, tally.applied, tally.repeated, tally.refused, len(tally.sessions)


async def test_every_row_is_accounted_for(load: Load) -> None:
    """What is applied, repeated and refused adds up to what was there."""
    content = line() + line("bad") + "{\n" + line(session=2)

    await load.run(source(content), quiet)
    await load.run(source(content), quiet)

    first, second = load.tallies
    assert counts(first) == (4, 2, 0, 2, 2)
    assert counts(second) == (4, 0, 2, 2, 2)
    assert counts(load.total) == (8, 2, 2, 4, 2)


async def test_rejects_name_row_and_reason_in_the_order_of_the_file(load: Load) -> None:
    """Whoever refused them."""
    await load.run(source(line("bad") + "{\n" + line("bad")), quiet)

    told = [json.loads(text) for text in load.rejects.path.read_text().splitlines()]
    assert [(one["source"], one["row"], one["code"]) for one in told] == [
        ("log.jsonl", 1, "conflict"),
        ("log.jsonl", 2, "malformed_json"),
        ("log.jsonl", 3, "conflict"),
    ]
    assert told[0]["raw"] == line("bad").strip()
    assert told[0]["reason"] == "because"


async def test_the_same_file_is_sent_as_the_same_batches(load: Load, rejects: Rejects) -> None:
    """Id and content of a batch depend on the file alone."""
    other = Load(Ledger(), rejects, None, None, Interrupt())
    content = line() * 1500

    await load.run(source(content), quiet)
    await other.run(source(content), quiet)

    assert isinstance(load.sink, Ledger)
    assert isinstance(other.sink, Ledger)
    assert load.sink.sent == other.sink.sent
    assert [len(events) for _, events in load.sink.sent] == [1000, 500]
    assert len({batch_id for batch_id, _ in load.sink.sent}) == 2


async def test_a_batch_of_faults_alone_is_not_sent(load: Load) -> None:
    """There is nothing in it."""
    await load.run(source("{\n{\n"), quiet)

    assert isinstance(load.sink, Ledger)
    assert load.sink.sent == []
    assert counts(load.total) == (2, 0, 0, 2, 0)


async def test_what_was_sent_before_an_error_is_told(rejects: Rejects) -> None:
    """And running again goes on from there."""
    ledger = AwayAfter(1)
    load = Load(ledger, rejects, None, None, Interrupt())

    with pytest.raises(StoreUnavailable):
        await load.run(source(line() * 1500), quiet)

    assert counts(load.total) == (1000, 1000, 0, 0, 1)


async def test_a_stop_takes_effect_between_batches(load: Load) -> None:
    """The batch on its way is finished and told first."""

    def stop(_source: RowSource, _tally: Tally) -> None:
        load.interrupt.asked = True

    with pytest.raises(KeyboardInterrupt):
        await load.run(source(line() * 1500), stop)

    assert counts(load.total) == (1000, 1000, 0, 0, 1)


def numbered(count: int, size: int = 1) -> Iterator[tuple[SourceRow, Any]]:
    for number in range(count):
        yield SourceRow(number, "x" * size, ()), {}


def test_batches_hold_a_thousand_rows_or_some_megabytes() -> None:
    """Whichever comes first."""
    assert [len(batch) for batch in batches(numbered(2000))] == [1000, 1000]
    assert [len(batch) for batch in batches(numbered(5, MAX_BATCH_BYTES // 2))] == [2, 2, 1]
    assert list(batches(iter(()))) == []


@pytest.mark.parametrize("before", [0, 3])
def test_rows_before_an_error_come_before_it(before: int) -> None:
    """A damaged file gives what it has."""

    def damaged() -> Iterator[tuple[SourceRow, Any]]:
        yield from numbered(before)
        raise wrong("log.csv.gz", "is damaged")

    coming = batches(damaged())
    given = [next(coming) for _ in range(min(before, 1))]

    assert [len(batch) for batch in given] == [3] * min(before, 1)
    with pytest.raises(InvalidInput, match="is damaged"):
        next(coming)


def test_different_sessions_are_counted_up_to_a_bound() -> None:
    """Memory does not grow with them, and the count says that there are more."""
    seen = Distinct(bound=2)

    for number in (1, 2, 1):
        seen.add(UUID(int=number))
    exact_before = seen.exact
    seen.add(UUID(int=3))

    assert (len(seen), exact_before, seen.exact) == (2, True, False)


async def test_the_summary_has_a_line_for_each_source_and_one_for_all(load: Load) -> None:
    """Numbers stand below each other."""
    await load.run(source(line() * 1200, "a.jsonl"), quiet)
    await load.run(source(line("bad") + line(session=2), "b.jsonl"), quiet)
    load.total.sessions.exact = False

    assert summary(load).splitlines() == [
        "source               rows  applied  repeated  refused  sessions",
        "a.jsonl             1,200    1,200         0        0         1",
        "b.jsonl                 2        1         0        1         1",
        "---------------------------------------------------------------",
        "total of 2 sources  1,202    1,201         0        1        2+",
    ]


async def test_the_summary_for_programs_says_the_same(load: Load) -> None:
    """With the reasons counted."""
    await load.run(source(line("bad") + "{\n"), quiet)

    told = as_json(load, closed=3, interrupted=True)

    expected = {"rows": 2, "applied": 0, "repeated": 0, "refused": 2, "sessions": 0}
    expected |= {"sessions_exact": True}
    assert told == {
        "sources": [{"source": "log.jsonl"} | expected],
        "total": {"source": "total"} | expected,
        "refused_by_code": {"conflict": 1, "malformed_json": 1},
        "rejects": str(load.rejects.path),
        "closed_sessions": 3,
        "interrupted": True,
    }


def test_no_rejects_file_is_named_when_there_is_none(load: Load) -> None:
    """Nothing was begun, nothing was rejected."""
    told = as_json(load, closed=None, interrupted=False)

    assert (told["rejects"], told["sources"], told["interrupted"]) == (None, [], False)
    assert summary(load).endswith("total of 0 sources     0        0         0        0         0")


def test_a_bar_is_drawn_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A log of a nightly job stays readable."""
    with progress_bar(100) as show:
        show(source("x"), Tally("log.jsonl", rows=7))

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("size", [1, None])
def test_a_bar_says_where_the_load_is(size: int | None) -> None:
    """The file, and how many rows were read of all files."""
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal, progress_bar(size, terminal) as show:  # noqa: PTH123
        first = RowSource("a.jsonl", io.BytesIO(b"x"), size=size)
        show(first, Tally("a.jsonl", rows=1234))
        first.close()  # as a loader does before it opens the next
        show(RowSource("b.jsonl", io.BytesIO(b"x"), size=size), Tally("b.jsonl", rows=2))
        terminal.flush()
        drawn = os.read(ours, 65536).decode()
        while "1,236 rows" not in drawn:
            drawn += os.read(ours, 65536).decode()
    os.close(ours)

    assert "b.jsonl" in drawn


def test_rejects_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    """Also by none, and after a run that was killed before its first line was whole."""
    path = tmp_path / "rejects.jsonl"
    path.write_text('{"source": "a", "row": 1, "code": "b", "reason": "c", "raw": "d"}\n')

    with Rejects(path) as rejects:
        rejects.add([])

    assert not path.exists()
    path.touch()
    with Rejects(path):
        assert not path.exists()


@pytest.mark.parametrize("content", ["precious\n", '{"source": 1}\n', "\n"])
def test_a_file_that_is_no_rejects_file_is_left_alone(tmp_path: Path, content: str) -> None:
    """A slip of the hand must not cost a log."""
    path = tmp_path / "log.jsonl"
    path.write_text(content)

    with pytest.raises(InvalidInput, match="is there and is no rejects file"):
        Rejects(path).__enter__()

    assert path.read_text() == content


@pytest.mark.parametrize("name", [".", "x" * 300])
def test_a_path_that_can_be_no_rejects_file_is_named(tmp_path: Path, name: str) -> None:
    """It is said before anything is loaded."""
    with pytest.raises(InvalidInput, match=r"cannot be written: .*; name another with"):
        Rejects(tmp_path / name).__enter__()


def test_a_rejects_file_that_cannot_be_begun_is_named(tmp_path: Path) -> None:
    """Its folder may not be there."""
    path = tmp_path / "no" / "where.jsonl"

    with Rejects(path) as rejects, pytest.raises(InvalidInput, match="cannot be written: No such"):
        rejects.add([Reject("a", 1, "b", "c", "d")])


def test_an_interrupt_waits_for_what_is_half_done() -> None:
    """The second one does not."""
    before = signal.getsignal(signal.SIGINT)

    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        asked = interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    assert asked
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_takes_effect_at_once_while_waiting_for_input() -> None:
    """For nothing is half done then."""
    with Interrupt() as interrupt, pytest.raises(KeyboardInterrupt), interrupt.at_once():
        signal.raise_signal(signal.SIGINT)
