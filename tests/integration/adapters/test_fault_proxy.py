"""The wire between a client and a real server, broken at the request that is named."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.support_valkey import Valkey

from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.errors import Unavailable
from onefold.ports.guard import Busy, Claim, ClaimKey, Lease
from onefold.testing.clock import ManualClock
from onefold.testing.proxy import FaultProxy, fault_proxy

NOW, LEASE = ManualClock().now(), timedelta(seconds=30)
CLAIM = Claim(ClaimKey("c", "", "e"), bytes(32))


@asynccontextmanager
async def _through(url: str, folder: Path) -> AsyncIterator[tuple[FaultProxy, asyncpg.Connection]]:
    async with fault_proxy(url, folder) as proxy:
        connection = await asyncpg.connect(proxy.url)
        try:
            yield proxy, connection
        finally:
            connection.terminate()


async def _count(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM wire")
        return found
    finally:
        await connection.close()


@pytest.mark.parametrize(("do", "rows"), [("drop before", 0), ("drop after", 1)])
async def test_a_statement_is_lost_or_done_and_the_client_cannot_tell(
    postgres_url: str, tmp_path: Path, do: str, rows: int
) -> None:
    """The connection breaks either way; only one of them has inserted."""
    async with _through(postgres_url, tmp_path) as (proxy, connection):
        await connection.execute("CREATE TABLE wire (n int)")
        proxy.add("INSERT", do)  # type: ignore[arg-type]

        with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
            await connection.execute("INSERT INTO wire VALUES ($1)", 1)

    assert proxy.done == ["INSERT INTO wire VALUES ($1)"]
    assert await _count(postgres_url) == rows


async def test_a_held_statement_waits_until_it_is_released(
    postgres_url: str, tmp_path: Path
) -> None:
    """The server has not seen it; then it has."""
    async with _through(postgres_url, tmp_path) as (proxy, connection):
        await connection.execute("CREATE TABLE wire (n int)")
        proxy.add("INSERT", "hold")
        inserting = asyncio.create_task(connection.execute("INSERT INTO wire VALUES (1)"))
        await proxy.held.wait()
        assert await _count(postgres_url) == 0

        proxy.release()
        await inserting

    assert await _count(postgres_url) == 1


async def test_answers_in_single_bytes_are_understood(postgres_url: str, tmp_path: Path) -> None:
    """However the network cuts them up."""
    async with _through(postgres_url, tmp_path) as (proxy, connection):
        proxy.split = True

        assert await connection.fetchval("SELECT repeat('x', 300)") == "x" * 300


async def test_a_client_over_tcp_goes_through_the_proxy_in_the_clear(postgres_url: str) -> None:
    """It asks for TLS first, and would have waited for ever; or gone to the socket past it."""
    async with fault_proxy(postgres_url) as proxy:
        connection = await asyncpg.connect(proxy.url, timeout=5)
        try:
            proxy.add("SELECT 1", "half open")
            with pytest.raises(TimeoutError):
                await connection.fetchval("SELECT 1", timeout=0.05)
        finally:
            connection.terminate()


async def test_a_proxy_without_its_server_hangs_up(unused_tcp_port: int) -> None:
    """As a server that is down: a client that waits for its first answer is not left waiting."""
    async with fault_proxy(f"valkey://127.0.0.1:{unused_tcp_port}") as proxy:
        port = urlsplit(proxy.url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_a_proxy_that_ends_hangs_up_on_its_clients(valkey: Valkey) -> None:
    """And leaves no task behind, not even that of a request that is held."""
    before = asyncio.all_tasks()
    async with fault_proxy(valkey.url) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.url).port)
        writer.write(b"*1\r\n$4\r\nPING\r\n")
        assert await reader.readline() == b"+PONG\r\n"
        proxy.add("PING", "hold")
        writer.write(b"*1\r\n$4\r\nPING\r\n")
        await proxy.held.wait()

    assert asyncio.all_tasks() == before
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def test_a_half_open_connection_says_nothing_at_all(
    postgres_url: str, tmp_path: Path
) -> None:
    """No answer and no end: only the client's own time-out helps."""
    async with _through(postgres_url, tmp_path) as (proxy, connection):
        proxy.add("SELECT 1", "half open")

        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT 1", timeout=0.05)


@pytest.mark.parametrize("do", ["drop before", "drop after"])
async def test_a_claim_whose_answer_was_lost_is_the_same_lease_again(
    valkey: Valkey, do: str
) -> None:
    """On Valkey, whichever way the wire broke: asked again, the owner holds it, others do not."""
    async with fault_proxy(valkey.url) as proxy:
        server = connect(proxy.url, wait_s=2.0)
        try:
            guard = ValkeyGuard(server, prefix=valkey.prefix)
            warm = CLAIM._replace(key=ClaimKey("c", "", "warm"))
            await guard.claim([warm], owner="me", now=NOW, lease=LEASE)  # scripts are loaded
            proxy.add("EVALSHA", do, times=2)  # type: ignore[arg-type]

            with pytest.raises(Unavailable):  # asked twice by itself
                await guard.claim([CLAIM], owner="me", now=NOW, lease=LEASE)
            (again,) = await guard.claim([CLAIM], owner="me", now=NOW, lease=LEASE)
            (others,) = await guard.claim([CLAIM], owner="you", now=NOW, lease=LEASE)
        finally:
            await server.aclose()

    assert isinstance(again, Lease)
    assert again.attempt == 1
    assert isinstance(others, Busy)
