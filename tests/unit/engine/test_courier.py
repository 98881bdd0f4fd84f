"""The courier over a desk and deadlines in memory: batches, time-outs, bugs of a sink."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from onefold.adapters.memory.unit_of_work import MemoryDeadlines, MemoryUnitOfWork
from onefold.engine.courier import IDLE, LEASE, Courier
from onefold.errors import StoreUnavailable
from onefold.ports.deadlines import Deadline, Deadlines
from onefold.ports.delivery_book import DeliveryResult, Route, Sending
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome
from onefold.testing.clock import ManualClock

OK = SendOutcome(OutcomeKind.DELIVERED, "ok")
Took = Callable[[Sequence[Parcel]], Awaitable[Any]]


class Recorded:
    """Deadlines in memory, and which of their calls were made, in order."""

    def __init__(self) -> None:
        self.uow, self.asked = MemoryUnitOfWork(), list[str]()
        self._inner = MemoryDeadlines(self.uow)

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._inner, name)


@dataclass
class Book:
    """The desk of one destination, and its deadlines: what is due, and what became of it."""

    clock: ManualClock
    deadlines: Recorded = field(default_factory=Recorded)
    attempts: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, SendOutcome] = field(default_factory=dict)
    rounds: list[int] = field(default_factory=list)
    opening: timedelta = timedelta()
    room: int = 1000
    breaks_on: str | None = None  # a bug: settling this key fails its whole round
    away: int = 0  # so many more rounds fail, because the store is away

    async def arm(self, *keys: str, after: timedelta = timedelta(), kind: str = "job") -> None:
        at = self.clock.now() + after
        await self.deadlines.arm(
            [Deadline(kind=kind, key=key, due_at=at, payload={}) for key in keys]
        )

    @property
    def armed(self) -> set[str]:
        return {key for _, key in self.deadlines.uow.committed.deadlines}

    async def routes(self, *, now: datetime) -> tuple[Sequence[Route], datetime | None]:
        route = Route(
            kind="job", destination="there", school="", room=self.room, version=1, sink="",
            config={}, secrets={},
        )  # fmt: skip
        return [route], None

    async def open(
        self, route: Route, keys: Sequence[str], *, now: datetime, lease: timedelta
    ) -> tuple[Sequence[Sending], Sequence[DeliveryResult]]:
        self.attempts.update(keys)
        self.clock.advance(self.opening)
        return [
            Sending(key=key, destination=route.destination, fence=0, parcel=self._parcel(key, now))
            for key in keys
        ], []

    def _parcel(self, key: str, now: datetime) -> Parcel:
        return Parcel(message_id=key, body=b"", occurred_at=now, attempt=self.attempts[key])

    async def settle(
        self, results: Sequence[tuple[Sending, SendOutcome, datetime]], *, now: datetime
    ) -> Sequence[DeliveryResult]:
        self.rounds.append(len(results))
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        if self.breaks_on in {sending.key for sending, _, _ in results}:
            raise ZeroDivisionError
        self.outcomes |= {sending.key: outcome for sending, outcome, _ in results}
        return [
            DeliveryResult(
                key=s.key, said=o.kind, again_at=None if o.kind is OutcomeKind.DELIVERED else now
            )
            for s, o, _ in results
        ]


@dataclass
class ByMany:
    """A sink of many; *took* decides what each call answers."""

    took: Took | None = None
    most_at_once: int = 10
    calls: list[list[str]] = field(default_factory=list)

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        outcome: SendOutcome = (await self._call([parcel]))[0]
        return outcome

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        outcomes: Sequence[SendOutcome] = await self._call(parcels)
        return outcomes

    async def _call(self, parcels: Sequence[Parcel]) -> Any:
        self.calls.append([one.message_id for one in parcels])
        return [OK] * len(parcels) if self.took is None else await self.took(parcels)

    async def aclose(self) -> None:
        """Nothing is open."""


def _keys(count: int) -> list[str]:
    return [f"{n:03}" for n in range(count)]


def _courier(book: Book, sink: Any, **how: Any) -> Courier:
    return Courier(cast("Deadlines", book.deadlines), book, lambda _: sink, clock=book.clock, **how)


async def _worked(book: Book, sink: Any, **how: Any) -> Counter[str]:
    courier = _courier(book, sink, **how)
    try:
        return await courier.work_off()
    finally:
        await courier.aclose()


@pytest.fixture
def book() -> Book:
    return Book(ManualClock())


async def test_a_sink_of_many_gets_as_many_as_it_takes(book: Book) -> None:
    """In calls of its own size, the longest due first; each delivered once."""
    await book.arm(*_keys(25))
    sink = ByMany()

    assert await _worked(book, sink) == {"delivered": 25}

    assert [len(call) for call in sink.calls] == [10, 10, 5]
    assert [key for call in sink.calls for key in call] == _keys(25)


async def test_a_sink_that_declares_nothing_gets_one_at_a_time(book: Book) -> None:
    """As every sink did before."""
    await book.arm(*_keys(3))
    sink = ByMany(most_at_once=1)

    assert await _worked(book, sink) == {"delivered": 3}

    assert sink.calls == [["000"], ["001"], ["002"]]


async def test_each_of_many_has_its_own_outcome(book: Book) -> None:
    """What failed is tried again, alone, and the others are over."""
    await book.arm(*_keys(4))
    busy = SendOutcome(OutcomeKind.RETRY, "busy")

    async def took(parcels: Sequence[Parcel]) -> list[SendOutcome]:
        return [busy if (p.message_id, p.attempt) == ("002", 1) else OK for p in parcels]

    sink = ByMany(took)

    assert await _worked(book, sink) == {"delivered": 4, "retry": 1}

    assert sink.calls == [_keys(4), ["002"]]


async def _raises(parcels: Sequence[Parcel]) -> Any:
    raise ValueError(f"token=hunter2 of {parcels[0].message_id}")


async def _too_few(parcels: Sequence[Parcel]) -> Any:
    return [OK] * (len(parcels) - 1)


async def _none(parcels: Sequence[Parcel]) -> Any:
    return [None] * len(parcels)


async def _nothing(parcels: Sequence[Parcel]) -> Any:
    del parcels


@pytest.mark.parametrize("broken", [_raises, _too_few, _none, _nothing])
async def test_a_call_that_breaks_costs_each_of_it_one_attempt(
    book: Book, broken: Took, caplog: pytest.LogCaptureFixture
) -> None:
    """And never a second: the next time each goes alone, so that only the culprit goes on."""
    await book.arm(*_keys(4))

    async def took(parcels: Sequence[Parcel]) -> Any:
        culprit = any(p.message_id == "001" and p.attempt < 4 for p in parcels)
        return await broken(parcels) if culprit else [OK] * len(parcels)

    assert await _worked(book, ByMany(took)) == {"delivered": 4, "retry": 6}

    assert book.attempts == {"000": 2, "001": 4, "002": 2, "003": 2}
    assert "hunter2" not in caplog.text
    assert caplog.text.count("a sink ") == 3


async def test_an_attempt_ends_within_the_lease_of_its_claim(book: Book) -> None:
    """Opening took most of it: what is left for the sink is what the claim has left."""
    await book.arm("000")
    book.opening = LEASE * 0.75 - timedelta(seconds=0.05)

    async def took(parcels: Sequence[Parcel]) -> Any:
        return [OK] if parcels[0].attempt > 1 else await asyncio.Event().wait()

    async with asyncio.timeout(10):  # counted from the send it would be 45 s
        assert await _worked(book, ByMany(took)) == {"retry": 1, "delivered": 1}


@pytest.mark.parametrize("count", [1, 4])
async def test_nothing_is_sent_when_its_lease_may_be_over(book: Book, count: int) -> None:
    """Another courier may have it by then: the attempt ends unsent, and is made again."""
    await book.arm(*_keys(count))
    book.opening, sink = LEASE * 0.75, ByMany()
    courier = _courier(book, sink)

    assert await courier.step()
    await courier.settled()

    assert (sink.calls, book.outcomes["000"]) == ([], SendOutcome(OutcomeKind.RETRY, "late"))
    book.opening = timedelta()
    assert await courier.work_off() == {"delivered": count}
    await courier.aclose()


async def test_a_hanging_call_costs_those_in_it_one_attempt(book: Book) -> None:
    """All of the call time out together, and then each goes alone."""
    await book.arm(*_keys(3))

    async def took(parcels: Sequence[Parcel]) -> Any:
        return [OK] if len(parcels) == 1 else await asyncio.Event().wait()

    assert await _worked(book, ByMany(took), lease=timedelta(seconds=0.1)) == {
        "retry": 3,
        "delivered": 3,
    }


async def test_a_claim_is_settled_in_one_round(book: Book) -> None:
    """However many went in a call, and however many calls ended at once."""
    await book.arm(*_keys(25))

    await _worked(book, ByMany())

    assert sum(book.rounds) == 25
    assert len(book.rounds) <= 2  # the first call to end waits for no other


async def test_a_bug_in_settling_hits_the_culprit_alone(book: Book) -> None:
    """The others of its call are over; it is sent again when its lease ends."""
    await book.arm(*_keys(5))
    book.breaks_on = "003"
    courier = _courier(book, ByMany())

    assert await courier.step()
    await courier.settled()

    assert (book.armed, set(book.outcomes)) == ({"003"}, {"000", "001", "002", "004"})
    assert courier.said == {"delivered": 4}
    book.breaks_on = None
    book.clock.advance(LEASE)
    assert await courier.work_off() == {"delivered": 1}
    await courier.aclose()


async def test_what_a_store_that_is_away_did_not_record_is_sent_again(book: Book) -> None:
    """When its lease ends; the attempt is not settled twice."""
    await book.arm(*_keys(5))
    book.away = 1
    sink = ByMany()
    courier = _courier(book, sink)

    assert await courier.step()
    await courier.settled()

    assert (book.rounds, courier.said) == ([5], {})
    book.clock.advance(LEASE)
    assert await courier.work_off() == {"delivered": 5}
    assert sink.calls == [_keys(5), *([key] for key in _keys(5))]
    await courier.aclose()


async def test_what_is_given_up_in_the_middle_of_a_call_is_due_again(book: Book) -> None:
    """A courier that ends leaves no task, and another sends all of the call again."""
    await book.arm(*_keys(3))
    began = asyncio.Event()

    async def took(parcels: Sequence[Parcel]) -> Any:
        began.set()
        return await asyncio.Event().wait()

    courier = _courier(book, ByMany(took))
    await courier.step()
    await began.wait()

    await courier.aclose()

    assert (book.outcomes, courier.said) == ({}, {})
    book.clock.advance(LEASE)
    assert await _worked(book, ByMany()) == {"delivered": 3}


async def test_a_receipt_outlives_the_courier_that_is_closed(book: Book) -> None:
    """What the receiver has is recorded, in a round under way or in line: it is not sent again."""
    await book.arm(*_keys(3))
    sink, settling, go_on = ByMany(most_at_once=1), asyncio.Event(), asyncio.Event()
    settle = book.settle

    async def slow(results: Any, *, now: datetime) -> Sequence[DeliveryResult]:
        settling.set()
        await go_on.wait()
        return await settle(results, now=now)

    book.settle = slow  # type: ignore[method-assign]
    courier = _courier(book, sink)
    await courier.step()
    await settling.wait()
    closing = asyncio.create_task(courier.aclose())
    await asyncio.wait((closing,), timeout=0.01)

    assert not closing.done(), "what it was recording would go on without its store"
    go_on.set()
    await closing

    assert (courier.said, book.armed) == ({"delivered": 3}, set())


async def test_a_sink_that_nobody_uses_is_closed(book: Book) -> None:
    """Destinations come and go for as long as a worker runs: their connections do not stay."""
    closed: list[object] = []

    class Closing(ByMany):
        async def aclose(self) -> None:
            closed.append(self)

    courier = _courier(book, None)
    courier._make = lambda _: Closing()
    for _ in range(3):
        await book.arm("000")
        await courier.work_off()
        book.clock.advance(IDLE)
    assert closed == [], "it is in use"

    book.clock.advance(timedelta(seconds=1))
    await courier.step()
    await asyncio.gather(*courier._retiring)

    assert (len(closed), courier._sinks, courier._used) == (1, {}, {})
    await courier.aclose()
    assert len(closed) == 1


async def test_a_sink_that_cannot_be_closed_keeps_no_other_open(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    """Its bug is told, without its text, and the courier is closed all the same."""

    class Stuck(ByMany):
        async def aclose(self) -> None:
            raise RuntimeError("hunter2")

    class Closing(ByMany):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    courier, last = _courier(book, Stuck()), Closing()
    await book.arm("000")
    await courier.work_off()
    courier._sinks["another"] = (1, last)

    await courier.aclose()

    assert last.closed
    assert ("not closed: RuntimeError" in caplog.text, "hunter2" in caplog.text) == (True, False)


async def test_a_limit_counts_deliveries_not_calls(book: Book) -> None:
    """So many, though they go in one call."""
    await book.arm(*_keys(20))
    courier = _courier(book, ByMany())

    assert await courier.work_off(limit=7) == {"delivered": 7}

    assert len(book.armed) == 13
    await courier.aclose()


async def test_a_full_claim_is_followed_by_a_claim(book: Book) -> None:
    """When it is due is not asked while it certainly was; nothing to postpone asks nothing."""
    await book.arm(*_keys(25))

    await _worked(book, ByMany(), batch=10)

    looks = [one for one in book.deadlines.asked if one in {"claim", "next_due"}]
    assert looks[:4] == ["next_due", "claim", "claim", "claim"]  # 10, 10, and 5 of 10
    assert set(looks[4:]) == {"next_due"}
    assert "postpone" not in book.deadlines.asked


async def test_a_full_claim_of_all_there_was_is_found_out_at_once(book: Book) -> None:
    """The claim that follows is empty, and what is due next is asked before any pause."""
    await book.arm(*_keys(10))
    await book.arm("later", after=timedelta(seconds=0.2))
    courier = _courier(book, ByMany(), batch=10)

    assert await courier.step()
    await courier.settled()
    assert not await courier.step()
    assert courier.pause_s() == 0.001
    assert not await courier.step()
    assert courier.pause_s() == 0.2
    await courier.aclose()


async def test_a_full_claim_hides_no_other_destination(book: Book) -> None:
    """Whatever else may be due is asked for, each time."""
    await book.arm(*_keys(25))
    await book.arm("elsewhere", kind="other")
    courier = _courier(book, ByMany(), batch=10)
    await courier.step()

    asked = await courier._due(["job", "other"])

    assert asked["job"] == book.clock.now()
    assert book.deadlines.asked[-1] == "next_due"
    assert asked["other"] == book.clock.now()
    await courier.aclose()
