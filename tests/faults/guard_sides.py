"""The same scenario on two designs: one world, one broker, two ways to guard a handler."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from tests.twins.naive_consumer import NaiveConsumer, NaiveStore

from onefold.adapters.memory.guard import MemoryGuard
from onefold.engine.idempotent import idempotent_consumer
from onefold.errors import StoreUnavailable
from onefold.ports.guard import Claim, Confirmation, Guard, Lease, Verdict
from onefold.testing.clock import ManualClock

Handler = Callable[..., Awaitable[Any]]
Deliver = Callable[[dict[str, Any]], Coroutine[Any, Any, bool]]
Gate = Callable[[str, str], Awaitable[None]]

MESSAGE_ID = str(UUID(int=0xC0FFEE))


class Crash(BaseException):
    """The process dies here; no `except Exception` survives it."""


class Failure(Exception):
    """The handler's own error."""


def message(
    *,
    event_id: str | None = MESSAGE_ID,
    event_type: str = "order.placed",
    data: Any = 1,
    headers: dict[str, str] | None = None,
    occurred_at: str = "2026-01-01T12:00:00Z",
) -> dict[str, Any]:
    """A message as a broker delivers it, in the native form."""
    body = {
        "event_type": event_type,
        "source_service": "shop",
        "event_timestamp": occurred_at,
        "data": data,
    }
    if event_id is not None:
        body["event_id"] = event_id
    return {"value": json.dumps(body), "headers": headers or {}}


@dataclass
class World:
    """What happened, and what will go wrong."""

    clock: ManualClock = field(default_factory=ManualClock)
    effects: list[str] = field(default_factory=list)
    runs: int = 0
    inside: int = 0
    most_inside: int = 0

    def enter(self) -> None:
        """A handler begins."""
        self.runs += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)

    def leave(self) -> None:
        """A handler ends."""
        self.inside -= 1


class Side(Protocol):
    """A design under the scenario."""

    world: World

    def consumer(
        self, handler: Handler, *, name: str = "orders", worker: str = "a", ahead_s: float = 0
    ) -> Deliver:
        """
        A worker; delivering to it tells whether its loop would move the offset.

        Args:
            handler: Called with the message and `confirm`.
            name: Of the consumer.
            worker: For gates.
            ahead_s: How far its clock is ahead of the others'.
        """
        ...

    def lose_claim_reply(self) -> None:
        """The next claim is applied and its reply lost."""
        ...

    def outage(self, calls: int) -> None:
        """That many of the next calls fail."""
        ...

    def refuse_confirm(self) -> None:
        """The next confirmation fails."""
        ...

    def gate(self, gate: Gate) -> None:
        """Call before a worker's steps: (worker, `get` | `claim` | `delete`)."""
        ...


class _Ahead:
    def __init__(self, clock: ManualClock, ahead_s: float) -> None:
        self._clock, self._by = clock, timedelta(seconds=ahead_s)

    def now(self) -> datetime:
        return self._clock.now() + self._by


class NaiveSide:
    """The design that is replaced, in the loop that was around it."""

    def __init__(self) -> None:
        self.world = World()
        self.store = NaiveStore(self.world.clock)

    def consumer(
        self, handler: Handler, *, name: str = "orders", worker: str = "a", ahead_s: float = 0
    ) -> Deliver:
        clock = _Ahead(self.world.clock, ahead_s)
        # One namespace for all handlers of a service, as it was.
        consumer = NaiveConsumer(self.store, "service", clock, worker)

        async def deliver(one: dict[str, Any]) -> bool:
            try:
                await consumer.handle(one, handler)
            except Exception:  # noqa: BLE001 (logged; the loop goes on without a commit)
                return False
            return True  # True, False and None alike: eight loops of twelve did that

        return deliver

    def lose_claim_reply(self) -> None:
        self.store.lose["set_if_absent"] = 1

    def outage(self, calls: int) -> None:
        self.store.refuse["get"] = calls

    def refuse_confirm(self) -> None:
        self.store.refuse["set"] = 1

    def gate(self, gate: Gate) -> None:
        self.store.before = gate


class _FaultyGuard(MemoryGuard):
    def __init__(self) -> None:
        super().__init__()
        self.lose_claim = self.refuse_claims = self.refuse_confirms = 0
        self.before: Gate | None = None

    async def claim(
        self, claims: Sequence[Claim], *, owner: str, now: datetime, lease: timedelta
    ) -> Sequence[Verdict]:
        if self.before is not None:
            await self.before(owner.partition(" ")[0], "claim")
        if self.refuse_claims > 0:
            self.refuse_claims -= 1
            raise StoreUnavailable("refused")
        verdicts = await super().claim(claims, owner=owner, now=now, lease=lease)
        if self.lose_claim > 0:
            self.lose_claim -= 1
            raise StoreUnavailable("the reply was lost")
        return verdicts

    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        if self.refuse_confirms > 0:
            self.refuse_confirms -= 1
            raise StoreUnavailable("refused")
        return await super().confirm(confirmations, now=now, keep=keep)

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        return await super().release(leases, now=now)


class OnefoldSide:
    """Ours, in a loop that moves the offset when the outcome is settled."""

    def __init__(self, guard: Guard | None = None) -> None:
        self.world = World()
        self.faulty = _FaultyGuard()
        self.guard: Guard = guard or self.faulty
        self._tokens = 0

    def consumer(
        self, handler: Handler, *, name: str = "orders", worker: str = "a", ahead_s: float = 0
    ) -> Deliver:
        def token() -> str:
            self._tokens += 1
            return f"{worker} {self._tokens}"

        handle = idempotent_consumer(
            self.guard,
            name=name,
            clock=_Ahead(self.world.clock, ahead_s),
            sleep=self.world.clock.sleep,
            jitter=lambda: 0.5,
            token=token,
        )(_async(handler))

        async def deliver(one: dict[str, Any]) -> bool:
            try:
                outcome = await handle(one)
            except Exception:  # noqa: BLE001 (parked or retried, never passed over)
                return False
            return outcome.settled

        return deliver

    def lose_claim_reply(self) -> None:
        self.faulty.lose_claim = 1

    def outage(self, calls: int) -> None:
        self.faulty.refuse_claims = calls

    def refuse_confirm(self) -> None:
        self.faulty.refuse_confirms = 1

    def gate(self, gate: Gate) -> None:
        self.faulty.before = gate


def _async(handler: Handler) -> Handler:
    async def call(one: Any, *, confirm: Any) -> Any:
        return await handler(one, confirm=confirm)

    return call


async def broker(
    side: Side, deliver: Deliver, one: dict[str, Any], *, pause: timedelta, most: int = 20
) -> int:
    """Deliver again after *pause* until the offset moves; how many deliveries it took."""
    for n in range(1, most + 1):
        if await deliver(one):
            return n
        side.world.clock.advance(pause)
    raise AssertionError("delivered for ever")


async def killed(deliver: Deliver, one: dict[str, Any]) -> None:
    """Deliver to a worker that dies on the way."""
    try:
        await deliver(one)
    except Crash:
        return
    raise AssertionError("it was to die")


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until that holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("that never came to be")
