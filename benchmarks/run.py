"""
Runs the workloads and prints what they did: `make bench`, settings in `README.md`.

Every line compares three ways of taking the same events, alternating in one run: the server,
the same server with storage switched off, and the database's own fastest way. After each run
the ids that are stored are compared with the ids that were sent; a benchmark that lost or
doubled one fails.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from benchmarks import batch_posts, single_posts
from benchmarks.floors import Floor, fill
from benchmarks.load import Load, Measured, measure
from benchmarks.play import Player, players
from benchmarks.processes import ONEFOLD, Server, postgres, serving
from benchmarks.workload import Workload
from pydantic import SecretStr
from sqlalchemy import func, select

from onefold_server.domains.directory.rules import Principal, Role
from onefold_server.domains.telemetry.tables import events, sessions
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

WORKLOADS: Final = [*single_posts.WORKLOADS, *batch_posts.WORKLOADS]
RESULTS: Final = Path(__file__).with_name("results")
WAYS: Final = ("server", "unstored", "floor")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much is run."""

    reps: int
    events: int
    once: bool
    save: bool


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One database with what the three ways need."""

    name: str
    url: str
    onefold: Installation
    caller: Principal
    key: str
    server: Server
    unstored: Server
    watched: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One way, once. CPU and latencies where there is a server."""

    events: int
    elapsed_s: float
    client_share: float | None = None
    server_ms: float | None = None
    database_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.elapsed_s


Samples = dict[tuple[str, str, str], list[Sample]]  # database, workload, way


@asynccontextmanager
async def _bench(name: str, url: str, watched: dict[str, int]) -> AsyncIterator[Bench]:
    """A migrated database with a school and a key, and both servers over it."""
    onefold = build(Settings(database_url=SecretStr(url)))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(onefold.aclose)
        await onefold.migrate()
        school_id = await onefold.directory.create_school("Bench", auto_enrol=True)
        key = await onefold.directory.create_key(school_id, role=Role.SERVICE, label="bench")
        stored = [ONEFOLD, "serve", "--no-worker"]
        without = [sys.executable, "-m", "benchmarks.unstored"]
        server, unstored = stack.enter_context(serving(stored, without, database_url=url))
        yield Bench(
            name=name,
            url=url,
            onefold=onefold,
            caller=Principal.local(school_id),
            key=str(key),
            server=server,
            unstored=unstored,
            watched=watched,
        )


@asynccontextmanager
async def benches(home: Path) -> AsyncIterator[list[Bench]]:
    """SQLite and PostgreSQL, both under *home*."""
    async with AsyncExitStack() as stack:
        pg = stack.enter_context(postgres(home / "pg"))
        pg_pid = {"database": pg.get_pid()}
        yield [
            await stack.enter_async_context(_bench("SQLite", f"sqlite:///{home / 'bench.db'}", {})),
            await stack.enter_async_context(_bench("PostgreSQL", pg.get_uri(), pg_pid)),
        ]


async def _sample(
    bench: Bench, workload: Workload, way: str, *, seed: str, events: int, pool: ProcessPoolExecutor
) -> Sample:
    """Take the events of *seed* in one of the three ways, and check what is stored."""
    now = datetime.now(UTC)
    each = workload.events_each(events)
    warm = players(seed, workload.connections, events_each=each + 1, now=now)
    firsts = [player.events[0] for player in warm]
    crew = [
        Player(student_id=p.student_id, session_id=p.session_id, events=p.events[1:]) for p in warm
    ]
    loop = asyncio.get_running_loop()
    if way == "floor":
        await bench.onefold.telemetry.ingest(bench.caller, firsts)
        floor = Floor(
            database_url=bench.url,
            school_id=bench.caller.school_id,
            now=now,
            groups=[workload.groups(player) for player in crew],
        )
        elapsed_s = await loop.run_in_executor(pool, fill, floor)
        await _check(bench, warm, counted=len(warm))
        return Sample(events=each * len(crew), elapsed_s=elapsed_s)
    target = bench.server if way == "server" else bench.unstored
    load = Load(
        port=target.port,
        key=bench.key,
        path=workload.path,
        warm_up=[workload.body([first]) for first in firsts],
        bodies=[[workload.body(group) for group in workload.groups(player)] for player in crew],
        watched=bench.watched | {"server": target.pid},
    )
    measured = await loop.run_in_executor(pool, measure, load)
    assert measured.applied == each * len(crew), (measured.applied, each * len(crew))
    if way == "server":
        await _check(bench, warm, counted=(each + 1) * len(warm))
    return _of(measured)


def _of(measured: Measured) -> Sample:
    n = measured.applied
    cuts = quantiles([*measured.latencies_s, measured.latencies_s[-1]], n=20)
    database_s = measured.cpu_s.get("database")
    return Sample(
        events=n,
        elapsed_s=measured.elapsed_s,
        client_share=measured.client_cpu_s / measured.elapsed_s,
        server_ms=measured.cpu_s["server"] / n * 1000,
        database_ms=None if database_s is None else database_s / n * 1000,
        p50_ms=cuts[9] * 1000,
        p95_ms=cuts[18] * 1000,
    )


