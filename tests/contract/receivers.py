"""What stands behind our sinks in the contract: a folder, a bucket, three kinds of HTTP server."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from tests.support_journal import Journal
from tests.support_receiver import Received, Said
from tests.support_receiver import Receiver as Playing

from onefold.adapters.sinks import registry
from onefold.adapters.sinks.file import FileSink
from onefold.core.published import NoSize, require
from onefold.ports.sink import SinkFactory
from onefold.testing.contracts.sinks import SAID, Arrival, SinkFeatures, Trouble, parcel

_SAYS: Final[Mapping[Trouble, Any]] = {
    Trouble.BUSY: (503, {}, SAID.encode()),
    Trouble.CROWDED: (429, {"retry-after": "60"}, SAID.encode()),
    Trouble.REFUSES: (400, {}, SAID.encode()),
    Trouble.LOCKED_OUT: (401, {}, SAID.encode()),
    Trouble.CLOSED_DOWN: (410, {}, SAID.encode()),
    Trouble.DEAF: "reset",
    Trouble.SILENT: "stall",
}
_TAKES: Final = {None, Trouble.DEAF, Trouble.SILENT}
_FILE: Final = FileSink
_FILE_FEATURES: Final = SinkFeatures(once=True, troubles=frozenset({Trouble.AWAY}))
_S3: Final = partial(registry.make, "s3")
_S3_FEATURES: Final = SinkFeatures(
    once=True,
    troubles=frozenset(
        {Trouble.AWAY, Trouble.BUSY, Trouble.REFUSES, Trouble.LOCKED_OUT, Trouble.DEAF}
    ),
)
# A fixed timeout is too long to wait for, and most say at once how it ended.
HTTP: Final = frozenset(Trouble) - {Trouble.SILENT, Trouble.UNFINISHED}


@dataclass(kw_only=True)
class Web:
    """A sink that speaks HTTP, and a server on loopback that takes what it posts."""

    factory: SinkFactory
    features: SinkFeatures
    config: Mapping[str, Any]
    secrets: Mapping[str, Any]
    well: tuple[dict[str, str], bytes] = field(default_factory=lambda: ({}, SAID.encode()))
    unfinished: tuple[dict[str, str], bytes] = field(default_factory=lambda: ({}, b""))
    _plays: Playing = field(default_factory=Playing)
    _turned: list[tuple[int, Trouble | None]] = field(default_factory=lambda: [(0, None)])
    _server: asyncio.Server | None = None

    async def arrived(self) -> Sequence[Arrival]:
        return [_arrival(one) for one in self._taken() if one.line.startswith("POST")]

    async def trouble(self, kind: Trouble | None) -> None:
        self._turned.append((len(self._plays.got), kind))
        self._plays.always = self.says(kind)
        if kind is Trouble.AWAY:
            await self.close()
        elif self._server is None:
            await self.open()

    def says(self, kind: Trouble | None) -> Any:
        """What it answers in that trouble."""
        if kind is Trouble.UNFINISHED:
            return (200, *self.unfinished)
        return (200, *self.well) if kind is None else _SAYS.get(kind, 200)

    async def open(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._plays.serve, "127.0.0.1", self._plays.port)
        self._plays.port = self._server.sockets[0].getsockname()[1]
        self._plays.always = self.says(None)
        self.config = {
            **self.config,
            "url": f"http://127.0.0.1:{self._plays.port}/x",
            "loopback": True,
        }

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Let go of whoever waits for an answer."""
        self._plays.over.set()
        await self.close()

    def _taken(self) -> list[Received]:
        ends = [start for start, _ in self._turned[1:]] + [len(self._plays.got)]
        spans = zip(self._turned, ends, strict=True)
        return [
            one
            for (start, kind), end in spans
            if kind in _TAKES
            for one in self._plays.got[start:end]
        ]


def _arrival(one: Received) -> Arrival:
    return Arrival(one.headers.get("webhook-id"), one.body)


@dataclass(kw_only=True)
class Account(Web):
    """An account at Tradervue; what stands in its journal has arrived."""

    journal: Journal = field(default_factory=Journal)

    async def arrived(self) -> Sequence[Arrival]:
        return [Arrival(None, body) for body in self.journal.taken]

    def says(self, kind: Trouble | None) -> Any:
        self.journal.takes = None if kind is Trouble.UNFINISHED else 0
        if kind is None and self.journal.under_way:
            self.journal.finish()
        if kind in {None, Trouble.UNFINISHED}:
            return self.journal
        return self._deaf if kind is Trouble.DEAF else super().says(kind)

    def _deaf(self, asked: Received) -> Said:
        self.journal(asked)
        return "reset"


