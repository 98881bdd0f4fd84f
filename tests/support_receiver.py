"""A receiver on loopback that keeps raw bytes and plays a script, one entry a request."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Said = int | str | tuple[int, dict[str, str], bytes]


@dataclass
class Received:
    """One request as it came over the wire."""

    raw: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = self.raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def line(self) -> str:
        return self.raw.partition(b"\r\n")[0].decode()


@dataclass
class Receiver:
    """
    What it got, and what it will say.

    A script's entry is a status, a status with headers and a body, `stall` (no answer until
    the end), `reset` (the connection is cut), `huge` (200 and an endless body), `slow` (200,
    a byte at a time without end). What it says when that is over may be a function's.
    """

    port: int = 0
    script: list[Said] = field(default_factory=list)
    got: list[Received] = field(default_factory=list)
    always: Said | Callable[[Received], Said] = 200
    over: asyncio.Event = field(default_factory=asyncio.Event)
    on_got: Callable[[Received], None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                one = Received(head)
                length = int(one.headers.get("content-length", "0"))
                one.raw += await reader.readexactly(length)
                self.got.append(one)
                if self.on_got is not None:
                    self.on_got(one)
                said = self.script.pop(0) if self.script else self.always
                if not await self._answer(said(one) if callable(said) else said, writer):
                    break
        writer.close()

    async def _answer(self, said: Said, writer: asyncio.StreamWriter) -> bool:
        if said == "stall":
            await self.over.wait()
            return False
        if said == "reset":
            writer.transport.abort()
            return False
        if said == "huge" or said == "slow":  # noqa: PLR1714 (an answer need not be hashable)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n")
            while not self.over.is_set() and not writer.is_closing():
                writer.write(b"x" * (65536 if said == "huge" else 1))
                await writer.drain()
                if said == "slow":
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.over.wait(), 0.05)
            return False
        status, headers, body = said if isinstance(said, tuple) else (int(said), {}, b"")
        lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in headers.items())]
        lines.append(f"content-length: {len(body)}")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        await writer.drain()
        return True


@asynccontextmanager
async def receiving(
    *script: Said, always: Said | Callable[[Received], Said] = 200
) -> AsyncIterator[Receiver]:
    """A receiver for the block."""
    made = Receiver(script=list(script), always=always)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.over.set()
        server.close()
        await asyncio.sleep(0)
