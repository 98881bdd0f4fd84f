"""The Valkey guard and a real server: round trips, expiry, restarts, clusters."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
import redis.asyncio as redis
from tests.support_valkey import Valkey

from onefold.adapters.valkey.connection import Server, connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.errors import InvalidSetting, StoreUnavailable
from onefold.ports.guard import Confirmation, Done, Lease
from onefold.testing.contracts.guard import (
    KEEP,
    LEASE,
    NOW,
    claim_all,
    claim_of,
    claim_one,
    confirm_one,
    lease_one,
    release_one,
)

Relay = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def server(valkey: Valkey) -> AsyncIterator[Server]:
    opened = connect(valkey.url)
    yield opened
    await opened.aclose()


@pytest.fixture
def guard(server: Server, valkey: Valkey) -> ValkeyGuard:
    return ValkeyGuard(server, prefix=valkey.prefix)


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[redis.Redis]:
    opened = redis.Redis.from_url(valkey.url.replace("valkey://", "redis://"))
    yield opened
    await opened.aclose()


async def _calls(client: redis.Redis) -> int:
    """How many script calls the server has answered."""
    stats = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


async def test_claim_and_confirm_are_a_round_trip_each(
    guard: ValkeyGuard, client: redis.Redis
) -> None:
    """One event costs two round trips, and so do a thousand."""
    await release_one(guard, await lease_one(guard, claim_of("warm up")))
    await confirm_one(guard, await lease_one(guard, claim_of("warm up")))
    before = await _calls(client)
    await confirm_one(guard, await lease_one(guard, claim_of("e1")))
    single = await _calls(client) - before

    claims = [claim_of(f"b{n}") for n in range(1000)]
    leases = [v for v in await claim_all(guard, claims) if isinstance(v, Lease)]
    await guard.confirm([Confirmation(held) for held in leases], now=NOW, keep=KEEP)
    batch = await _calls(client) - before - single

    assert (single, batch) == (2, 2)


async def test_no_record_outlives_or_underlives_its_need(
    guard: ValkeyGuard, client: redis.Redis, valkey: Valkey
) -> None:
    """The server's expiry is longer than what must be kept, and there always is one."""
    day_ms = timedelta(days=1) // timedelta(milliseconds=1)
    key = f"{valkey.prefix}:{{grades}}:0::e1"
    held = await lease_one(guard, claim_of("e1"))
    leased = await client.pttl(key)
    await confirm_one(guard, held)
    completed = await client.pttl(key)

    assert leased > 14 * day_ms
    assert 14 * day_ms < completed <= 15 * day_ms


async def test_a_server_that_forgot_its_scripts_is_told_again(
    guard: ValkeyGuard, client: redis.Redis
) -> None:
    """A restart or `SCRIPT FLUSH` between two calls is not noticed."""
    held = await lease_one(guard, claim_of("e1"))
    await client.script_flush()

    assert await confirm_one(guard, held)


async def test_a_lost_connection_is_opened_again(guard: ValkeyGuard, client: redis.Redis) -> None:
    """The server throws the connection out between two calls: the second one still works."""
    held = await lease_one(guard, claim_of("e1"))
    await client.client_kill_filter(_type="normal", skipme=True)

    assert await confirm_one(guard, held)


async def test_fences_outlive_the_loss_of_everything(
    guard: ValkeyGuard, client: redis.Redis, valkey: Valkey
) -> None:
    """After a failover that lost the counter, a zombie's fence still fits nothing."""
    zombie = await lease_one(guard, claim_of("e1"))
    async for key in client.scan_iter(match=f"{valkey.prefix}:*"):
        await client.delete(key)
    later = NOW + timedelta(seconds=1)

    holder = await lease_one(guard, claim_of("e1"), now=later)

    assert holder.fence > zombie.fence
    assert not await confirm_one(guard, zombie, now=later)


async def test_concurrent_callers_share_the_connection(
    guard: ValkeyGuard, client: redis.Redis
) -> None:
    """Two hundred tasks at once need no two hundred connections, and each gets its answer."""
    verdicts = await asyncio.gather(*(lease_one(guard, claim_of(f"e{n}")) for n in range(200)))
    connected = (await client.info("clients"))["connected_clients"]

    assert [held.key.event_id for held in verdicts] == [f"e{n}" for n in range(200)]
    assert connected <= 5


async def test_a_cancelled_caller_takes_nobody_elses_answer(guard: ValkeyGuard) -> None:
    """Its reply is thrown away when it comes; those behind it get theirs."""
    await lease_one(guard, claim_of("warm up"))
    first = asyncio.create_task(lease_one(guard, claim_of("e1")))
    second = asyncio.create_task(lease_one(guard, claim_of("e2")))
    await asyncio.sleep(0)
    first.cancel()

    assert (await second).key.event_id == "e2"
    assert (await lease_one(guard, claim_of("e3"))).key.event_id == "e3"


