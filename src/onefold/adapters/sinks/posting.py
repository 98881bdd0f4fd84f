"""One guarded HTTP request, and what its answer means. Shared by the sinks that speak HTTP."""

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

from onefold.adapters.sinks.address import Blocked, Resolve, Target, checked, resolve
from onefold.adapters.sinks.threads import Threads
from onefold.ports.sink import DestinationEffect, OutcomeKind, SendOutcome

# They tell URLs, and a URL may hold a session (test_myfxbook_is_looked_at).
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

CONNECT_S: Final = 5.0
TOTAL_S: Final = 30.0
MOST_BYTES: Final = 64 * 1024  # of an answer; the rest is not read

_RETRIED: Final = frozenset({408, 425, 429})
_NEVER: Final = frozenset({501, 505})  # of the 5xx those that say what no time changes


class HttpAnswer:
    """What came back: the status, the headers, the first 64 KiB."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


class Poster:
    """
    Requests to one target: no redirects, no proxies of the environment, bounded in time and size.

    Args:
        to: Where.
        loopback: Whether it may be this machine, and nothing else.
        ask: How names are resolved; by default as the system does, in threads of its own.
        total_s: How long a request may take in all.
    """

    def __init__(
        self,
        to: Target,
        *,
        loopback: bool = False,
        ask: Resolve | None = None,
        total_s: float = TOTAL_S,
    ) -> None:
        self._to, self._loopback, self._total_s = to, loopback, total_s
        self._threads = Threads("names", wait_s=total_s)
        self._ask = ask or self._resolve
        self._client = httpx.AsyncClient(
            cookies=_no_cookies(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(total_s, connect=min(CONNECT_S, total_s)),
            verify=ssl.create_default_context(),
        )

    async def request(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        path: str | None = None,
    ) -> HttpAnswer | SendOutcome:
        """The answer; or, when there was none, the outcome that this is."""
        try:
            async with asyncio.timeout(self._total_s):
                return await self._request(method, headers, body, path)
        except Blocked:
            return SendOutcome(OutcomeKind.PERMANENT, "blocked_address")
        except (TimeoutError, httpx.TimeoutException):
            return SendOutcome(OutcomeKind.RETRY, "timeout")
        except httpx.ConnectError as error:
            return SendOutcome(OutcomeKind.RETRY, "tls" if _of_tls(error) else "connect")
        except (httpx.HTTPError, httpx.InvalidURL):
            return SendOutcome(OutcomeKind.RETRY, "connection")
        except OSError:
            return SendOutcome(OutcomeKind.RETRY, "dns")

    async def _request(
        self, method: str, headers: Mapping[str, str], body: bytes | None, path: str | None
    ) -> HttpAnswer:
        address = await checked(self._to, ask=self._ask, loopback=self._loopback)
        to = self._to if path is None else Target(*_moved(self._to, path))
        request = self._client.build_request(
            method,
            to.at(address),
            headers={**headers, "Host": to.authority},
            content=body,
            extensions={"sni_hostname": to.host},  # the certificate must be the name's
        )
        answer = await self._client.send(request, stream=True)
        try:
            read = bytearray()
            async for chunk in answer.aiter_raw():
                read += chunk[: MOST_BYTES - len(read)]
                if len(read) >= MOST_BYTES:
                    break
        finally:
            await answer.aclose()
        return HttpAnswer(answer.status_code, answer.headers, bytes(read))

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        return await self._threads.run(resolve, host, port)

    async def aclose(self) -> None:
        """Close the connections. Safe twice."""
        await self._client.aclose()


def _no_cookies() -> CookieJar:
    """A jar that takes none: a receiver marks nobody, and fills no memory."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


def _moved(to: Target, path: str) -> tuple[str, str, int, str]:
    return to.scheme, to.host, to.port, path


def _of_tls(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def classified(status: int, headers: Mapping[str, str], *, now: datetime) -> SendOutcome:
    """
    What a receiver's status means (research note trace, section 10).

    Any 2xx is received. A redirect is never followed: it would take the body and its
    signature to whom nobody chose.
    """
    reason = f"http_{status}"
    if 200 <= status < 300:
        return SendOutcome(OutcomeKind.DELIVERED, reason, status)
    if 300 <= status < 400:
        return SendOutcome(OutcomeKind.PERMANENT, "redirect", status)
    if status in {401, 403}:
        return SendOutcome(OutcomeKind.PERMANENT, reason, status, toll=DestinationEffect.PAUSE)
    if status == 410:
        return SendOutcome(OutcomeKind.PERMANENT, reason, status, toll=DestinationEffect.DISABLE)
    if status in _RETRIED or (500 <= status < 600 and status not in _NEVER):
        asked = retry_after(headers.get("retry-after"), now=now)
        return SendOutcome(OutcomeKind.RETRY, reason, status, retry_after=asked)
    return SendOutcome(OutcomeKind.PERMANENT, reason, status)


def retry_after(text: str | None, *, now: datetime) -> timedelta | None:
    """How long `Retry-After` asks for (RFC 9110, section 10.2.3); None if it is neither form."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return timedelta(seconds=min(int(text.strip()[:9]), 10**8))
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter of a zone of many digits
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return max(at - now, timedelta(0))