@asynccontextmanager
async def opened(made: Web) -> AsyncIterator[Web]:
    """That server, listening."""
    await made.open()
    try:
        yield made
    finally:
        await made.end()


def web(kind: str, features: SinkFeatures, **more: Any) -> AbstractAsyncContextManager[Web]:
    """A server for that kind of sink."""
    return opened(Web(factory=partial(registry.make, kind), features=features, **more))


def history(numbers: int) -> bytes:
    """What Myfxbook shows of an account in which the parcels 0 to *numbers* are seen."""
    rows = []
    for number in range(numbers):
        data = require(parcel(number).body)[1]
        assert isinstance(data, NoSize)
        rows.append(
            {
                "openTime": _as_it_says(data.entry_time),
                "closeTime": _as_it_says(data.exit_time),
                "symbol": data.instrument,
                "action": data.side.title(),
                "openPrice": msgspec.Raw(data.entry_price.encode()),
                "closePrice": msgspec.Raw(data.exit_price.encode()),
            }
        )
    return msgspec.json.encode({"error": False, "message": SAID, "history": rows})


def _as_it_says(text: str) -> str:
    return datetime.fromisoformat(text).strftime("%m/%d/%Y %H:%M")


@dataclass(kw_only=True)
class Folder:
    """A folder of files; away, there is something else in its place."""

    home: Path
    factory: SinkFactory = _FILE
    features: SinkFeatures = _FILE_FEATURES
    secrets: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Mapping[str, Any]:
        return {"path": str(self.home)}

    async def arrived(self) -> Sequence[Arrival]:
        files = self.home.rglob("*.json") if self.home.is_dir() else ()
        return [Arrival(one.stem, _line(one.read_bytes())) for one in files]

    async def trouble(self, kind: Trouble | None) -> None:
        if kind is Trouble.AWAY:
            self.home.write_text("not a folder")
        elif self.home.is_file():
            self.home.unlink()


def _line(text: bytes) -> bytes:
    """A file ends its line; one that does not is torn."""
    assert text.endswith(b"\n"), f"torn: {text!r}"
    return text.removesuffix(b"\n")


@dataclass(kw_only=True)
class Bucket:
    """
    A bucket behind a real S3 interface, and before that a server that can misbehave.

    It passes requests on, or says no by itself, or passes them on and loses the answer.
    """

    upstream: int
    client: Any
    secrets: Mapping[str, Any]
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    factory: SinkFactory = _S3
    features: SinkFeatures = _S3_FEATURES
    _kind: Trouble | None = None
    _port: int = 0
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[Any]] = field(default_factory=set)

    async def arrived(self) -> Sequence[Arrival]:
        return await asyncio.to_thread(self._objects)

    def _objects(self) -> Sequence[Arrival]:
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        keys = [one["Key"] for one in listed]
        bodies = [self.client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in keys]
        ids = [Path(key).stem for key in keys]
        return [Arrival(*pair) for pair in zip(ids, bodies, strict=True)]

    async def trouble(self, kind: Trouble | None) -> None:
        self._kind = kind
        if kind is Trouble.AWAY:
            await self.close()
        elif self._server is None:
            await self.open()

    async def open(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        endpoint = f"http://127.0.0.1:{self._port}"
        self.config = {"bucket": self.name, "endpoint": endpoint, "loopback": True}

    async def close(self) -> None:
        """Listen no more, and drop the connections there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
            for serving in self._serving:
                serving.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            self._serving.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(cast("asyncio.Task[Any]", asyncio.current_task()))
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            headers = Received(head).headers
            if "expect" in headers:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            answer = await self._answer(head, body)
            if self._kind is not Trouble.DEAF:
                writer.write(answer)
                await writer.drain()

    async def _answer(self, head: bytes, body: bytes) -> bytes:
        if self._kind in {None, Trouble.DEAF}:
            return await _passed_on(self.upstream, head, body)
        status = {Trouble.BUSY: 503, Trouble.REFUSES: 400, Trouble.LOCKED_OUT: 403}[self._kind]
        text = f"<Error><Code>No</Code><Message>{SAID}</Message></Error>".encode()
        said = b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        return said % (status, len(text)) + text


async def _passed_on(port: int, head: bytes, body: bytes) -> bytes:
    line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [one for one in fields if not one.lower().startswith((b"expect:", b"connection:"))]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        writer.write(b"\r\n".join([line, *kept, b"Connection: close", b"", b""]) + body)
        return await reader.read()