async def test_no_server_is_store_unavailable(valkey: Valkey) -> None:
    """Nobody listens there."""
    server = connect("valkey://127.0.0.1:1", wait_s=1)
    guard = ValkeyGuard(server, prefix=valkey.prefix)

    with pytest.raises(StoreUnavailable):
        await claim_one(guard, claim_of("e1"))
    await server.aclose()


async def test_a_server_that_evicts_is_refused(guard: ValkeyGuard, client: redis.Redis) -> None:
    """Where memory is limited, only `noeviction` keeps every claim."""
    await guard.check()
    try:
        await client.config_set("maxmemory", "1gb")
        await guard.check()
        await client.config_set("maxmemory-policy", "allkeys-lru")

        with pytest.raises(InvalidSetting) as refused:
            await guard.check()
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "0")

    assert refused.value.name == "maxmemory-policy"


async def test_a_full_server_loses_no_claim(guard: ValkeyGuard, client: redis.Redis) -> None:
    """Out of memory is an outage: nothing was recorded, nothing is forgotten."""
    await confirm_one(guard, await lease_one(guard, claim_of("e1")))
    try:
        await client.config_set("maxmemory", "1mb")
        with pytest.raises(StoreUnavailable):
            await claim_one(guard, claim_of("e2"))
    finally:
        await client.config_set("maxmemory", "0")

    assert isinstance(await claim_one(guard, claim_of("e1")), Done)
    assert isinstance(await claim_one(guard, claim_of("e2")), Lease)


@pytest.mark.parametrize("url", ["http://localhost", "valkey", "cluster+http://localhost"])
def test_what_names_no_server_is_refused(url: str) -> None:
    """A wrong URL is found when it is read."""
    with pytest.raises(InvalidSetting):
        connect(url)


def test_a_prefix_must_not_decide_the_slot(server: Server) -> None:
    """A brace before the consumer's would put all keys of a cluster on one node."""
    with pytest.raises(InvalidSetting):
        ValkeyGuard(server, prefix="{onefold}")


async def test_leases_last_as_long_as_they_were_asked_for(
    guard: ValkeyGuard, client: redis.Redis, valkey: Valkey
) -> None:
    """A lease longer than the memory of attempts is not cut short by it."""
    (verdict,) = await guard.claim([claim_of("e1")], owner="me", now=NOW, lease=100 * LEASE)
    assert isinstance(verdict, Lease)
    month = timedelta(days=30)
    await guard.renew([verdict], now=NOW, lease=month)

    ttl = await client.pttl(f"{valkey.prefix}:{{grades}}:0::e1")

    assert ttl > month // timedelta(milliseconds=1)


@asynccontextmanager
async def _listening(handle: Relay) -> AsyncIterator[int]:
    """A server on a port of its own, whose connections are over when the block is."""
    over: list[asyncio.Event] = []

    async def until_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over.append(asyncio.Event())
        mine = over[-1]
        try:
            await handle(reader, writer)
        finally:
            writer.transport.abort()
            mine.set()

    async with await asyncio.start_server(until_over, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for each in over:
            await each.wait()


async def test_a_server_that_does_not_answer_is_store_unavailable(valkey: Valkey) -> None:
    """A caller waits as long as it was told to, and no longer."""

    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(1024):
                pass

    async with _listening(mute) as port:
        server = connect(f"valkey://127.0.0.1:{port}", wait_s=0.1)

        with pytest.raises(StoreUnavailable):
            await claim_one(ValkeyGuard(server, prefix=valkey.prefix), claim_of("e1"))
        await server.aclose()


async def test_a_connection_lost_within_a_call_is_tried_once_more(valkey: Valkey) -> None:
    """The claim may have been taken: the same owner gets the same lease."""
    host, port = valkey.url.removeprefix("valkey://").split(":")
    cut = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass everything on, but drop the first script's reply and the connection."""
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                up_writer.write(data)
                answer = await up_reader.read(65536)
                if b"EVAL" in data and not cut.is_set():
                    cut.set()
                    break
                writer.write(answer)
        up_writer.close()
        await up_writer.wait_closed()

    async with _listening(relay) as between:
        server = connect(f"valkey://127.0.0.1:{between}")
        guard = ValkeyGuard(server, prefix=valkey.prefix)

        held = await lease_one(guard, claim_of("e1"), owner="me")
        again = await lease_one(guard, claim_of("e1"), owner="me")
        await server.aclose()

    assert cut.is_set()
    assert held == again
    assert held.attempt == 1


async def test_many_callers_wait_once_for_a_silent_server(valkey: Valkey) -> None:
    """Who waits for another task's attempt to connect waits no longer than for its own."""
    silent = asyncio.Event()

    async def never_greets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with _listening(never_greets) as port:
        server = connect(f"valkey://127.0.0.1:{port}/1", wait_s=0.3)
        guard = ValkeyGuard(server, prefix=valkey.prefix)
        loop = asyncio.get_running_loop()
        began = loop.time()
        calls = [claim_one(guard, claim_of(f"event {n}")) for n in range(20)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        took_s = loop.time() - began
        silent.set()
        await server.aclose()

    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert took_s < 3  # one after the other they waited for six seconds
