"""
The load: keep-alive connections that post prepared bodies and read just enough of the answers.

A general HTTP client would use more CPU than the server it measures. This one writes bytes
that were made before the clock started, and looks at an answer's status, length and
`applied` alone. Runs in a process of its own.
"""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import psutil
import uvloop

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_APPLIED = re.compile(rb'"applied":(\d+)')


@dataclass(frozen=True, kw_only=True)
class Load:
    """
    What to send, and whom to watch.

    Attributes:
        port: Of the server, on loopback.
        key: The API key.
        path: What is posted to.
        warm_up: A body for each connection, sent before the clock starts.
        bodies: The bodies of each connection, sent one after the other.
        watched: Process ids by name; the CPU time of each with its children is reported.
    """

    port: int
    key: str
    path: str
    warm_up: Sequence[bytes]
    bodies: Sequence[Sequence[bytes]]
    watched: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """
    What a run took and did.

    Attributes:
        applied: Events that the answers said were new, without those of the warm-up.
        elapsed_s: From the first request to the last answer.
        client_cpu_s: Of this process in that time.
        cpu_s: Of each watched process.
        latencies_s: Of each request, in the order of the answers.
    """

    applied: int
    elapsed_s: float
    client_cpu_s: float
    cpu_s: dict[str, float]
    latencies_s: Sequence[float]


class _Connection(asyncio.Protocol):
    """Sends its requests one after the other, each when the one before is answered."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._requests: Iterator[bytes] = iter(())
        self._received = bytearray()
        self._sent_at = 0.0
        self._over: asyncio.Future[None] | None = None
        self.applied = 0
        self.latencies_s: list[float] = []

    def send_all(self, requests: Sequence[bytes]) -> asyncio.Future[None]:
        """Done when the last of *requests* was answered 201; fails at the first other answer."""
        self.applied, self.latencies_s = 0, []
        self._requests = iter(requests)
        self._over = asyncio.get_running_loop().create_future()
        self._send_next()
        return self._over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's derives from none

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received, 0, head_end) if head_end > 0 else None
        if length and len(self._received) >= head_end + 4 + int(length[1]):
            answer = bytes(self._received)
            self._received.clear()
            self._take(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._over and not self._over.done():
            self._over.set_exception(exc or ConnectionError("the server closed the connection"))

    def close(self) -> None:
        assert self._transport
        self._transport.close()

    def _send_next(self) -> None:
        assert self._transport
        assert self._over
        request = next(self._requests, None)
        if request is None:
            self._over.set_result(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def _take(self, answer: bytes) -> None:
        assert self._over
        self.latencies_s.append(time.perf_counter() - self._sent_at)
        applied = _APPLIED.search(answer)
        if not answer.startswith(b"HTTP/1.1 201") or applied is None:
            self._over.set_exception(RuntimeError(answer.decode(errors="replace")))
            return
        self.applied += int(applied[1])
        self._send_next()


def _request(load: Load, body: bytes) -> bytes:
    head = (
        f"POST {load.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {load.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def cpu_s(pid: int) -> float:
    """The CPU time of a process, of its children, and of those it had."""
    process = psutil.Process(pid)
    living = [process, *process.children(recursive=True)]
    own = [p.cpu_times() for p in living if p.is_running()]
    gone = process.cpu_times()
    return sum(t.user + t.system for t in own) + gone.children_user + gone.children_system


async def _measure(load: Load) -> Measured:
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(_Connection, "127.0.0.1", load.port))[1] for _ in load.bodies
    ]
    requests = [[_request(load, body) for body in bodies] for bodies in load.bodies]
    warm_up = [_request(load, body) for body in load.warm_up]
    await asyncio.gather(*(c.send_all([r]) for c, r in zip(connections, warm_up, strict=True)))

    before = {name: cpu_s(pid) for name, pid in load.watched.items()}
    own, start = time.process_time(), time.perf_counter()
    await asyncio.gather(*(c.send_all(r) for c, r in zip(connections, requests, strict=True)))
    elapsed_s, own_s = time.perf_counter() - start, time.process_time() - own
    cpu = {name: cpu_s(pid) - before[name] for name, pid in load.watched.items()}

    for connection in connections:
        connection.close()
    return Measured(
        applied=sum(c.applied for c in connections),
        elapsed_s=elapsed_s,
        client_cpu_s=own_s,
        cpu_s=cpu,
        latencies_s=[s for c in connections for s in c.latencies_s],
    )


def measure(load: Load) -> Measured:
    """
    Send the whole load and wait for every answer.

    Raises:
        RuntimeError: an answer was not 201; says which.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(load))
