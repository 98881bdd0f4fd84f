"""
One connection to a Valkey or Redis server, shared by any number of tasks.

Commands are written as they come and the replies handed out in their order, so concurrent
callers wait for the network together and not for each other. The client library opens the
connection and then only looks on: its pool and its streams took two to three times the
processor time of a call (benchmarks/guard.py).

Everything sent here may be sent again: the scripts give the same answer to the same lease,
and a message that was appended twice has one event id.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Protocol

from redis.asyncio import ConnectionPool
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, ResponseError

from onefold.adapters.valkey.errors import at_the_border
from onefold.errors import InvalidSetting

__all__ = ["Server", "ValkeyCluster", "ValkeyServer", "connect", "script"]


class LuaScript:
    """The text of a script and the name under which a server remembers it."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


def script(name: str) -> LuaScript:
    """The script of that name in `scripts/`."""
    home = files("onefold.adapters.valkey") / "scripts"
    return LuaScript((home / f"{name}.lua").read_text("utf-8"))


class Server(Protocol):
    """Where scripts run."""

    async def run(self, script: LuaScript, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        """
        Run *script*. One round trip; one more when the server has forgotten it.

        Raises:
            StoreUnavailable: it may have run; running it again is safe.
            StoreFailed: the server refused.
        """
        ...

    def scan(self, pattern: bytes, *, count: int) -> AsyncIterator[Sequence[bytes]]:
        """Walk the keys that match, in portions; those that come or go may be missed."""
        ...

    async def eviction(self) -> Mapping[str, Any]:
        """The `memory` section of `INFO`: `maxmemory` and `maxmemory_policy` are in it."""
        ...

    async def aclose(self) -> None:
        """Close the connection. Safe twice."""
        ...


def connect(url: str, *, wait_s: float = 5.0) -> Server:
    """
    The server that *url* names; connected with the first call.

    Args:
        url: `valkey://[user:password@]host[:port][/database]`, or `redis:`, `valkeys:` and
            `rediss:` (TLS), `unix:`; with `cluster+` before it for a cluster.
        wait_s: How long to wait for a connection or an answer.

    Raises:
        InvalidSetting: no such URL; nothing was opened.
    """
    plain = url.removeprefix("cluster+")
    if plain.startswith("valkey"):
        plain = "redis" + plain.removeprefix("valkey")
    try:
        if url.startswith("cluster+"):
            return ValkeyCluster(plain, wait_s=wait_s)
        return ValkeyServer(plain, wait_s=wait_s)
    except ValueError as wrong:
        raise InvalidSetting("valkey_url", str(wrong)) from None


def packed(parts: Sequence[bytes]) -> bytes:
    """A command in RESP, as both versions of the protocol have it."""
    out = [b"*%d\r\n" % len(parts)]
    for part in parts:
        out += (b"$%d\r\n" % len(part), part, b"\r\n")
    return b"".join(out)


class _More(Exception):
    """The bytes end within a reply."""


def parsed(data: bytes, at: int) -> tuple[Any, int]:
    """
    The reply of RESP 2 that begins at *at*, and where it ends; an error as a value.

    Raises:
        _More: it is not complete yet.
    """
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        raise _More
    kind, line, after = data[at : at + 1], data[at + 1 : line_end], line_end + 2
    if kind == b"$":
        return _bulk(data, int(line), after)
    if kind == b"*":
        return _array(data, int(line), after)
    if kind == b":":
        return int(line), after
    if kind == b"-":
        text = line.decode("utf-8", "replace")
        return (NoScriptError if text.startswith("NOSCRIPT") else ResponseError)(text), after
    return line, after


def _bulk(data: bytes, size: int, at: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, at
    if len(data) < at + size + 2:
        raise _More
    return data[at : at + size], at + size + 2


def _array(data: bytes, size: int, at: int) -> tuple[list[Any] | None, int]:
    if size < 0:
        return None, at
    items = []
    for _ in range(size):
        item, at = parsed(data, at)
        items.append(item)
    return items, at


class _Line(asyncio.Protocol):
    """
    One open connection: what was sent and not answered.

    The client library opens it (addresses, TLS, passwords); from then on the bytes are ours.
    """

    def __init__(self, connection: Any, wait_s: float) -> None:
        self._connection, self._wait_s = connection, wait_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unread = b""
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001
        self._transport.set_protocol(self)

    @property
    def open(self) -> bool:
        return not self._transport.is_closing()

    async def ask(self, command: bytes) -> Any:
        """Send *command* and wait for its reply; TimeoutError when none comes in time."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        # Nothing waits between these two: the order of waiting is the order on the wire.
        self._waiting.append(reply)
        self._transport.write(command)
        timer = self._loop.call_later(self._wait_s, _give_up, reply)
        try:
            return await reply
        finally:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        data, at = self._unread + data, 0
        try:
            while at < len(data):
                reply, at = parsed(data, at)
                self._answer(reply)
        except _More:
            pass
        self._unread = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionLost(str(exc or "closed by the server")))

    def _answer(self, reply: Any) -> None:
        future = self._waiting.popleft()
        if future.done():  # its caller was cancelled, or has waited for too long
            return
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    async def close(self) -> None:
        self._transport.abort()
        await self._connection.disconnect(nowait=True)


def _give_up(reply: "asyncio.Future[Any]") -> None:
    if not reply.done():
        reply.set_exception(TimeoutError("no reply in time"))


class ValkeyServer:
    """See `Server`. A lost connection is opened again, and what it may have lost sent again."""

    def __init__(self, url: str, *, wait_s: float) -> None:
        self._pool = ConnectionPool.from_url(
            url, protocol=2, socket_timeout=None, socket_connect_timeout=wait_s
        )
        self._wait_s = wait_s
        self._line: _Line | None = None
        self._opening = asyncio.Lock()

    async def run(self, script: LuaScript, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        rest = (b"%d" % len(keys), *keys, *args)
        with at_the_border():
            try:
                return await self._ask(b"EVALSHA", script.sha, *rest)
            except NoScriptError:
                return await self._ask(b"EVAL", script.text, *rest)

    async def scan(self, pattern: bytes, *, count: int) -> AsyncIterator[Sequence[bytes]]:
        cursor = b"0"
        while True:
            with at_the_border():
                match = (b"MATCH", pattern, b"COUNT", b"%d" % count)
                cursor, keys = await self._ask(b"SCAN", cursor, *match)
            yield keys
            if cursor == b"0":
                return

    async def eviction(self) -> Mapping[str, Any]:
        with at_the_border():
            text = (await self._ask(b"INFO", b"memory")).decode()
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    async def aclose(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def _ask(self, *parts: bytes) -> Any:
        command = packed(parts)
        try:
            return await self._ask_once(command)
        except ConnectionLost:
            return await self._ask_once(command)

    async def _ask_once(self, command: bytes) -> Any:
        line = self._line
        if line is None or not line.open:
            line = await self._opened()
        try:
            return await line.ask(command)
        except TimeoutError:
            await self._drop(line)  # what else waits there has waited in vain too
            raise

    async def _opened(self) -> _Line:
        # The greetings too, and the wait for another task's: or they would add up.
        async with asyncio.timeout(self._wait_s), self._opening:
            if self._line is not None and self._line.open:  # another task was faster
                return self._line
            await self.aclose()
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            self._line = _Line(connection, self._wait_s)
            return self._line

    async def _drop(self, line: _Line) -> None:
        if self._line is line:
            self._line = None
            await line.close()


class ValkeyCluster:
    """See `Server`, for a cluster: the client finds the node of a slot and follows moves."""

    def __init__(self, url: str, *, wait_s: float) -> None:
        self._client = RedisCluster.from_url(
            url, protocol=2, socket_timeout=wait_s, socket_connect_timeout=wait_s
        )

    async def run(self, script: LuaScript, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        rest: tuple[bytes, ...] = (b"%d" % len(keys), *keys, *args)
        with at_the_border():
            try:
                return await self._client.execute_command("EVALSHA", script.sha, *rest)
            except NoScriptError:
                return await self._client.execute_command("EVAL", script.text, *rest)

    async def scan(self, pattern: bytes, *, count: int) -> AsyncIterator[Sequence[bytes]]:
        with at_the_border():
            async for key in self._client.scan_iter(match=pattern, count=count):
                yield [key]

    async def eviction(self) -> Mapping[str, Any]:
        """Of the first primary that limits its memory and evicts, else of any."""
        memory: Mapping[str, Any] = {}
        with at_the_border():
            await self._client.initialize()
            for node in self._client.get_primaries():
                memory = await self._client.info("memory", target_nodes=node)
                if memory["maxmemory"] and memory["maxmemory_policy"] != "noeviction":
                    break
        return memory

    async def aclose(self) -> None:
        await self._client.aclose()
