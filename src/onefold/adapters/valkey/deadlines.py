"""
What is due, in Valkey or Redis: a sorted set by due instant, another of leases by their end.

The database keeps the records, and this only knows when somebody should look at which. So
losing it loses no delivery: the reconciler arms again what is overdue. `feed` brings over
what transactions have scheduled in the database. No key expires: what is not delivered is
not forgotten; `maxmemory-policy noeviction` is needed for the same reason.

Keys are `<prefix>:{<kind>}:due`, `:leased`, `:bodies`: a kind lives on one node of a cluster.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from onefold.adapters.valkey.connection import LuaScript, Server, script
from onefold.errors import InvalidSetting
from onefold.ports.deadlines import Deadline, Deadlines

__all__ = ["ValkeyDeadlines", "feed"]

_ARM, _CLAIM, _SETTLE, _READ = (
    script(f"due_{name}") for name in ("arm", "claim", "settle", "read")
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FENCE = 16  # digits


class ValkeyDeadlines:
    """
    See `ports.deadlines.Deadlines`. One script call for each kind that a call names.

    Args:
        server: Where; stays the caller's to close.
        prefix: Before every key; deadlines with other prefixes never meet.
    """

    def __init__(self, server: Server, *, prefix: str = "onefold") -> None:
        if "{" in prefix:
            raise InvalidSetting("prefix", "a brace would decide the cluster's hash slot")
        self._server, self._prefix = server, prefix

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        found = (await self._run(_READ, kind, _at(now), b"%d" % limit))[1:]
        read = sorted(_read(kind, found), key=lambda one: (one.due_at, one.key))
        return read[:limit]

    async def arm(self, deadlines: Sequence[Deadline]) -> None:
        async def send(kind: str, some: Sequence[Deadline]) -> None:
            parts = [(one.key.encode(), _at(one.due_at), _body(one)) for one in some]
            await self._run(_ARM, kind, *(part for three in parts for part in three))

        await _each_kind([(one, one) for one in deadlines], send)

    async def claim(
        self, kind: str, *, now: datetime, lease: timedelta, limit: int
    ) -> Sequence[Deadline]:
        args = (_at(now), _at(now + lease), b"%d" % limit, _at(now))
        return _read(kind, await self._run(_CLAIM, kind, *args))

    async def complete(self, claimed: Sequence[Deadline]) -> Sequence[bool]:
        return await self._settle([(one, None) for one in claimed])

    async def postpone(self, claimed: Sequence[tuple[Deadline, datetime]]) -> Sequence[bool]:
        return await self._settle(claimed)

    async def _settle(self, claimed: Sequence[tuple[Deadline, datetime | None]]) -> Sequence[bool]:
        held: dict[tuple[str, str, int], bool] = {}

        async def send(kind: str, some: Sequence[tuple[Deadline, datetime | None]]) -> None:
            parts = [
                (one.key.encode(), b"%016d" % one.fence, b"" if at is None else _at(at))
                for one, at in some
            ]
            digits = await self._run(_SETTLE, kind, *(part for three in parts for part in three))
            for (one, _), digit in zip(some, digits, strict=True):
                held[kind, one.key, one.fence] = digit == ord("1")

        await _each_kind([(pair[0], pair) for pair in claimed], send)
        return [held[one.kind, one.key, one.fence] for one, _ in claimed]

    async def next_due(self, kinds: Collection[str]) -> Mapping[str, datetime]:
        asked = sorted(kinds)
        firsts = await asyncio.gather(*(self._run(_READ, kind, b"0", b"0") for kind in asked))
        found = zip(asked, (first[0] for first in firsts), strict=True)
        return {kind: _instant(at) for kind, at in found if at}

    async def _run(self, what: LuaScript, kind: str, *args: bytes) -> Any:
        stem = f"{self._prefix}:{{{_tag(kind)}}}:"
        keys = [f"{stem}{name}".encode() for name in ("due", "leased", "bodies")]
        return await self._server.run(what, keys, args)


async def feed(
    source: Deadlines, to: Deadlines, kinds: Collection[str], *, until: datetime, limit: int
) -> int:
    """
    Bring over what transactions have scheduled in *source* and is due by *until*; how many.

    Armed there before it is disarmed here: dying between them arms it twice, which is once.
    """
    moved, first = 0, await source.next_due(kinds)
    for kind in sorted(kind for kind, at in first.items() if at <= until):
        found = await source.due(kind, now=until, limit=limit)
        await to.arm(found)
        await source.complete(found)
        moved += len(found)
    return moved


async def _each_kind(items: Sequence[tuple[Deadline, Any]], send: Any) -> None:
    kinds: dict[str, list[Any]] = {}
    for deadline, item in items:
        kinds.setdefault(deadline.kind, []).append(item)
    await asyncio.gather(*(send(kind, some) for kind, some in kinds.items()))


def _tag(kind: str) -> str:
    """The kind without a closing brace, so that it is the hash tag as a whole."""
    return kind.replace("%", "%25").replace("}", "%7D")


def _at(instant: datetime) -> bytes:
    # Microseconds since 1970: a sorted set's score, a double, counts exactly up to 2**53 (2255).
    return b"%d" % ((instant - _EPOCH) // _MICROSECOND)


def _instant(score: bytes) -> datetime:
    return _EPOCH + int(float(score)) * _MICROSECOND


def _body(one: Deadline) -> bytes:
    return msgspec.json.encode(dict(one.payload))


def _read(kind: str, found: Sequence[bytes]) -> list[Deadline]:
    return [
        Deadline(
            kind=kind,
            key=key.decode(),
            due_at=_instant(at),
            payload=msgspec.json.decode(body[_FENCE:]),
            fence=int(body[:_FENCE]),
        )
        for key, at, body in zip(found[::3], found[1::3], found[2::3], strict=True)
    ]
