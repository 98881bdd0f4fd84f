"""A way to a real PostgreSQL that is cut at its COMMIT."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

Cut = Literal["nowhere", "before", "after"]


class CommitCutter:
    """
    Passes everything on between client and server; at a COMMIT it drops the connection.

    It understands as much of the protocol (PostgreSQL's manual, "Message Formats") as it
    takes to tell the COMMIT, which is sent as a simple query.

    Attributes:
        cut: `before` the server got the COMMIT, or `after` it answered; the client hears
            nothing either way.
    """

    def __init__(self, server: Path) -> None:
        self._server = server
        self.cut: Cut = "nowhere"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_server = await asyncio.open_unix_connection(self._server)
        answers = asyncio.create_task(_pump(upstream, writer))
        try:
            to_server.write(await _startup(reader))
            while True:
                kind, message = await _message(reader)
                commits = kind == b"Q" and message[5:] == b"COMMIT\0"
                if commits and self.cut == "before":
                    return
                if commits and self.cut == "after":
                    answers.cancel()
                    to_server.write(message)
                    await _ready(upstream)
                    return
                to_server.write(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one side is gone: so is the other
        finally:
            answers.cancel()
            for side in (writer, to_server):
                side.transport.abort()


async def _startup(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(int.from_bytes(size) - 4)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


async def _ready(upstream: asyncio.StreamReader) -> None:
    """Until the server says that it is done with what it was sent."""
    kind = b""
    while kind != b"Z":
        kind, _ = await _message(upstream)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
    writer.close()


@asynccontextmanager
async def commit_cutter(url: str, home: Path) -> AsyncIterator[tuple[CommitCutter, str]]:
    """A cutter before the server at *url*, and the URL that leads through it."""
    way, _, server = url.partition("?host=")
    cutter = CommitCutter(Path(server) / ".s.PGSQL.5432")
    listening = await asyncio.start_unix_server(cutter.serve, home / ".s.PGSQL.5432")
    try:
        yield cutter, f"{way}?host={home}"
    finally:
        listening.close()
        await listening.wait_closed()
