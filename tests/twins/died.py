"""Twins for the crash explorer: each loses, doubles or disorders when its process dies."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from tests.twins.gallery import gallery

from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.errors import CommitUnknown
from onefold.ports.guard import Busy, Claim, ClaimKey, Confirmation, Lease
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Make, Scenario
from onefold.testing.crash.invariants import Effect
from onefold.testing.crash.points import Reaper

LEASE, KEEP = timedelta(seconds=30), timedelta(days=7)
LATER = timedelta(minutes=5)


@dataclass
class Queue:
    """A broker's partition: a log, and one durable offset."""

    log: list[Any]
    offset: int = 0
    sent: list[Any] = field(default_factory=list)
    pending: dict[int, str] = field(default_factory=dict)  # of a stream: who was given what
    given: int = 0

    async def poll(self, skip: int = 0) -> tuple[int, Any] | None:
        at = self.offset + skip
        return (at, self.log[at]) if at < len(self.log) else None

    async def commit(self, offset: int) -> None:
        self.offset = max(self.offset, offset)

    async def publish(self, messages: list[Any]) -> list[None]:
        self.sent += messages
        return [None] * len(messages)

    async def give(self, member: str) -> tuple[int, Any] | None:
        """The next entry that nobody was given, as XREADGROUP with `>`."""
        if self.given == len(self.log):
            return None
        self.given += 1
        self.pending[self.given - 1] = member
        return self.given - 1, self.log[self.given - 1]

    async def reclaim(self) -> tuple[int, Any] | None:
        """An entry that somebody was given and never acknowledged, as XAUTOCLAIM."""
        at = min(self.pending, default=None)
        return None if at is None else (at, self.log[at])

    async def ack(self, at: int) -> None:
        self.pending.pop(at, None)


@dataclass
class Cache:
    """A key-value store with expiry by the clock that it is given."""

    clock: ManualClock
    entries: dict[str, tuple[Any, datetime | None]] = field(default_factory=dict)

    async def get(self, key: str) -> Any:
        value, until = self.entries.get(key, (None, None))
        return None if until is not None and until <= self.clock.now() else value

    async def put(self, key: str, value: Any, ttl: timedelta | None = None) -> None:
        self.entries[key] = (value, None if ttl is None else self.clock.now() + ttl)

    async def put_new(self, key: str, value: Any, ttl: timedelta | None = None) -> bool:
        if await self.get(key) is not None:
            return False
        await self.put(key, value, ttl)
        return True

    async def delete(self, key: str) -> None:
        self.entries.pop(key, None)


@dataclass
class Effects:
    """The world outside: what was done there is done."""

    done: list[Any] = field(default_factory=list)

    async def do(self, what: Any) -> None:
        self.done.append(what)


class Shop:
    """What is durable; one process over it has everything in its hands."""

    def __init__(self, messages: list[Any]) -> None:
        self.clock = ManualClock()
        self.queue, self.cache = Queue(messages), Cache(self.clock)
        self.effects, self.guard, self.uow = Effects(), MemoryGuard(), MemoryUnitOfWork()
        self.names = count(1)


class Hands:
    """The parts of a shop as one mortal process has them."""

    def __init__(self, shop: Shop, reaper: Reaper) -> None:
        self.shop, self.clock, self.name = shop, shop.clock, f"process {next(shop.names)}"
        self.queue, self.cache, self.effects, self.guard, self.uow = (
            reaper.mortal(getattr(shop, part), part)
            for part in ("queue", "cache", "effects", "guard", "uow")
        )

    async def claim(self, what: object) -> Any:
        """The guard's verdict."""
        claim = Claim(ClaimKey("c", "", str(what)), bytes(32))
        now = self.clock.now()
        (verdict,) = await self.guard.claim([claim], owner=self.name, now=now, lease=LEASE)
        return verdict

    async def confirm(self, lease: Lease) -> bool:
        """Whether the claim is completed."""
        now = self.clock.now()
        (done,) = await self.guard.confirm([Confirmation(lease)], now=now, keep=KEEP)
        return bool(done)

    async def in_transaction(self, what: Any, *, claimed: bool = True) -> None:
        """The effect, with its inbox record in the same transaction unless told otherwise."""
        async with self.uow.begin() as tx:
            if claimed and not await tx.claim("c", str(what), now=self.clock.now()):
                return
            tx.records.setdefault("effects", []).append(what)


Work = Callable[[Hands, Any], Awaitable[None]]


