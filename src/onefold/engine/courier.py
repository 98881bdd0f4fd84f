"""
Due deliveries to sinks: claim, open, let go of the connection, send, settle with the fence.

Dying anywhere repeats under the same message id, and loses nothing: a claimed deadline is
due again when its lease ends, an attempt is recorded before it is made, and how it ended
counts only under its own fence. Every destination has its own tasks and its own room, so
that one that stalls takes nothing from another. Any number of couriers work side by side.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from onefold.core.clock import Clock
from onefold.core.fields import text_flaw
from onefold.engine.group_commit import GroupCommit
from onefold.errors import OnefoldError
from onefold.ports.deadlines import Deadline, Deadlines
from onefold.ports.delivery_book import DeliveryBook, DeliveryResult, Route, Sending
from onefold.ports.sink import (
    DestinationEffect,
    OutcomeKind,
    Parcel,
    SendOutcome,
    Sink,
    most_at_once,
)

log = logging.getLogger("onefold.courier")

LEASE = timedelta(seconds=60)  # a sink's total timeout of 30 s and as much again
_OF_LEASE = 0.75  # from the claim on; the rest is for the receipt
IDLE = timedelta(hours=1)  # then a sink is closed: its destination may never be used again
POLL_S = 0.5  # what others arm is seen after this at the latest

_CODE = re.compile(r"[a-z0-9_]{1,40}")
MakeSink = Callable[[Route], Sink]
Ended = tuple[Sending, SendOutcome, datetime, Deadline]  # an attempt, and when it began


class Courier:
    """
    Delivers what is due. `step` begins what can be begun now and returns.

    Args:
        deadlines: Which deliveries are due, one kind a destination.
        desk: Whose deliveries they are.
        make: The sink of a destination as it is configured now.
        clock: What time it is.
        lease: How long an attempt may take before another courier takes over.
        batch: The most deliveries that are claimed at once.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        desk: DeliveryBook,
        make: MakeSink,
        *,
        clock: Clock,
        lease: timedelta = LEASE,
        batch: int = 500,
    ) -> None:
        self._deadlines, self._desk, self._make = deadlines, desk, make
        self._clock, self._lease, self._batch = clock, lease, batch
        self._sinks: dict[str, tuple[int, Sink]] = {}
        self._tasks: dict[asyncio.Task[None], int] = {}  # how many deliveries each has
        self._used: dict[str, datetime] = {}  # when a destination's sink was last asked for
        self._retiring: set[asyncio.Task[None]] = set()
        self._told: dict[str, int] = {}  # versions that make no sink, so that each is told once
        self._settle = self._rounds = GroupCommit(self._settle_all, at_most=batch, weigh=len)
        self._next: datetime | None = None
        self._more: dict[str, datetime] = {}  # kinds of which more is probably due, and since when
        self.said: Counter[str] = Counter()
        self.ended: Callable[[], None] = _nothing  # called when an attempt has ended

    async def step(self, *, limit: int | None = None) -> bool:
        """
        Claim what is due and begin to deliver it; False when nothing could be begun.

        Args:
            limit: Claim so many at the most.
        """
        now = self._clock.now()
        self._let_go(now)
        routes, self._next = await self._desk.routes(now=now)
        due = await self._due([route.kind for route in routes])
        self._next = min(
            (at for at in (self._next, *due.values()) if at and at > now), default=None
        )
        ripe = [route for route in routes if route.kind in due and due[route.kind] <= now]
        began = 0
        # The longest waiting first: with a limit, none can starve another.
        for route in sorted(ripe, key=lambda route: (due[route.kind], route.destination)):
            most = min(route.room, self._batch, self._batch if limit is None else limit - began)
            if most > 0:
                began += await self._begin(route, most)
        return began > 0

    async def _due(self, kinds: Collection[str]) -> Mapping[str, datetime]:
        """
        When each of *kinds* is next due.

        Not asked for again where the last claim took all it was allowed: what is left, if
        anything is, was not due before it. A claim that takes less ends that.
        """
        known = {kind: self._more[kind] for kind in kinds if kind in self._more}
        unknown = [kind for kind in kinds if kind not in known]
        return {**known, **(await self._deadlines.next_due(unknown) if unknown else {})}

    def pause_s(self) -> float:
        """How long nothing can be begun that is known of: up to the next due instant."""
        if self._next is None:
            return POLL_S
        return min(max((self._next - self._clock.now()).total_seconds(), 0.001), POLL_S)

    async def work_off(self, *, limit: int | None = None) -> Counter[str]:
        """Deliver what is due until nothing is, or *limit* were; what was said of them."""
        before, left = Counter(self.said), limit
        while left is None or left > 0:
            under_way = set(self._tasks)  # what ends during the step may have made room
            if not await self.step(limit=left):
                if not under_way:
                    break
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            if limit is not None:
                left = limit - (self.said - before).total() - sum(self._tasks.values())
        await self.settled()
        return self.said - before

    async def settled(self) -> None:
        """Wait for the attempts under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """
        Leave the attempts under way where they are, and close the sinks. Safe twice.

        What was being sent is sent again when its lease ends, under the same id; of what the
        receiver has answered, the receipt is kept.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._retiring, return_exceptions=True)
        await self._rounds.over()
        sinks, self._sinks = self._sinks, {}
        for _, sink in sinks.values():
            await _close(sink)

    async def _begin(self, route: Route, most: int) -> int:
        sink = await self._sink(route)
        if sink is None:
            return 0
        now = self._clock.now()
        claimed = await self._deadlines.claim(route.kind, now=now, lease=self._lease, limit=most)
        if len(claimed) == most:
            self._more[route.kind] = claimed[-1].due_at
        elif self._more.pop(route.kind, None) is not None:
            self._next = now  # when it is next due is not known: look again at once
        if not claimed:
            return 0
        keys = [one.key for one in claimed]
        begun, verdicts = await self._desk.open(route, keys, now=now, lease=self._lease)
        by_key = {one.key: one for one in claimed}
        await self._follow([(by_key[verdict.key], verdict) for verdict in verdicts])
        until = now + self._lease * _OF_LEASE
        for some in _parted(begun, most_at_once(sink)):
            task = asyncio.create_task(self._deliver(sink, some, by_key, until))
            self._tasks[task] = len(some)
            task.add_done_callback(self._over)
        return len(claimed)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task)
        if not task.cancelled() and task.exception() is not None:
            # Its lease ends by itself, and it is tried again.
            log.error("an attempt was not settled: %s", type(task.exception()).__name__)
        self.ended()

    async def _sink(self, route: Route) -> Sink | None:
        """The destination's sink; None when its configuration makes none: it waits for a person."""
        self._used[route.destination] = self._clock.now()
        version, sink = self._sinks.get(route.destination, (-1, None))
        if sink is not None and version == route.version:
            return sink
        try:
            made = self._make(route)
        except Exception as error:  # a plug-in's bug is its own destination's, and no other's
            if self._told.get(route.destination) != route.version:
                # Only our own errors are known to hold no value of a configuration.
                why = str(error) if isinstance(error, OnefoldError) else type(error).__name__
                log.error("destination %s cannot be used: %s", route.destination, why)  # noqa: TRY400
            self._told[route.destination] = route.version
            return None
        self._sinks[route.destination] = (route.version, made)
        if sink is not None:
            self._retire(sink)
        return made

    def _let_go(self, now: datetime) -> None:
        """Close the sinks that nobody has asked for in a long time; all that is kept of them."""
        for destination in [one for one, at in self._used.items() if abs(now - at) > IDLE]:
            del self._used[destination]
            self._told.pop(destination, None)
            _, sink = self._sinks.pop(destination, (-1, None))
            if sink is not None:
                self._retire(sink)

    def _retire(self, sink: Sink) -> None:
        """Close a sink that is used no more, when the last attempt with it is over."""
        task = asyncio.create_task(self._retired(sink, set(self._tasks)))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retired(self, sink: Sink, under_way: set[asyncio.Task[None]]) -> None:
        if under_way:
            await asyncio.wait(under_way)
        await _close(sink)

    async def _deliver(
        self,
        sink: Sink,
        sendings: Sequence[Sending],
        claimed: Mapping[str, Deadline],
        until: datetime,
    ) -> None:
        began = self._clock.now()
        outcomes = await _sent(sink, sendings, began, until)
        ended = [
            (sending, outcome, began, claimed[sending.key])
            for sending, outcome in zip(sendings, outcomes, strict=True)
        ]
        try:
            # Shielded: the receipt of what was received outlives a courier that is closed.
            await asyncio.shield(self._settle(ended))
        except OnefoldError:
            raise
        except Exception:  # a bug, and told: alone only the culprit is not settled
            if len(ended) == 1:
                raise
            await asyncio.gather(*(self._settle([one]) for one in ended), return_exceptions=True)

    async def _settle_all(self, orders: Sequence[Sequence[Ended]]) -> Sequence[None]:
        ended = [one for order in orders for one in order]
        results = [(sending, outcome, began) for sending, outcome, began, _ in ended]
        verdicts = await self._desk.settle(results, now=self._clock.now())
        claimed = {deadline.key: deadline for *_, deadline in ended}
        await self._follow([(claimed[verdict.key], verdict) for verdict in verdicts])
        return [None] * len(orders)

    async def _follow(self, verdicts: Sequence[tuple[Deadline, DeliveryResult]]) -> None:
        """
        Bring the deadlines in line with what was recorded.

        Dying before it costs a look at a delivery that is over: the record is the truth.
        """
        over = [deadline for deadline, verdict in verdicts if verdict.again_at is None]
        later = [(deadline, v.again_at) for deadline, v in verdicts if v.again_at is not None]
        if over:
            await self._deadlines.complete(over)
        if later:
            await self._deadlines.postpone(later)
        self.said.update(verdict.said for _, verdict in verdicts)


