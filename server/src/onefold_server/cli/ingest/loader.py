"""
Sources go to a sink, batch by batch, and what became of each row is told.

A batch is sent before the next one is read, so that memory holds one. Ids of rows, and so
everything that is sent, depend on the source alone: stopped anywhere and run again, the
outcome is the same as of running once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from onefold.core.ids import derived_id
from onefold.errors import Refused
from onefold_server.cli.ingest.interrupt import Interrupt
from onefold_server.cli.ingest.mapping import read_events
from onefold_server.cli.ingest.rejects import Reject, Rejects
from onefold_server.cli.ingest.rows import RowFault, SourceRow
from onefold_server.cli.ingest.sinks import IngestTarget
from onefold_server.cli.ingest.sources import RowSource
from onefold_server.cli.ingest.spec import MapSpec
from onefold_server.domains.telemetry.rules import MAX_BATCH

MAX_BATCH_BYTES: Final = 4 << 20  # of rows; their JSON is then well under a server's 12 MB
MAX_SESSIONS: Final = 50_000  # told apart, in about 5 MB

Batch = list[
    tuple[SourceRow, Any]
]  # each row with its event, or the `RowFault` that kept it from one


class Distinct:
    """Counts different UUIDs exactly up to a bound, in bounded memory."""

    def __init__(self, bound: int = MAX_SESSIONS) -> None:
        self._seen: set[int] = set()
        self._bound = bound
        self.exact = True

    def add(self, id_: UUID) -> None:
        if len(self._seen) < self._bound or id_.int in self._seen:
            self._seen.add(id_.int)
        else:
            self.exact = False

    def __len__(self) -> int:
        return len(self._seen)


@dataclass
class Tally:
    """What became of the rows of a source: applied, repeated and refused add up to `rows`."""

    source: str
    rows: int = 0
    applied: int = 0
    repeated: int = 0
    refused: int = 0
    sessions: Distinct = field(default_factory=Distinct)


@dataclass
class Load:
    """
    One run over any number of sources.

    Attributes:
        sink: Where events go.
        rejects: Where rows go that do not count.
        spec: The mapping, if there is one.
        school_id: As far as it is known here.
        interrupt: Asked between batches.
        tallies: One for each source that was begun.
        total: All of them; a session that is in several sources counts once.
    """

    sink: IngestTarget
    rejects: Rejects
    spec: MapSpec | None
    school_id: UUID | None
    interrupt: Interrupt
    tallies: list[Tally] = field(default_factory=list)
    total: Tally = field(default_factory=lambda: Tally("total"))

    async def run(self, source: RowSource, progress: Callable[[RowSource, Tally], None]) -> None:
        """
        Load *source*; `progress` is told after each batch.

        Raises:
            KeyboardInterrupt: stopped; what the tallies say is committed.
            OnefoldError: likewise; the batch under way may have been recorded too.
        """
        tally = Tally(source.label)
        self.tallies.append(tally)
        coming = batches(read_events(source, self.spec, school_id=self.school_id))
        while (batch := self._next(coming)) is not None:
            await self._send(source, batch, tally)
            progress(source, tally)

    def _next(self, coming: Iterator[Batch]) -> Batch | None:
        if self.interrupt.asked:
            raise KeyboardInterrupt
        with self.interrupt.at_once():
            return next(coming, None)

    async def _send(self, source: RowSource, batch: Batch, tally: Tally) -> None:
        rejects = [_reject(source, row, out) for row, out in batch if isinstance(out, RowFault)]
        events = [(row, out) for row, out in batch if not isinstance(out, RowFault)]
        applied = repeated = 0
        if events:
            batch_id = derived_id("batch", source.label, str(batch[0][0].number))
            receipt = await self.sink.send(batch_id, [event for _, event in events])
            applied, repeated = receipt.applied, receipt.repeated
            refused = {refusal.index: refusal for refusal in receipt.refused}
            for index, (row, event) in enumerate(events):
                if index in refused:
                    why = RowFault(refused[index].code, refused[index].reason)
                    rejects.append(_reject(source, row, why))
                else:
                    session_id = UUID(event["session_id"])
                    tally.sessions.add(session_id)
                    self.total.sessions.add(session_id)
        self.rejects.add(sorted(rejects, key=lambda reject: reject.row))
        for sums in (tally, self.total):
            sums.rows += len(batch)
            sums.applied += applied
            sums.repeated += repeated
            sums.refused += len(rejects)


def batches(rows: Iterator[tuple[SourceRow, Any]]) -> Iterator[Batch]:
    """Up to 1000 rows and some MiB at a time; those before an error come before it."""
    batch: Batch = []
    size = 0
    try:
        for row, outcome in rows:
            batch.append((row, outcome))
            size += len(row.raw)
            if len(batch) == MAX_BATCH or size >= MAX_BATCH_BYTES:
                yield batch
                batch, size = [], 0
    except Refused:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _reject(source: RowSource, row: SourceRow, fault: RowFault) -> Reject:
    return Reject(source.label, row.number, fault.code, fault.reason, row.raw)