def consumer(
    work: Work | None = None,
    *,
    loop: Callable[[Hands], Awaitable[None]] | None = None,
    messages: tuple[Any, ...] = (0, 1, 2),
    where: str = "records",
    repeats: bool = False,
    leases: bool = False,
    expected: tuple[Any, ...] | None = None,
    **more: Any,
) -> Make:
    """
    A consumer of three messages of one key that does *work* with each, then moves the offset.

    Args:
        work: For one message.
        loop: Instead of poll, work, commit.
        messages: What is in the queue.
        where: Effects happen in the transaction's `records`, in the world `outside`, or are
            messages `sent`.
        repeats: They may be seen again.
        leases: Dead and stalled processes leave leases, which run out after minutes.
        expected: What must happen; each message once, if not given.
    """

    async def poll_work_commit(my: Hands) -> None:
        while (polled := await my.queue.poll()) is not None:
            at, message = polled
            await work(my, message)  # type: ignore[misc]
            await my.queue.commit(at + 1)

    def make() -> Scenario:
        shop = Shop(list(messages))

        async def run(reaper: Reaper) -> None:
            await (loop or poll_work_commit)(Hands(shop, reaper))

        async def effects() -> list[Effect]:
            done = {
                "records": shop.uow.committed.records.get("effects", []),
                "outside": shop.effects.done,
                "sent": shop.queue.sent,
            }[where]
            return [Effect(what, "key") for what in done]

        async def state() -> dict[str, object]:
            return {"effects": await effects(), "offset": shop.queue.offset}

        return Scenario(
            run=run,
            expected=[Effect(m, "key") for m in (messages if expected is None else expected)],
            effects=effects,
            repeats=repeats,
            state=state,
            expire=(lambda: shop.clock.advance(LATER)) if leases else None,
            **more,
        )

    return make


# -- the relay ---------------------------------------------------------------------------


def _relay(step: Callable[[Hands, list[Any]], Awaitable[None]]) -> Make:
    async def loop(my: Hands) -> None:
        async with my.uow.begin() as tx:
            tx.records.setdefault("waiting", [0, 1, 2])
        waiting = my.shop.uow.committed.records["waiting"]
        if waiting:
            await step(my, list(waiting))

    return consumer(loop=loop, where="sent", repeats=True)


async def _mark(my: Hands) -> None:
    async with my.uow.begin() as tx:
        tx.records["waiting"] = []


@gallery.dies("the relay marks events as sent, then publishes them", says="lost")
def mark_before_publish() -> Make:
    async def step(my: Hands, waiting: list[Any]) -> None:
        await _mark(my)
        await my.queue.publish(waiting)

    return _relay(step)


@gallery.dies("the relay publishes, then marks")
def publish_before_mark() -> Make:
    async def step(my: Hands, waiting: list[Any]) -> None:
        await my.queue.publish(waiting)
        await _mark(my)

    return _relay(step)


@gallery.dies("publishes inside the transaction: sent, and then rolled back", says="unasked")
def publish_inside_transaction() -> Make:
    async def work(my: Hands, what: Any) -> None:
        async with my.uow.begin() as tx:
            number = tx.records.get("number", 0) + len(my.shop.queue.sent) + 1
            if await tx.claim("c", str(what), now=my.clock.now()):
                await my.queue.publish([f"order {what}, try {number}"])
                tx.records["number"] = number

    def make() -> Scenario:
        scenario = consumer(work, messages=(0,), where="sent")()
        assert isinstance(scenario, Scenario)
        return Scenario(
            run=scenario.run, expected=[Effect("order 0, try 1")], effects=scenario.effects
        )

    return make


@gallery.dies("effect and outbox row in two transactions", says="lost")
def outbox_in_a_second_transaction() -> Make:
    async def work(my: Hands, what: Any) -> None:
        async with my.uow.begin() as tx:
            first = await tx.claim("c", str(what), now=my.clock.now())
        if first:
            await my.in_transaction(what, claimed=False)

    return consumer(work)


# -- the inbox ---------------------------------------------------------------------------


@gallery.dies("the inbox record in the transaction of the effect")
def inbox_with_the_effect() -> Make:
    return consumer(lambda my, what: my.in_transaction(what))


@gallery.dies("the inbox record with the effect, all processes dying twice", deaths=2)
def inbox_with_the_effect_twice() -> Make:
    return consumer(lambda my, what: my.in_transaction(what), messages=(0, 1))


