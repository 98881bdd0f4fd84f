"""
A TCP proxy between a client and its server that breaks the wire at the request you name.

It understands as much of a protocol as it takes to tell what is asked and when it is
answered: PostgreSQL's messages (its manual, "Message Formats") and RESP, which Valkey and
Redis speak. Limit: no TLS; a PostgreSQL client that asks for it is told to do without.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

__all__ = ["Fault", "FaultProxy", "fault_proxy"]

Do = Literal["drop before", "drop after", "half open", "hold"]


@dataclass
class Fault:
    """
    What happens to a request whose text *when* matches, a pattern, the first *times* it comes.

    `drop before`: the server never gets it. `drop after`: the server has done it and its
    answer is lost. `half open`: from then on nothing passes, and nobody hangs up. `hold`:
    it waits until `FaultProxy.release`.
    """

    when: str
    do: Do
    times: int = 1


class Request(NamedTuple):
    """One request as it is on the wire."""

    text: str  # SQL, or a command; empty for what only prepares one
    wire: bytes
    answers: int  # how many answers it will get
    refusal: bytes = b""  # what the proxy answers itself, and the server never sees


class Framing(Protocol):
    """Where requests and answers begin and end."""

    async def request(self, reader: asyncio.StreamReader) -> Request:
        """The next request; IncompleteReadError at the end."""
        ...

    async def answer(self, reader: asyncio.StreamReader) -> tuple[bytes, bool]:
        """The next piece of an answer, and whether it completes one."""
        ...


class PostgresFraming:
    """Messages of one PostgreSQL connection; a unit ends with Sync or a simple query."""

    def __init__(self) -> None:
        self._started = False
        self._statements: dict[bytes, str] = {}

    async def request(self, reader: asyncio.StreamReader) -> Request:
        if not self._started:
            size = await reader.readexactly(4)
            wire = size + await reader.readexactly(int.from_bytes(size) - 4)
            if wire[4:] in _ENCRYPTION:  # what clients ask for first over TCP
                return Request("", wire, 0, refusal=b"N")
            self._started = True
            return Request("", wire, 1)
        text, wire = "", b""
        while True:
            kind, message = await _message(reader)
            wire += message
            names = message[5:].split(b"\0")
            if kind == b"P":
                self._statements[names[0]] = names[1].decode(errors="replace")
            elif kind == b"B":
                text = self._statements.get(names[1], "")
            elif kind == b"Q":
                return Request(names[0].decode(errors="replace"), wire, 1)
            elif kind == b"S":
                return Request(text, wire, 1)
            elif kind not in b"CDE":  # a password, a flush, a goodbye: no answer is complete
                return Request("", wire, 0)

    async def answer(self, reader: asyncio.StreamReader) -> tuple[bytes, bool]:
        kind, message = await _message(reader)
        return message, kind == b"Z"


# SSLRequest and GSSENCRequest (PostgreSQL's manual, "Message Formats"); N: in the clear.
_ENCRYPTION = tuple(code.to_bytes(4, "big") for code in (80877103, 80877104))


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


class RespFraming:
    """Commands and replies of RESP 2 and 3, without subscriptions."""

    async def request(self, reader: asyncio.StreamReader) -> Request:
        wire = await _resp(reader)
        return Request(b" ".join(wire.split(b"\r\n")[2::2]).decode(errors="replace"), wire, 1)

    async def answer(self, reader: asyncio.StreamReader) -> tuple[bytes, bool]:
        wire = await _resp(reader)
        return wire, not wire.startswith(b">")


async def _resp(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readuntil(b"\r\n")
    kind, count = line[:1], line[1:-2]
    if kind in b"$=!" and count != b"-1":
        return line + await reader.readexactly(int(count) + 2)
    if kind in b"*~>%" and count != b"-1":
        for _ in range(int(count) * (2 if kind == b"%" else 1)):
            line += await _resp(reader)
    return line


_FRAMINGS: dict[str, Callable[[], Framing]] = {
    "postgresql": PostgresFraming,
    "postgres": PostgresFraming,
    "redis": RespFraming,
    "valkey": RespFraming,
}

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass
class FaultProxy:
    """
    See `fault_proxy`.

    Attributes:
        url: Leads through the proxy.
        faults: Taken in their order; one that has happened often enough is left out.
        split: Hand answers to the client byte by byte.
        done: The requests to which something was done.
    """

    url: str
    framing: Callable[[], Framing]
    connect: Connect
    faults: list[Fault] = field(default_factory=list)
    split: bool = False
    done: list[str] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    _links: set["asyncio.Task[None]"] = field(default_factory=set)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, when: str, do: Do, *, times: int = 1) -> None:
        """Do that to the next requests whose text the pattern *when* matches."""
        self.faults.append(Fault(when, do, times))

    def release(self) -> None:
        """Let go on what is held, now and from now on."""
        self._released.set()

    def fault_for(self, text: str) -> Do | None:
        """What is to happen to this request; counted as done."""
        for fault in self.faults:
            if fault.times and text and re.match(fault.when, text):
                fault.times -= 1
                self.done.append(text)
                return fault.do
        return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection; it ends with the server's, or with the proxy."""
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        try:
            upstream, to_server = await self.connect()
        except OSError:  # no server: the client is told as the server would tell it
            writer.transport.abort()
            return
        link = _Link(self, self.framing(), upstream, writer)
        answers = asyncio.create_task(link.hand_on())
        try:
            await self._requests(link, reader, to_server)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one side is gone: so is the other
        finally:
            answers.cancel()
            await asyncio.wait((answers,))
            for side in (writer, to_server):
                side.transport.abort()

    async def aclose(self) -> None:
        """Hang up on every client."""
        self.release()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _requests(
        self, link: "_Link", reader: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        while True:
            request = await link.framing.request(reader)
            if request.refusal:
                link.answer(request.refusal)
                continue
            do = self.fault_for(request.text)
            if do == "drop before":
                return
            if do == "half open":
                link.silent = True
                await reader.read()  # until the client hangs up
                return
            if do == "hold":
                self.held.set()
                await self._released.wait()
            if do == "drop after":
                await link.until_answered()
                link.silent = True
            link.asked += request.answers
            to_server.write(request.wire)
            if do == "drop after":
                await link.until_answered()
                return


class _Link:
    """The answers of one connection: handed on, counted, or kept silent about."""

    def __init__(
        self,
        proxy: FaultProxy,
        framing: Framing,
        upstream: asyncio.StreamReader,
        client: asyncio.StreamWriter,
    ) -> None:
        self._proxy, self.framing, self._upstream, self._client = proxy, framing, upstream, client
        self.asked = self._answered = 0
        self.silent = False
        self._news = asyncio.Event()

    async def hand_on(self) -> None:
        """From the server to the client, until one of them is gone."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                piece, complete = await self.framing.answer(self._upstream)
                if not self.silent:
                    await self._write(piece)
                self._answered += complete
                self._news.set()
        self._news.set()
        self._client.close()

    def answer(self, wire: bytes) -> None:
        """Answer in the server's place."""
        self._client.write(wire)

    async def until_answered(self) -> None:
        """Return when every request so far has its whole answer, or the server is gone."""
        while self._answered < self.asked and not self._upstream.at_eof():
            self._news.clear()
            await self._news.wait()

    async def _write(self, piece: bytes) -> None:
        if not self._proxy.split:
            self._client.write(piece)
            return
        for byte in piece:
            self._client.write(bytes((byte,)))
            await self._client.drain()
            await asyncio.sleep(0)


@asynccontextmanager
async def fault_proxy(url: str, folder: Path | None = None) -> AsyncIterator[FaultProxy]:
    """
    A proxy before the server that *url* names: give clients `FaultProxy.url` instead.

    Args:
        url: `postgresql://…` or `valkey://…`; with `?host=/folder` a server's Unix socket.
        folder: Where the proxy's own Unix socket is made, if the server has one.
    """
    parts = urlsplit(url)
    sockets = parse_qs(parts.query).get("host")
    framing = _FRAMINGS[parts.scheme]
    proxy = FaultProxy(url, framing, _connect(parts, sockets))
    if sockets and folder is not None:
        listening: Any = await asyncio.start_unix_server(proxy.serve, folder / _SOCKET)
        proxy.url = url.replace(sockets[0], str(folder))
    else:
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        who, at, _ = parts.netloc.rpartition("@")
        query = parse_qs(parts.query)
        query.pop("host", None)  # a client would follow it past the proxy
        here = parts._replace(
            netloc=f"{who}{at}127.0.0.1:{port}", query=urlencode(query, doseq=True)
        )
        proxy.url = urlunsplit(here)
    try:
        yield proxy
    finally:
        listening.close()
        await proxy.aclose()


_SOCKET = ".s.PGSQL.5432"


def _connect(parts: Any, sockets: list[str] | None) -> Connect:
    if sockets:
        return lambda: asyncio.open_unix_connection(Path(sockets[0]) / _SOCKET)
    port = parts.port or (5432 if parts.scheme.startswith("postgres") else 6379)
    return lambda: asyncio.open_connection(parts.hostname, port)