def _parted(sendings: Sequence[Sending], most: int) -> Iterator[Sequence[Sending]]:
    """
    What goes to the sink in one call: first attempts together, at most *most*, others alone.

    A parcel that breaks a call, or the process, breaks it for those beside it too: it costs
    them this attempt, and never a second one.
    """
    together = [one for one in sendings if one.parcel.attempt == 1] if most > 1 else []
    yield from (together[n : n + most] for n in range(0, len(together), most or 1))
    alone = [one for one in sendings if one.parcel.attempt > 1] if most > 1 else sendings
    yield from ([one] for one in alone)


async def sent_once(sink: Sink, parcel: Parcel, *, now: datetime) -> SendOutcome:
    """
    What one attempt comes to, outside of any delivery; *sink* was made for it, and is closed.

    In the time that a courier allows; a bug of the sink is an outcome, and nothing is raised.
    """
    try:
        (outcome,) = await _answered(sink, [parcel], now, (LEASE * _OF_LEASE).total_seconds())
        return outcome
    finally:
        await _close(sink)


async def _sent(
    sink: Sink, sendings: Sequence[Sending], now: datetime, until: datetime
) -> Sequence[SendOutcome]:
    """What became of each, by *until* at the latest."""
    left_s = (until - now).total_seconds()
    if left_s <= 0:  # opening it took so long that it could outlive its lease: nothing is sent
        return [SendOutcome(OutcomeKind.RETRY, "late")] * len(sendings)
    return await _answered(sink, [one.parcel for one in sendings], now, left_s)