@gallery.dies("the offset moves before the effect is durable", says="lost")
def offset_before_durable() -> Make:
    async def loop(my: Hands) -> None:
        while (polled := await my.queue.poll()) is not None:
            at, message = polled
            await my.queue.commit(at + 1)
            await my.in_transaction(message)

    return consumer(loop=loop)


@gallery.dies("no inbox: what is redelivered is applied again", says="doubled")
def redelivery_applied_again() -> Make:
    return consumer(lambda my, what: my.in_transaction(what, claimed=False))


@gallery.dies("a commit whose answer was lost is run again without its claim", says="doubled")
def commit_unknown() -> Make:
    async def work(my: Hands, what: Any) -> None:
        try:
            await my.in_transaction(what)
        except CommitUnknown:
            await my.in_transaction(what, claimed=False)

    return consumer(work)


@gallery.dies("a commit whose answer was lost is asked again by its claim")
def commit_unknown_read_back() -> Make:
    async def work(my: Hands, what: Any) -> None:
        try:
            await my.in_transaction(what)
        except CommitUnknown:
            await my.in_transaction(what)

    return consumer(work)


@gallery.dies("two schools' events of one id are one to the inbox", says="lost")
def dedup_key_without_the_school() -> Make:
    async def work(my: Hands, what: Any) -> None:
        async with my.uow.begin() as tx:
            if await tx.claim("c", what[1], now=my.clock.now()):
                tx.records.setdefault("effects", []).append(what)

    return consumer(work, messages=(("north", "event 1"), ("south", "event 1")))


@gallery.dies("an error is swallowed inside the transaction, the rest commits", says="lost")
def swallowed_error_inside_a_savepoint() -> Make:
    async def work(my: Hands, what: Any) -> None:
        async with my.uow.begin() as tx:
            if not await tx.claim("c", str(what), now=my.clock.now()):
                return
            with suppress(ValueError):
                if what == 1:
                    raise ValueError(what)
                tx.records.setdefault("effects", []).append(what)

    return consumer(work)


@gallery.dies("a message that fails goes to the end of the queue", says="order")
def retry_at_the_end() -> Make:
    async def loop(my: Hands) -> None:
        while (polled := await my.queue.poll()) is not None:
            at, message = polled
            if message == 0 and my.shop.queue.log.count(0) == 1:
                my.shop.queue.log.append(message)  # "tried again later"
            else:
                await my.in_transaction(message)
            await my.queue.commit(at + 1)

    return consumer(loop=loop)


@gallery.dies("an error is logged and the offset moves on", says="lost")
def error_logged_and_skipped() -> Make:
    failed: set[int] = set()

    async def work(my: Hands, what: Any) -> None:
        with suppress(ConnectionError):
            if what == 1 and id(my.shop) not in failed:
                failed.add(id(my.shop))
                raise ConnectionError
            await my.in_transaction(what)

    return consumer(work)


# -- leases ------------------------------------------------------------------------------


@gallery.dies("the claim is confirmed, then the transaction commits", says="lost")
def confirm_before_commit() -> Make:
    async def work(my: Hands, what: Any) -> None:
        lease = await my.claim(what)
        while isinstance(lease, Busy):
            my.clock.advance(LEASE)
            lease = await my.claim(what)
        if isinstance(lease, Lease):
            await my.confirm(lease)
            await my.in_transaction(what, claimed=False)

    return consumer(work)


@gallery.dies("the effect, then the confirm; busy ones are waited for")
def confirm_after_the_effect() -> Make:
    async def work(my: Hands, what: Any) -> None:
        lease = await my.claim(what)
        while isinstance(lease, Busy):
            my.clock.advance(LEASE)
            lease = await my.claim(what)
        if isinstance(lease, Lease):
            await my.effects.do(what)
            await my.confirm(lease)

    return consumer(work, where="outside", repeats=True, leases=True)


@gallery.dies("busy is taken for done: the offset moves", says="lost")
def offset_committed_while_busy() -> Make:
    async def work(my: Hands, what: Any) -> None:
        lease = await my.claim(what)
        if isinstance(lease, Lease):
            await my.effects.do(what)
            await my.confirm(lease)

    return consumer(work, where="outside", repeats=True, leases=True)


def _cached(finish: Callable[[Hands, str], Awaitable[None]], ttl: timedelta | None) -> Make:
    """GET, SET NX, work, then *finish*; the effect and its mark share a transaction."""

    async def work(my: Hands, what: Any) -> None:
        key = f"claim {what}"
        while (found := await my.cache.get(key)) is not None or not await my.cache.put_new(
            key, my.name, ttl
        ):
            if found == "completed":
                return
            if ttl is None:
                return
            my.clock.advance(ttl)
        await my.effects.do(what)
        await finish(my, key)

    return consumer(work, messages=(0,), where="outside", repeats=True, leases=ttl is not None)


