"""
Claims in Valkey or Redis: one string a claim, changed by scripts only.

What a server must offer: `maxmemory-policy noeviction` where memory is limited, because an
evicted claim is a forgotten one (`check` says so at the start); persistence, if claims are
to survive a restart of the server.

Limit: replication is asynchronous. A failover may lose the last confirmations, and their
events run again when they are redelivered. Put `adapters.layered` over it and a SQL guard
where that must not be. Fences do not start over even then: they never are below the
caller's clock, in microseconds.

Keys are `<prefix>:{<consumer>}:<length of source>:<source>:<event id>`. The braces make a
consumer's claims live on one node of a cluster, so that a poll is one script call there too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from onefold.adapters.valkey.connection import LuaScript, Server, script
from onefold.errors import InvalidSetting
from onefold.ports.features import Features
from onefold.ports.guard import Busy, Claim, ClaimKey, Confirmation, Done, Lease, Verdict

__all__ = ["ValkeyGuard"]

FEATURES = Features(name="valkey", sql=False, parallel_writers=True, survives_process=True)

_CLAIM, _RENEW, _CONFIRM, _RELEASE, _FORGET = (
    script(name) for name in ("claim", "renew", "confirm", "release", "forget")
)
_FIRST = datetime.min.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A Lua number counts exactly up to 2**53; a clock beyond 2112 must not take half of that.
_MOST_FLOOR = 2**52
_SCAN = 1000  # keys a step

T = TypeVar("T")
A = TypeVar("A")
K = TypeVar("K", bound=Hashable)


class ValkeyGuard:
    """
    See `ports.guard.Guard`. One script call per consumer named in a call, all at once.

    The server's own expiry only tidies up: a record lives as long after its last change as
    it must be kept, and then *margin* more, so that no claimant's clock can be behind it.

    Args:
        server: Where; stays the caller's to close.
        prefix: Before every key; guards with other prefixes never meet.
        idle: How long attempts of an event that was never completed are remembered.
        margin: How much longer than needed the server keeps what it may remove by itself.
    """

    def __init__(
        self,
        server: Server,
        *,
        prefix: str = "onefold",
        idle: timedelta = timedelta(days=14),
        margin: timedelta = timedelta(days=1),
    ) -> None:
        if "{" in prefix:
            raise InvalidSetting("prefix", "a brace would decide the cluster's hash slot")
        self._server = server
        self._prefix = prefix
        self._idle, self._margin = idle, margin

    @property
    def features(self) -> Features:
        return FEATURES

    async def check(self) -> None:
        """
        Make sure that the server does not remove claims when its memory is full.

        Raises:
            InvalidSetting: it would; nothing was changed.
            StoreUnavailable: it did not answer.
        """
        memory = await self._server.eviction()
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if int(memory.get("maxmemory", 0)) > 0 and policy != "noeviction":
            reason = f"is {policy}, but an evicted claim is a forgotten one: set noeviction"
            raise InvalidSetting("maxmemory-policy", reason)

    async def claim(
        self, claims: Sequence[Claim], *, owner: str, now: datetime, lease: timedelta
    ) -> Sequence[Verdict]:
        until, ends, me = now + lease, _instant(now + lease), owner.encode()
        ttl = self._ttl(max(lease, self._idle))
        head = (me, _instant(now), ends, ttl, b"%d" % _floor(now))

        async def take(consumer: str, of_one: Sequence[Claim]) -> Sequence[Verdict]:
            prefix = self._prefix_of(consumer)
            keys = [prefix + b"fence", *(prefix + _rest(claim.key) for claim in of_one)]
            args = [*head, *(claim.fingerprint for claim in of_one)]
            records = await self._server.run(_CLAIM, keys, args)
            return [
                # Most are new leases, whose end need not be read.
                _lease(claim.key, record, until)
                if record[17:35] == ends and record[76:] == me and record[:1] == b"L"
                else _told(claim, record, me)
                for claim, record in zip(of_one, records, strict=True)
            ]

        return await _by_consumer(claims, _consumer_of_claim, take)

    async def renew(
        self, leases: Sequence[Lease], *, now: datetime, lease: timedelta
    ) -> Sequence[Lease | None]:
        until = now + lease
        head = (_instant(until), self._ttl(max(lease, self._idle)))
        answers = await self._each(_RENEW, leases, head, [_fence(held) for held in leases])
        return [
            Lease(
                key=held.key,
                fence=held.fence,
                until=until,
                attempt=held.attempt,
                fingerprint=held.fingerprint,
            )
            if answer
            else None
            for held, answer in zip(leases, answers, strict=True)
        ]

    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        head = (_instant(now), _instant(now + keep), self._ttl(keep))
        args = [
            (*_fence(each.lease), b"-" if each.result is None else b"+" + each.result)
            for each in confirmations
        ]
        leases = [confirmation.lease for confirmation in confirmations]
        return await self._each(_CONFIRM, leases, head, args)

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        head = (self._ttl(self._idle),)
        return await self._each(_RELEASE, leases, head, [_fence(held) for held in leases])

    async def forget(self, *, now: datetime, limit: int) -> int:
        """
        See `ports.guard.Guard.forget`. Walks this prefix's keys, a thousand a round trip.

        Hardly ever needed: the server removes records by itself, *margin* after their time.
        """
        removed = 0
        async for keys in self._server.scan(_pattern(self._prefix), count=_SCAN):
            for of_one in _grouped(keys, _consumer_of_key).values():
                args = [_instant(now), b"%d" % (limit - removed)]
                removed += await self._server.run(_FORGET, of_one, args)
            if removed >= limit:
                break
        return removed

    async def _each(
        self,
        what: LuaScript,
        leases: Sequence[Lease],
        head: tuple[bytes, ...],
        args: Sequence[tuple[bytes, ...]],
    ) -> list[bool]:
        async def run(
            consumer: str, of_one: Sequence[tuple[Lease, tuple[bytes, ...]]]
        ) -> list[bool]:
            prefix = self._prefix_of(consumer)
            keys = [prefix + _rest(held.key) for held, _ in of_one]
            flat = [part for _, parts in of_one for part in parts]
            digits: bytes = await self._server.run(what, keys, [*head, *flat])
            return [digit == ord("1") for digit in digits]

        return await _by_consumer(list(zip(leases, args, strict=True)), _consumer_of_pair, run)

    def _ttl(self, at_least: timedelta) -> bytes:
        return b"%d" % ((at_least + self._margin) // _MILLISECOND)

    def _prefix_of(self, consumer: str) -> bytes:
        return f"{self._prefix}:{{{_tag(consumer)}}}:".encode()


def _rest(key: ClaimKey) -> bytes:
    """The key after its consumer's prefix; begins with a digit, unlike the fence counter's."""
    return f"{len(key.source)}:{key.source}:{key.event_id}".encode()


def _tag(consumer: str) -> str:
    """The consumer without a closing brace, so that it is the hash tag as a whole."""
    return consumer.replace("%", "%25").replace("}", "%7D")


def _pattern(prefix: str) -> bytes:
    plain = "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in prefix)
    return f"{plain}:{{*}}:[0-9]*".encode()


def _fence(lease: Lease) -> tuple[bytes]:
    return (b"%016d" % lease.fence,)


def _instant(instant: datetime) -> bytes:
    """Microseconds since the year 1, in 18 digits: later instants are greater as text."""
    return b"%018d" % ((instant - _FIRST) // _MICROSECOND)


def _read_instant(digits: bytes) -> datetime:
    return _FIRST + int(digits) * _MICROSECOND


def _floor(now: datetime) -> int:
    """What fences are above at *now*, so that a server which lost some does not start over."""
    since = (now - _EPOCH) // _MICROSECOND
    return since if 0 <= since < _MOST_FLOOR else 0


def _lease(key: ClaimKey, record: bytes, until: datetime) -> Lease:
    return Lease(
        key=key,
        fence=int(record[1:17]),
        until=until,
        attempt=int(record[35:44]),
        fingerprint=record[44:76],
    )


def _told(claim: Claim, record: bytes, me: bytes) -> Verdict:
    """What a record means to a claimant; `scripts/claim.lua` says how it is written."""
    instant = _read_instant(record[17:35])
    if record[:1] == b"C":
        return Done(
            key=claim.key,
            completed_at=instant,
            same_content=record[44:76] == claim.fingerprint,
            result=record[95:] if record[94:95] == b"+" else None,
        )
    if record[76:] == me:
        return _lease(claim.key, record, instant)
    return Busy(key=claim.key, until=instant)


def _consumer_of_claim(claim: Claim) -> str:
    return claim.key.consumer


def _consumer_of_pair(pair: tuple[Lease, Any]) -> str:
    return pair[0].key.consumer


def _consumer_of_key(key: bytes) -> bytes:
    return key[: key.index(b"}")]


def _grouped(items: Iterable[A], group_of: Callable[[A], K]) -> dict[K, list[A]]:
    groups: dict[K, list[A]] = {}
    for item in items:
        groups.setdefault(group_of(item), []).append(item)
    return groups


async def _by_consumer(
    items: Sequence[A],
    consumer_of: Callable[[A], str],
    call: Callable[[str, Sequence[A]], Awaitable[Sequence[T]]],
) -> list[T]:
    """One call for each consumer, all at once; the answers in the order of *items*."""
    groups = _grouped(items, consumer_of)
    if len(groups) == 1:
        return list(await call(next(iter(groups)), items))
    answers = await asyncio.gather(*(call(name, group) for name, group in groups.items()))
    each = {name: iter(found) for name, found in zip(groups, answers, strict=True)}
    return [next(each[consumer_of(item)]) for item in items]