async def _answered(
    sink: Sink, parcels: Sequence[Parcel], now: datetime, left_s: float
) -> Sequence[SendOutcome]:
    """What *sink* makes of *parcels* in that time; a bug of a sink is an outcome too."""
    why = "sink_error"
    try:
        # A sink has its own timeout; one that forgets it must not outlive its lease.
        async with asyncio.timeout(left_s):
            if len(parcels) > 1:
                outcomes = await sink.send_many(parcels, now=now)  # type: ignore[attr-defined]
            else:
                outcomes = [await sink.send(parcels[0], now=now)]
        if len(outcomes) == len(parcels) and all(map(_can_be_recorded, outcomes)):
            return [_coded(one) for one in outcomes]
        log.error("a sink gave wrong outcomes for %d parcels", len(parcels))
    except TimeoutError:
        why = "timeout"
    except Exception as error:  # a bug of a sink costs an attempt, and nothing else
        # Its text is not told: it may hold a URL with its secret, or what was sent.
        log.error("a sink failed with %s", type(error).__name__)  # noqa: TRY400
    return [SendOutcome(OutcomeKind.RETRY, why)] * len(parcels)


async def _close(sink: Sink) -> None:
    try:
        await sink.aclose()
    except Exception as error:  # a bug of one sink keeps no other, and no store, open
        log.error("a sink was not closed: %s", type(error).__name__)  # noqa: TRY400


def _can_be_recorded(said: Any) -> bool:
    """
    Whether a sink has said what `SendOutcome` says: any store takes it then.

    One that it refused would fail the round of every other destination that ends meanwhile.
    """
    kinds = (("kind", OutcomeKind), ("toll", DestinationEffect), ("retry_after", timedelta | None))
    return (
        isinstance(said, SendOutcome)
        and all(isinstance(getattr(said, name), kind) for name, kind in kinds)
        and all(_is_text(text) for text in (said.reason, said.remote_ref or ""))
        and _is_status(said.status)
    )


def _coded(outcome: SendOutcome) -> SendOutcome:
    """*outcome*, its reason a code: it ends in logs and labels, where no other text belongs."""
    if _CODE.fullmatch(outcome.reason):
        return outcome
    log.error("a sink gave a reason that is no code of a-z, 0-9 and _, at most 40")
    return replace(outcome, reason="unnamed")


def _is_text(said: Any) -> bool:
    return isinstance(said, str) and text_flaw(said) is None


def _is_status(said: Any) -> bool:
    return said is None or (type(said) is int and abs(said) < 2**31)


def _nothing() -> None:
    """Nobody waits for it."""
