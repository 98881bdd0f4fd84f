"""A Onefold server, asked over HTTP: calls are repeated while it cannot be reached."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import msgspec

from onefold.errors import FieldProblem, InvalidInput, ServerUnavailable
from onefold_server.cli.ingest.spec import wrong

ATTEMPTS: Final = 8  # with the waits below for about a minute
FIRST_WAIT_S: Final = 0.5  # doubled at each attempt
LONGEST_WAIT_S: Final = 30.0  # also when the server asks for more
_BUSY: Final = frozenset({429, 502, 503, 504})

Sleep = Callable[[float], Awaitable[None]]


class Remote:
    """
    Calls a server; what is called is safe to repeat, as everything of telemetry is.

    Args:
        http: A client whose base is the server's address.
        sleep: Waits that many seconds between attempts.
        now: Tells the time, for answers that say until when to wait.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._http, self._sleep, self._now = http, sleep, now

    async def get(self, path: str, **query: Any) -> Any:
        """What is at *path*. Raises as `call`."""
        return await self.call("GET", path, query=query)

    async def post(self, path: str, body: Any) -> Any:
        """The answer to *body*, which is sent byte for byte the same at each attempt."""
        return await self.call("POST", path, content=msgspec.json.encode(body))

    async def call(
        self, method: str, path: str, *, query: Any = None, content: bytes | None = None
    ) -> Any:
        """
        The decoded answer.

        Raises:
            ServerUnavailable: it did not answer, or was busy, at the last attempt too. What
                was sent may have been recorded; sending it again is safe.
            InvalidInput: it refuses the call, or is no Onefold server.
        """
        trouble = ""
        for attempt in range(ATTEMPTS):
            wait_s = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S)
            try:
                answer = await self._http.request(method, path, params=query, content=content)
            except (httpx.UnsupportedProtocol, httpx.InvalidURL):
                raise wrong(self._server, "is no http:// or https:// address") from None
            except httpx.TransportError as error:
                trouble = str(error) or type(error).__name__
            else:
                if answer.status_code not in _BUSY:
                    return self._read(answer)
                trouble = f"answered {answer.status_code}: {_detail(answer)}"
                wait_s = self._asked_wait_s(answer) or wait_s
            if attempt < ATTEMPTS - 1:
                await self._sleep(wait_s)
        raise ServerUnavailable(f"{self._server}: {trouble} ({ATTEMPTS} attempts)")

    @property
    def _server(self) -> str:
        return str(self._http.base_url).rstrip("/")

    def _asked_wait_s(self, answer: httpx.Response) -> float | None:
        """What `Retry-After` asks for (RFC 9110, section 10.2.3), up to the longest wait."""
        asked = answer.headers.get("retry-after", "").strip()
        if asked.isdecimal():
            return min(float(asked), LONGEST_WAIT_S)
        try:
            until = parsedate_to_datetime(asked)
        except ValueError:
            return None
        return min(max((until - self._now()).total_seconds(), 0.0), LONGEST_WAIT_S)

    def _read(self, answer: httpx.Response) -> Any:
        if not answer.is_success:
            reason = f"answered {answer.status_code}: {_detail(answer)}"
            raise InvalidInput([FieldProblem(self._server, "refused", reason)])
        try:
            return msgspec.json.decode(answer.content)
        except (msgspec.DecodeError, UnicodeError):
            raise wrong(self._server, "does not answer as a Onefold server does") from None


def _detail(answer: httpx.Response) -> str:
    try:
        told = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeError):
        told = None
    detail = told.get("detail") if isinstance(told, dict) else None
    return str(detail or answer.reason_phrase)


@asynccontextmanager
async def connected(url: str, key: str | None) -> AsyncIterator[Remote]:
    """
    The server at *url*, called with *key*.

    Raises:
        InvalidInput: there is no key, or *url* is not one.
    """
    if not key:
        raise wrong("--key", "a server asks for one; say it, or set ONEFOLD_API_KEY")
    if not key.isascii() or not key.isprintable():
        raise wrong("--key", "is no API key")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        http = httpx.AsyncClient(base_url=url, headers=headers, timeout=60)
    except httpx.InvalidURL:
        raise wrong(url, "is no http:// or https:// address") from None
    async with http:
        yield Remote(http)
