"""
Memory of a server and of `onefold ingest` while ever more events go through: `make bench-memory`.

Both are real processes and both get the same play. Their resident memory is read after every
chunk; it is flat when no reading is more than a fifth away from the first, taken when the
process has done everything it does once.
"""

import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import psutil
from benchmarks import batch_posts
from benchmarks.load import Load, measure
from benchmarks.play import Player, players
from benchmarks.processes import ONEFOLD, create_database, environment, postgres, serving
from pydantic import SecretStr

from onefold_server.domains.directory.rules import Role
from onefold_server.installation import build
from onefold_server.settings import Settings

CHUNK: Final = 10_000  # events; also where the first reading is taken
TOLERANCE: Final = 0.2
_PLAYERS: Final = 4  # of a chunk, each with a session of its own
_WORKLOAD: Final = next(w for w in batch_posts.WORKLOADS if w.per_request == 1000)


@dataclass(frozen=True)
class Reading:
    """Resident memory after so many events."""

    events: int
    rss_mib: float


@dataclass(frozen=True)
class Subject:
    """An empty database, and a key to the only school in it."""

    url: str
    key: str


def prepare(url: str) -> Subject:
    """Migrate the database at *url* and put a school into it."""

    async def school() -> str:
        onefold = build(Settings(database_url=SecretStr(url)))
        try:
            await onefold.migrate()
            school_id = await onefold.directory.create_school("Memory", auto_enrol=True)
            key = await onefold.directory.create_key(school_id, role=Role.SERVICE, label="memory")
            return str(key)
        finally:
            await onefold.aclose()

    return Subject(url, asyncio.run(school()))


def _chunk(number: int) -> list[Player]:
    now = datetime.now(UTC)
    return players(f"memory {number}", _PLAYERS, events_each=CHUNK // _PLAYERS, now=now)


def of_server(subject: Subject, events: int) -> Iterator[Reading]:
    """Readings of `onefold serve`, its worker's loops running, while batches are posted."""
    spawn = multiprocessing.get_context("spawn")
    with (
        serving([ONEFOLD, "serve"], database_url=subject.url) as (server,),
        ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool,
    ):
        for number in range(events // CHUNK):
            crew = _chunk(number)
            load = Load(
                port=server.port,
                key=subject.key,
                path=_WORKLOAD.path,
                warm_up=[_WORKLOAD.body(player.events[:1]) for player in crew],
                bodies=[[_WORKLOAD.body(g) for g in _WORKLOAD.groups(p)] for p in crew],
            )
            applied = pool.submit(measure, load).result().applied
            assert applied == CHUNK - _PLAYERS, "the first of each was sent before"
            yield Reading((number + 1) * CHUNK, _rss_mib(server.pid))


def of_ingest(subject: Subject, events: int) -> Iterator[Reading]:
    """Readings of `onefold ingest -`, which is fed by a pipe and so is never far behind."""
    command = [ONEFOLD, "ingest", "-", "--no-close-idle", "--json"]
    with subprocess.Popen(
        command, env=environment(subject.url), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        for number in range(events // CHUNK):
            for player in _chunk(number):
                for event in player.events:
                    process.stdin.write(msgspec.json.encode(event) + b"\n")
            process.stdin.flush()
            yield Reading((number + 1) * CHUNK, _rss_mib(process.pid))
        process.stdin.close()
        process.stdout.read()
        assert process.wait() == 0, f"onefold ingest ended with {process.returncode}"


def _rss_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def stored(subject: Subject) -> int:
    """How many events the school's sessions count."""

    async def count() -> int:
        onefold = build(Settings(database_url=SecretStr(subject.url)))
        try:
            owner = await onefold.directory.authenticate(subject.key)
            return int((await onefold.telemetry.totals(owner))["events"])
        finally:
            await onefold.aclose()

    return asyncio.run(count())


def drift(readings: Sequence[Reading]) -> float:
    """How far the reading that is farthest away is from the first, as a share of it."""
    first = readings[0].rss_mib
    return max((r.rss_mib / first - 1 for r in readings), key=abs)


def verdict(name: str, readings: Sequence[Reading]) -> str:
    """One line: flat or not."""
    word = "flat" if abs(drift(readings)) <= TOLERANCE else "NOT FLAT"
    return (
        f"{name}: {word}: {drift(readings):+.1%} at most, "
        f"from {readings[0].events:,} to {readings[-1].events:,} events"
    )


def shown(readings: Iterable[Reading]) -> Iterator[Reading]:
    """*readings*, each printed that is the first of its size: 10 k, 20 k, 50 k, 100 k …"""
    wanted = [step * CHUNK * 10**power for power in range(6) for step in (1, 2, 5)]
    for reading in readings:
        if reading.events in wanted:
            print(f"  {reading.events:>9,} events {reading.rss_mib:8.1f} MiB", flush=True)
        yield reading


SUBJECTS: Final[dict[str, Callable[[Subject, int], Iterator[Reading]]]] = {
    "onefold serve": of_server,
    "onefold ingest": of_ingest,
}


def run(name: str, subject: Subject, events: int) -> list[Reading]:
    """Feed *events* to the process of that name, and make sure that they are all stored."""
    before = stored(subject)
    readings = list(shown(SUBJECTS[name](subject, events)))
    counted = stored(subject) - before
    assert counted == events, f"sent {events} events, stored {counted}"
    return readings


def main() -> None:
    """Run both over the database that was asked for; exit code 1 when one is not flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="for each, in ten thousands")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", choices=tuple(SUBJECTS), help="leave out the other")
    given = parser.parse_args()
    flat = True
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onefold-memory-")))
        server = (
            stack.enter_context(postgres(home / "pg")) if given.database == "postgresql" else None
        )
        for name in [given.only] if given.only else SUBJECTS:
            database = name.replace(" ", "_")
            url = create_database(server, database) if server else f"sqlite:///{home / database}"
            print(f"{name} on {given.database}")
            readings = run(name, prepare(url), given.events)
            print(verdict(f"{name} on {given.database}", readings), flush=True)
            flat = flat and abs(drift(readings)) <= TOLERANCE
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