@gallery.dies("SET NX without expiry: the claim of a dead worker stands for ever", says="lost")
def claim_without_a_lease() -> Make:
    async def finish(my: Hands, key: str) -> None:
        await my.cache.put(key, "completed")

    return _cached(finish, None)


@gallery.dies("a worker that lost its lease deletes what says completed", says="doubled")
def zombie_deletes_completed() -> Make:
    async def work(my: Hands, what: Any) -> None:
        lease = await my.claim(what)
        if not isinstance(lease, Lease):
            return
        async with my.uow.begin() as tx:
            fenced = tx.records.setdefault("fences", {})
            if fenced.get(what, 0) < lease.fence:  # the effect itself is fenced
                fenced[what] = lease.fence
                tx.records.setdefault("effects", []).append((what, "done"))
        if not await my.confirm(lease):
            my.shop.guard.records.pop(lease.key, None)  # "clean up after the failure"

    async def loop(my: Hands) -> None:
        for what in my.shop.queue.log:
            await work(my, what)

    return consumer(loop=loop, messages=(0,), leases=True, expected=((0, "done"),))


@gallery.dies("release of a lease by its key alone: another's is given back", says="stolen")
def release_by_a_worker_that_lost_its_lease() -> Make:
    def make() -> Scenario:
        shop = Shop([0])
        stolen: list[str] = []

        async def run(reaper: Reaper) -> None:
            my = Hands(shop, reaper)
            if await my.cache.get("done") is not None:
                return
            if await my.cache.put_new("lease", my.name, LEASE):
                await my.effects.do(my.name)
                holder = (await shop.cache.get("lease")) or "nobody"
                await my.cache.delete("lease")
                if holder not in {my.name, "nobody"}:
                    stolen.append(f"{my.name} gave back the lease of {holder}")

        def expire() -> None:
            shop.clock.advance(LATER)
            shop.cache.entries["lease"] = ("another", shop.clock.now() + LATER)

        async def check() -> None:
            assert not stolen, f"stolen: {stolen[0]}"

        return Scenario(run=run, check=check, expire=expire)

    return make


@gallery.dies("the mark is forgotten before the broker delivers again", says="doubled")
def ttl_shorter_than_redelivery() -> Make:
    async def work(my: Hands, what: Any) -> None:
        async with my.uow.begin() as tx:
            marks = tx.records.setdefault("marks", {})
            if marks.get(what, my.clock.now()) > my.clock.now():
                return
            marks[what] = my.clock.now() + timedelta(minutes=1)
            tx.records.setdefault("effects", []).append(what)

    async def loop(my: Hands) -> None:
        while (polled := await my.queue.poll()) is not None:
            at, message = polled
            await work(my, message)
            await my.queue.commit(at + 1)

    return consumer(loop=loop, messages=(0,), leases=True)


@gallery.dies("a stream is read from `>` only: a dead member's entries stay with it", says="lost")
def autoclaim_orphan() -> Make:
    async def loop(my: Hands) -> None:
        while (given := await my.queue.give(my.name)) is not None:
            at, message = given
            await my.in_transaction(message)
            await my.queue.ack(at)

    return consumer(loop=loop)


@gallery.dies("a stream's pending entries are reclaimed before new ones are read")
def pending_entries_first() -> Make:
    async def loop(my: Hands) -> None:
        while (given := await my.queue.reclaim() or await my.queue.give(my.name)) is not None:
            at, message = given
            await my.in_transaction(message)
            await my.queue.ack(at)

    return consumer(loop=loop)


@gallery.dies("clean-up forgets the claim before the result: the next run reuses it", says="lost")
def gc_interrupted_reuses_result() -> Make:
    async def loop(my: Hands) -> None:
        # Yesterday's run of the job is to be forgotten, and today's is due.
        if await my.cache.get("day") is None:
            await my.cache.put("result", "of yesterday")
            await my.cache.put("day", "today")
            if await my.cache.get("claim") is not None:
                await my.cache.delete("claim")
            await my.cache.delete("result")
        if await my.cache.get("result") is None:
            await my.in_transaction("today")
            await my.cache.put("result", "of today")

    return consumer(loop=loop, messages=("today",))
