"""
The design in which the numbered faults were found, in our own words: GET, SET NX, SETEX, DEL.

A record under a key says "processing" for five minutes or "completed" for as long as its
type is remembered. Nothing says whose it is. Whatever goes wrong on the way, a wide net
catches it and runs the handler without protection: better twice than never, it was thought.
Kept because each test in `tests/faults` must fail on it: a harness that finds nothing here
would find nothing anywhere.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from onefold.core.clock import Clock

PROCESSING = timedelta(seconds=300)
REMEMBERED = {"spellcheck.completed": timedelta(hours=1)}
REMEMBERED_OTHERWISE = timedelta(hours=24)

Handler = Callable[..., Awaitable[Any]]


class Outage(Exception):
    """The store did not answer."""


@dataclass
class NaiveStore:
    """Four commands of a key-value store with expiry by its own clock."""

    clock: Clock
    entries: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    refuse: dict[str, int] = field(default_factory=dict)  # fails before it is applied
    lose: dict[str, int] = field(default_factory=dict)  # applied, reply lost
    before: Callable[[str, str], Awaitable[None]] | None = None  # (worker, command): a gate

    async def get(self, key: str) -> str | None:
        """GET."""
        self._maybe("get", self.refuse)
        entry = self.entries.get(key)
        if entry is None or entry[1] <= self.clock.now():
            self.entries.pop(key, None)
            return None
        return entry[0]

    async def set_if_absent(self, key: str, value: str, ttl: timedelta) -> bool:
        """SET NX EX."""
        self._maybe("set_if_absent", self.refuse)
        if await NaiveStore.get(self, key) is not None:
            return False
        self.entries[key] = (value, self.clock.now() + ttl)
        self._maybe("set_if_absent", self.lose)
        return True

    async def set(self, key: str, value: str, ttl: timedelta) -> None:
        """SETEX."""
        self._maybe("set", self.refuse)
        self.entries[key] = (value, self.clock.now() + ttl)

    async def delete(self, key: str) -> None:
        """DEL, whosever record it is."""
        self._maybe("delete", self.refuse)
        self.entries.pop(key, None)

    @staticmethod
    def _maybe(command: str, faults: dict[str, int]) -> None:
        if faults.get(command, 0) > 0:
            faults[command] -= 1
            raise Outage(command)


@dataclass
class NaiveConsumer:
    """One worker of one service."""

    store: NaiveStore
    service: str
    clock: Clock
    worker: str = "a"

    async def handle(self, message: dict[str, Any], handler: Handler) -> Any:
        """The result of the handler, or None for whatever is not to be handled."""
        try:
            return await self._guarded(message, handler)
        except Exception:  # noqa: BLE001 (the net: the handler's own errors are in it as well)
            return await handler(message, confirm=self._no_confirm)

    async def _guarded(self, message: dict[str, Any], handler: Handler) -> Any:
        event_type, digest = self._identity(message)
        key = f"{self.service}:{event_type}:{digest}"
        await self._gate("get")
        if not await self._may_begin(key):
            return None
        await self._gate("claim")
        if not await self.store.set_if_absent(key, self._record("processing"), PROCESSING):
            return None  # somebody was faster: taken for done
        return await self._run(key, event_type, message, handler)

    async def _run(
        self, key: str, event_type: str, message: dict[str, Any], handler: Handler
    ) -> Any:
        async def confirm() -> None:
            ttl = REMEMBERED.get(event_type, REMEMBERED_OTHERWISE)
            try:
                await self.store.set(key, self._record("completed"), ttl)
            except Outage:
                return  # swallowed

        try:
            return await handler(message, confirm=confirm)
        except Exception:
            await self.store.delete(key)  # also when it says "completed", or is another's
            raise

    async def _may_begin(self, key: str) -> bool:
        found = await self.store.get(key)
        if found is None:
            return True
        record = json.loads(found)
        if record["status"] == "completed":
            return False
        age_s = self.clock.now().timestamp() - record["started_at"]
        if age_s <= PROCESSING.total_seconds():
            return False  # somebody is at it: taken for done
        await self._gate("delete")
        await self.store.delete(key)
        return True

    def _identity(self, message: dict[str, Any]) -> tuple[str, str]:
        headers = message.get("headers", {})
        if headers.get("event_id") and headers.get("event_type"):
            hashed: dict[str, Any] = {"event_id": headers["event_id"]}
            return headers["event_type"], _digest(hashed)
        body = json.loads(message["value"])
        hashed = {"data": body["data"]}
        if body.get("event_id"):
            hashed["event_id"] = body["event_id"]
        return body["event_type"], _digest(hashed)

    def _record(self, status: str) -> str:
        return json.dumps({"status": status, "started_at": self.clock.now().timestamp()})

    async def _gate(self, command: str) -> None:
        if self.store.before is not None:
            await self.store.before(self.worker, command)

    @staticmethod
    async def _no_confirm() -> None:
        return None


def _digest(value: dict[str, Any]) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
