"""
Which addresses a sink may connect to. A name is resolved once, and what was checked is used.

A second look-up could answer otherwise (DNS rebinding), so the connection goes to the
address itself, under the name's own TLS identity and Host.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from onefold.errors import FieldProblem, InvalidInput

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# `is_global` follows IANA's special-purpose registries (RFC 6890) as far as the Python at hand
# knows them. What some let through, and what carries another address inside:
_NEVER: Final = tuple(
    ipaddress.ip_network(block)
    for block in (
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598)
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays (RFC 7526: retired)
        "::/96",  # IPv4-compatible (RFC 4291: retired)
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64 (RFC 6052)
        "64:ff9b:1::/48",
        "2001::/32",  # Teredo (RFC 4380)
        "2002::/16",  # 6to4 (RFC 3056)
        "fec0::/10",  # site-local (RFC 3879: retired)
    )
)


class Blocked(Exception):
    """The name leads nowhere that we connect to."""


@dataclass(frozen=True)
class Target:
    """A URL's parts, checked for what its text alone can tell."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What `Host` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"

    def at(self, address: str) -> str:
        """The URL that goes to *address*."""
        host = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def target(
    url: str,
    *,
    loopback: bool = False,
    ports: Sequence[int] = (443,),
    field: str = "config.url",
) -> Target:
    """
    The parts of *url*.

    Args:
        url: `https://host/path`; user and password have no place in it.
        loopback: Let it be `http`, of any port: for a receiver on this machine alone.
        ports: Those allowed.
        field: Where it was given, for the refusal.

    Raises:
        InvalidInput: it is not such a URL. Its text is not told: it may hold a secret.
    """
    problem = _wrong_url(url, loopback, ports)
    if problem:
        raise InvalidInput([FieldProblem(field, "url", problem)])
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    # As it is on the wire: in `Host`, and in the certificate.
    host = (parts.hostname or "").encode("idna").decode()
    return Target(parts.scheme, host, port, path)


def _wrong_url(url: str, loopback: bool, ports: Sequence[int]) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL"
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        return "holds a character that no URL has"
    if parts.username or parts.password or not parts.hostname or not _is_host(parts.hostname):
        return "expected https://host/path, without a user"
    if loopback:
        return None if parts.scheme in {"https", "http"} else "expected https or http"
    if parts.scheme != "https":
        return "expected https"
    return None if port is None or port in ports else "this port is not allowed"


def _is_host(name: str) -> bool:
    try:
        name.encode("idna")  # as the resolver will: no label empty, or longer than 63
    except UnicodeError:
        return False
    return True


def allowed(address: str, *, loopback: bool = False) -> bool:
    """Whether a sink may connect to *address*: public and unicast, however it is spelled."""
    try:
        found: _Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if loopback:  # and then nowhere else: the setting is for tests
        return found.is_loopback
    if found.is_multicast or any(found.version == n.version and found in n for n in _NEVER):
        return False
    return found.is_global and not found.is_reserved


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of *host*, as the system knows them. Blocks, for as long as that takes."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


async def checked(to: Target, *, ask: Resolve, loopback: bool = False) -> str:
    """
    The address to connect to.

    Raises:
        Blocked: one of the name's addresses is none that we connect to: a name that leads
            both inside and outside is meant to deceive.
        OSError: there is no such name.
    """
    found = await ask(to.host, to.port)
    if not found or not all(allowed(one, loopback=loopback) for one in found):
        raise Blocked
    return found[0]