async def _check(bench: Bench, crew: Sequence[Player], *, counted: int) -> None:
    """Exactly the ids of *crew* are stored, and *counted* stand in their sessions' counts."""
    mine = {player.session_id for player in crew}
    async with bench.onefold.uow.read() as tx:
        found = await tx.execute(select(events.c.event_id).where(events.c.session_id.in_(mine)))
        stored = list(found.scalars())
        summed = select(func.sum(sessions.c.event_count)).where(sessions.c.id.in_(mine))
        total = (await tx.execute(summed)).scalar_one()
    sent = set().union(*(player.ids() for player in crew))
    assert len(stored) == len(sent), f"sent {len(sent)} events, stored {len(stored)}"
    assert set(stored) == sent, "other ids are stored than were sent"
    assert total == counted, f"the sessions count {total} events instead of {counted}"


async def run(options: Options) -> Samples:
    """All samples; the order of the ways turns with every repetition."""
    samples: Samples = defaultdict(list)
    workloads = [w for w in WORKLOADS if not options.once or w.connections * w.per_request <= 1000]
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="onefold-bench-", ignore_cleanup_errors=True) as home,
        ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool,
    ):
        async with benches(Path(home)) as found:
            for rep in range(options.reps):
                for bench in found:
                    for workload in workloads:
                        for way in (*WAYS[rep % 3 :], *WAYS[: rep % 3]):
                            seed = f"{bench.name} {workload.name} {way} {rep}"
                            sample = await _sample(
                                bench, workload, way, seed=seed, events=options.events, pool=pool
                            )
                            samples[bench.name, workload.name, way].append(sample)
                print(f"repetition {rep + 1} of {options.reps} done", file=sys.stderr)
    return samples


_HEAD: Final = (
    f"{'':22} {'events/s':>9} {'p50 ms':>7} {'p95 ms':>7} │ {'storage off':>11} {'ratio':>6} "
    f"│ {'floor':>9} {'ratio':>6} │ {'server':>7} {'database':>8} {'client':>6}"
)


def table(samples: Samples) -> str:
    """The medians, one line a workload; a ratio is the median of the repetitions' ratios."""
    lines = []
    for database in dict.fromkeys(key[0] for key in samples):
        floor = "COPY" if database == "PostgreSQL" else "executemany"
        lines += ["", f"{database} (floor: {floor}; CPU in ms an event)", _HEAD]
        for workload in dict.fromkeys(key[1] for key in samples if key[0] == database):
            lines.append(_line(workload, *(samples[database, workload, way] for way in WAYS)))
    return "\n".join(lines)


def _line(
    name: str, server: Sequence[Sample], unstored: Sequence[Sample], floor: Sequence[Sample]
) -> str:
    medians = {
        column: median(getattr(sample, column) for sample in server)
        for column in ("p50_ms", "p95_ms", "server_ms", "client_share")
    }
    inside = [s.database_ms for s in server if s.database_ms is not None]
    return (
        f"{name:22} {_rate(server):9,.0f} {medians['p50_ms']:7.1f} {medians['p95_ms']:7.1f} "
        f"│ {_rate(unstored):11,.0f} {_ratio(server, unstored):6.3f} "
        f"│ {_rate(floor):9,.0f} {_ratio(server, floor):6.3f} "
        f"│ {medians['server_ms']:7.3f} {format(median(inside), '8.3f') if inside else 'in it':>8} "
        f"{medians['client_share']:6.0%}"
    )


def _rate(samples: Iterable[Sample]) -> float:
    return median(sample.rate for sample in samples)


def _ratio(samples: Sequence[Sample], others: Sequence[Sample]) -> float:
    return median(s.rate / o.rate for s, o in zip(samples, others, strict=True))


def machine() -> dict[str, Any]:
    """Where it ran."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": f"{len(model)} × {model[0]}",
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _save(options: Options, samples: Samples, where: dict[str, Any]) -> Path:
    file = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-foundation.json"
    RESULTS.mkdir(exist_ok=True)
    lines = [
        {"database": d, "workload": w, "way": way, "samples": [asdict(s) for s in found]}
        for (d, w, way), found in samples.items()
    ]
    content = {"machine": where, "options": asdict(options), "lines": lines}
    file.write_text(json.dumps(content, indent=1) + "\n")
    return file


def main() -> None:
    """Run, print, and save when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reps", type=int, default=3, help="repetitions; medians are printed")
    parser.add_argument("--events", type=int, default=5000, help="about how many a batch run sends")
    parser.add_argument("--once", action="store_true", help="a few events, once: does it work?")
    parser.add_argument("--save", action="store_true", help="keep the samples in results/")
    given = parser.parse_args()
    small = {"reps": 1, "events": 50} if given.once else {}
    options = Options(**vars(given) | small)
    where = machine()
    samples = asyncio.run(run(options))
    print("; ".join(f"{name} {value}" for name, value in where.items()))
    print(f"{options.reps} repetitions, about {options.events} events a batch run")
    print(table(samples))
    if options.save:
        print(f"\nsamples: {_save(options, samples, where)}")


if __name__ == "__main__":
    main()
