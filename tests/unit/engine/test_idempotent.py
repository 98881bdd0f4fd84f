"""The decorator: what a handler of one's own is promised. No server, no real time."""

import asyncio
import logging
import pickle
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.memory.unprotected import MemoryUnprotectedLog
from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.engine.idempotent import COMPAT_LEASE, idempotent_consumer
from onefold.engine.outcome import AnyOutcome, Outcome
from onefold.engine.reconcile import reconcile
from onefold.errors import (
    EventBusy,
    InvalidEvent,
    InvalidSetting,
    LeaseLost,
    NotConfirmed,
    OnefoldError,
    StoreFailed,
    StoreUnavailable,
    Unsupported,
)
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Guard, Lease, Verdict
from onefold.testing.clock import ManualClock

LEASE = timedelta(seconds=30)


def event(n: int = 1, *, pieces: int = 1) -> Event:
    return Event.new(
        "order.placed",
        {"order": n, "pieces": pieces},
        source="shop",
        now=ManualClock().now(),
        random=lambda size: bytes([n]) * size,
    )


class Unreachable(Exception):
    """The handler's own failure."""


class FlakyGuard:
    """A guard whose calls fail as told: before they reach the store, or with the reply lost."""

    def __init__(self, inner: Guard) -> None:
        self.inner = inner
        self.features = inner.features
        self.before: dict[str, int] = {}
        self.after: dict[str, int] = {}
        self.calls: list[str] = []

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls.append(name)
        if self.before.get(name, 0) > 0:
            self.before[name] -= 1
            raise StoreUnavailable("refused")
        answer = await call()
        if self.after.get(name, 0) > 0:
            self.after[name] -= 1
            raise StoreUnavailable("the reply was lost")
        return answer

    async def claim(self, claims: Sequence[Claim], **how: Any) -> Sequence[Verdict]:
        answer: Sequence[Verdict] = await self._call(
            "claim", lambda: self.inner.claim(claims, **how)
        )
        return answer

    async def renew(self, leases: Sequence[Lease], **how: Any) -> Sequence[Lease | None]:
        answer: Sequence[Lease | None] = await self._call(
            "renew", lambda: self.inner.renew(leases, **how)
        )
        return answer

    async def confirm(self, confirmations: Sequence[Confirmation], **how: Any) -> Sequence[bool]:
        answer: Sequence[bool] = await self._call(
            "confirm", lambda: self.inner.confirm(confirmations, **how)
        )
        return answer

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        answer: Sequence[bool] = await self._call(
            "release", lambda: self.inner.release(leases, now=now)
        )
        return answer

    async def forget(self, *, now: datetime, limit: int) -> int:
        return await self.inner.forget(now=now, limit=limit)


class Bench:
    """A guarded handler, what it did, and the world around it."""

    def __init__(self, handler: Callable[..., Any] | None = None, **terms: Any) -> None:
        self.clock = ManualClock()
        self.store = terms.pop("store", None) or MemoryGuard()
        self.guard = FlakyGuard(self.store)
        self.slept: list[float] = []
        self.effects: list[str] = []
        how: dict[str, Any] = {
            "name": "reserve-stock",
            "clock": self.clock,
            "sleep": self.sleep,
            "jitter": lambda: 0.5,
        } | terms
        self.handle: Callable[..., Coroutine[Any, Any, AnyOutcome]] = idempotent_consumer(
            self.guard, **how
        )(handler or self.reserve)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.clock.sleep(seconds)

    async def reserve(self, message: Any, *, confirm: Any) -> str:
        self.effects.append(message.id)
        await confirm()
        return "reserved"

    async def other_worker_claims(self, message: Event) -> Lease:
        (verdict,) = await self.store.claim(
            [Claim(ClaimKey("reserve-stock", "", message.identity), message.fingerprint())],
            owner="other",
            now=self.clock.now(),
            lease=LEASE,
        )
        assert isinstance(verdict, Lease)
        return verdict

    def record(self) -> Any:
        (record,) = self.store.records.values()
        return record


# -- outcomes ------------------------------------------------------------------------------


async def test_a_new_event_is_applied() -> None:
    """The caller gets what the handler returned, in a value that says so."""
    bench = Bench()

    outcome = await bench.handle(event())

    assert outcome == Outcome.APPLIED("reserved")
    assert outcome.settled
    assert bench.guard.calls == ["claim", "confirm"]


async def test_a_redelivered_event_is_a_repeat() -> None:
    """The handler does not run; the caller learns when it did."""
    bench = Bench()
    await bench.handle(event())
    applied_at = bench.clock.now()
    bench.clock.advance(timedelta(hours=1))

    outcome = await bench.handle(event())

    assert outcome == Outcome.REPEATED(applied_at)
    assert outcome.settled
    assert len(bench.effects) == 1


async def test_outcomes_can_be_matched() -> None:
    """Each outcome is a class with positional fields."""
    bench = Bench()

    match await bench.handle(event()):
        case Outcome.APPLIED(result):
            found = result
        case other:
            found = repr(other)

    assert found == "reserved"


async def test_a_stored_result_is_replayed() -> None:
    """What was confirmed with a result gives it to every repeat."""

    async def handler(_: Event, *, confirm: Any) -> None:
        await confirm(result={"reserved": [1, 2]})

    bench = Bench(handler)
    await bench.handle(event())

    outcome = await bench.handle(event())

    assert outcome == Outcome.REPEATED(bench.clock.now(), {"reserved": [1, 2]})


async def test_the_same_id_with_other_content_is_a_conflict(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is not applied, the offset may move, and the log names the event."""
    bench = Bench()
    await bench.handle(event(pieces=1))

    outcome = await bench.handle(event(pieces=2))

    key = ClaimKey("reserve-stock", "", event().identity)
    assert outcome == Outcome.CONFLICT(key, bench.clock.now())
    assert outcome.settled
    assert f"event {key.event_id} came again with other content" in caplog.text
    assert len(bench.effects) == 1


# -- failing -------------------------------------------------------------------------------


async def test_a_handlers_error_comes_out_once() -> None:
    """The very exception, after one run, with the claim given back."""
    failure = Unreachable("smtp")
    runs = []

    async def handler(_: Event, *, confirm: Any) -> None:
        runs.append(confirm.attempt)
        raise failure

    bench = Bench(handler)
    for _ in range(3):
        with pytest.raises(Unreachable) as raised:
            await bench.handle(event())
        assert raised.value is failure

    assert runs == [1, 2, 3]
    assert bench.record().state == "released"


async def test_a_handlers_error_can_be_a_value() -> None:
    """For callers that match on outcomes only."""
    failure = Unreachable("smtp")

    async def handler(_: Event, *, confirm: Any) -> None:
        raise failure

    bench = Bench(handler, failures="return")
    await bench.handle(event())

    outcome = await bench.handle(event())

    assert outcome == Outcome.FAILED(failure, 2)
    assert not outcome.settled


async def test_a_guards_error_in_the_handler_is_the_handlers() -> None:
    """A handler that talks to a broken store of its own runs once, like any that fails (B1)."""
    runs = []

    async def handler(_: Event, *, confirm: Any) -> None:
        runs.append(1)
        raise StoreUnavailable("the handler's own database")

    bench = Bench(handler, on_guard_down="process", unprotected=MemoryUnprotectedLog())

    with pytest.raises(StoreUnavailable):
        await bench.handle(event())

    assert runs == [1]


async def test_raising_after_the_confirmation_undoes_nothing() -> None:
    """The error comes out, the completion stays: a redelivery is a repeat (B3)."""

    async def handler(_: Event, *, confirm: Any) -> None:
        await confirm()
        raise Unreachable("logging")

    bench = Bench(handler, failures="return")
    outcome = await bench.handle(event())

    again = await bench.handle(event())

    match outcome:
        case Outcome.FAILED(Unreachable(), 1, True):
            assert outcome.settled
        case other:
            pytest.fail(repr(other))
    assert isinstance(again, Outcome.REPEATED)


async def test_returning_without_confirming_is_an_error() -> None:
    """It names the consumer and the event, and the claim is free again (B23, B25)."""
    runs = []

    async def handler(_: Event, *, confirm: Any) -> None:
        runs.append(1)

    bench = Bench(handler)
    with pytest.raises(NotConfirmed):
        await bench.handle(event())
    with pytest.raises(NotConfirmed) as raised:
        await bench.handle(event())

    assert raised.value.consumer == "reserve-stock"
    assert raised.value.event_id == event().identity
    assert "reserve-stock returned without calling confirm" in str(raised.value)
    assert runs == [1, 1]


async def test_a_failing_release_hides_nothing() -> None:
    """The handler's error comes out; the lease runs out by itself."""

    async def handler(_: Event, *, confirm: Any) -> None:
        raise Unreachable("smtp")

    bench = Bench(handler)
    bench.guard.before["release"] = 1

    with pytest.raises(Unreachable):
        await bench.handle(event())

    assert bench.record().state == "leased"


async def test_cancellation_never_confirms() -> None:
    """A handler cut off in the middle gives its claim back, whatever it does on its way out."""
    began = asyncio.Event()

    async def handler(_: Event, *, confirm: Any) -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await confirm()

    bench = Bench(handler)
    task = asyncio.create_task(bench.handle(event()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert bench.record().state == "released"
    assert "confirm" not in bench.guard.calls


# -- a concurrent duplicate ----------------------------------------------------------------


async def test_a_busy_event_is_waited_for() -> None:
    """The duplicate is a repeat once the other worker has finished (B4)."""
    bench = Bench()
    held = await bench.other_worker_claims(event())

    async def finish(_: float) -> None:
        await bench.sleep(_)
        if len(bench.slept) == 3:
            await bench.store.confirm(
                [Confirmation(held)], now=bench.clock.now(), keep=timedelta(days=1)
            )

    handle = idempotent_consumer(
        bench.guard, name="reserve-stock", clock=bench.clock, sleep=finish, jitter=lambda: 0.5
    )(bench.reserve)
    outcome = await handle(event())

    assert isinstance(outcome, Outcome.REPEATED)
    assert bench.effects == []
    assert len(bench.slept) == 3


async def test_a_dead_holders_event_is_taken_over_when_its_lease_ends() -> None:
    """Waiting ends at the lease's end, and not a poll later."""
    bench = Bench()
    held = await bench.other_worker_claims(event())

    outcome = await bench.handle(event())

    assert outcome == Outcome.APPLIED("reserved")
    assert bench.clock.now() == held.until
    assert bench.record().attempt == 2


async def test_waiting_may_have_an_end() -> None:
    """After its patience the duplicate is BUSY, which settles nothing."""
    bench = Bench(patience=timedelta(seconds=2))
    held = await bench.other_worker_claims(event())

    outcome = await bench.handle(event())

    assert outcome == Outcome.BUSY(held.until)
    assert not outcome.settled


async def test_a_busy_event_can_be_skipped_or_rejected() -> None:
    """BUSY at once as a value, or as an error that may be retried."""
    skipping, rejecting = Bench(when_busy="skip"), Bench(when_busy="reject")
    held = await skipping.other_worker_claims(event())
    await rejecting.other_worker_claims(event())

    outcome = await skipping.handle(event())
    with pytest.raises(EventBusy) as busy:
        await rejecting.handle(event())

    assert outcome == Outcome.BUSY(held.until)
    assert busy.value.until == held.until
    assert busy.value.retryable
    assert skipping.slept == rejecting.slept == []


async def test_replaying_insists_on_a_result() -> None:
    """A handler whose repeats are promised a result must store one."""
    bench = Bench(when_busy="replay")

    with pytest.raises(NotConfirmed, match="promises to replay"):
        await bench.handle(event())


# -- a guard that does not answer ----------------------------------------------------------


async def test_by_default_an_outage_is_waited_out() -> None:
    """With backoff, and nothing runs before the guard answers (B15)."""
    bench = Bench()
    bench.guard.before["claim"] = 5

    outcome = await bench.handle(event())

    assert outcome == Outcome.APPLIED("reserved")
    assert bench.slept == pytest.approx([0.075, 0.15, 0.3, 0.6, 1.2])
    assert len(bench.effects) == 1


async def test_an_outage_can_fail() -> None:
    """The caller decides; nothing was run."""
    bench = Bench(on_guard_down="fail")
    bench.guard.before["claim"] = 1

    with pytest.raises(StoreUnavailable):
        await bench.handle(event())

    assert bench.effects == []


async def test_a_broken_guard_is_not_waited_for() -> None:
    """A wrong password does not mend itself."""

    class Broken(MemoryGuard):
        async def claim(self, *_: Any, **__: Any) -> Sequence[Verdict]:
            raise StoreFailed("WRONGPASS")

    bench = Bench(store=Broken())

    with pytest.raises(StoreFailed):
        await bench.handle(event())

    assert bench.slept == []


async def test_a_lost_reply_to_a_claim_is_asked_again() -> None:
    """The claim is ours although nobody told us (B14)."""
    bench = Bench()
    bench.guard.after["claim"] = 1

    outcome = await bench.handle(event())

    assert outcome == Outcome.APPLIED("reserved")
    assert bench.record().attempt == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_failing_confirmation_is_asked_again(when: str) -> None:
    """It returns when it is on record, and not before (B16)."""
    bench = Bench()
    getattr(bench.guard, when)["confirm"] = 3

    outcome = await bench.handle(event())

    assert outcome == Outcome.APPLIED("reserved")
    assert bench.record().state == "completed"
    assert len(bench.effects) == 1


async def test_a_failing_confirmation_is_told_to_those_who_want_to_fail() -> None:
    """The handler learns that it may or may not be on record."""
    bench = Bench(on_guard_down="fail")
    bench.guard.before["confirm"] = 1

    with pytest.raises(StoreUnavailable):
        await bench.handle(event())


async def test_processing_without_a_guard_is_loud_and_written_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The message is really processed, its confirm works, and its id is kept (B15)."""
    noted = MemoryUnprotectedLog()
    bench = Bench(on_guard_down="process", unprotected=noted)
    bench.guard.before["claim"] = 1

    outcome = await bench.handle(event())

    assert outcome == Outcome.APPLIED("reserved", protected=False)
    assert bench.effects == [event().id]
    (written,) = await noted.unsettled(limit=10)
    assert written.key == ClaimKey("reserve-stock", "", event().identity)
    assert "WITHOUT PROTECTION" in caplog.text


async def test_reconciling_makes_redeliveries_repeats() -> None:
    """What ran without protection is completed afterwards, as if it had been guarded."""
    noted = MemoryUnprotectedLog()
    bench = Bench(on_guard_down="process", unprotected=noted)
    bench.guard.before["claim"] = 1
    await bench.handle(event())

    report = await reconcile(bench.guard, noted, now=bench.clock.now())
    again = await bench.handle(event())

    assert [each.key.event_id for each in report.recorded] == [event().identity]
    assert (report.suspect, report.open) == ([], [])
    assert isinstance(again, Outcome.REPEATED)
    assert await noted.unsettled(limit=10) == []


async def test_reconciling_names_what_may_have_been_doubled() -> None:
    """Processed without a guard and with one, or twice without: somebody should look."""
    noted = MemoryUnprotectedLog()
    bench = Bench(on_guard_down="process", unprotected=noted)
    await bench.handle(event(1))
    bench.clock.advance(timedelta(minutes=1))
    bench.guard.before["claim"] = 4
    await bench.handle(event(1))
    await bench.handle(event(2))
    await bench.handle(event(2))
    held = await bench.handle(event(3))
    await bench.other_worker_claims(event(3))

    report = await reconcile(bench.guard, noted, now=bench.clock.now())

    assert held == Outcome.APPLIED("reserved", protected=False)
    assert {each.key.event_id for each in report.suspect} == {
        event(1).identity,
        event(2).identity,
    }
    assert [each.key.event_id for each in report.open] == [event(3).identity]
    assert len(await noted.unsettled(limit=10)) == 1


@pytest.mark.parametrize("days", [3, 60])
async def test_reconciling_keeps_a_record_as_long_as_its_handler_does(days: int) -> None:
    """By the type of its event, from when it was processed: what can still come is no new event."""
    kept, noted = timedelta(days=days), MemoryUnprotectedLog()
    terms: dict[str, Any] = {"keep": {event().type: kept}, "default_keep": timedelta(days=14)}
    bench = Bench(on_guard_down="process", unprotected=noted, **terms)
    bench.guard.before["claim"] = 1
    await bench.handle(event())
    at = bench.clock.now()
    bench.clock.advance(timedelta(hours=1))

    await reconcile(bench.guard, noted, now=bench.clock.now())

    assert (bench.record().completed_at, bench.record().forget_at) == (at, at + kept)


async def _ran_unprotected(handler: Callable[..., Any] | None = None) -> tuple[Bench, Any]:
    """One event, applied once while no guard answered."""
    noted = MemoryUnprotectedLog()
    bench = Bench(handler, on_guard_down="process", unprotected=noted)
    bench.guard.before["claim"] = 1
    await bench.handle(event())
    bench.clock.advance(timedelta(minutes=1))
    return bench, noted


async def test_reconciling_that_was_interrupted_suspects_nobody() -> None:
    """Recorded, and the answer lost before it was settled: its own record is no other run's."""
    bench, noted = await _ran_unprotected()
    bench.guard.after["confirm"] = 1
    with pytest.raises(StoreUnavailable):
        await reconcile(bench.guard, noted, now=bench.clock.now())
    bench.clock.advance(timedelta(minutes=1))

    report = await reconcile(bench.guard, noted, now=bench.clock.now())

    assert [each.key.event_id for each in report.recorded] == [event().identity]
    assert (report.suspect, report.open) == ([], [])
    assert await noted.unsettled(limit=10) == []


async def test_an_unprotected_run_that_confirms_twice_ran_once() -> None:
    """`confirm` is idempotent there too: one run is not two."""

    async def handler(_: Event, *, confirm: Any) -> None:
        await confirm()
        await confirm()

    bench, noted = await _ran_unprotected(handler)

    report = await reconcile(bench.guard, noted, now=bench.clock.now())

    assert [each.times for each in report.recorded] == [1]
    assert report.suspect == []


@pytest.mark.parametrize(
    "why", [StoreUnavailable("refused"), StoreFailed("no such table")], ids=["down", "broken"]
)
async def test_an_id_that_cannot_be_written_down_is_in_the_log(
    caplog: pytest.LogCaptureFixture, why: OnefoldError
) -> None:
    """When the list of unprotected ids is out of reach or broken too, the log has the id."""

    class Down(MemoryUnprotectedLog):
        async def note(self, event: Any) -> None:
            raise why

    bench = Bench(on_guard_down="process", unprotected=Down())
    bench.guard.before["claim"] = 1

    await bench.handle(event())

    (critical,) = (each for each in caplog.records if each.levelno == logging.CRITICAL)
    assert event().identity in critical.getMessage()


# -- leases --------------------------------------------------------------------------------


async def test_a_worker_that_lost_its_lease_learns_it() -> None:
    """Its confirmation raises, and the record is the other worker's (B10)."""

    async def handler(message: Event, *, confirm: Any) -> None:
        bench.clock.advance(LEASE)
        await bench.other_worker_claims(message)
        await confirm()

    bench = Bench(handler)

    with pytest.raises(LeaseLost) as lost:
        await bench.handle(event())

    assert lost.value.consumer == "reserve-stock"
    assert bench.record().owner == "other"
    assert bench.record().state == "leased"


async def test_the_lease_is_renewed_while_the_handler_runs() -> None:
    """At each third of it, for as long as it takes."""
    renewed = asyncio.Event()

    class Signals(MemoryGuard):
        async def renew(
            self, leases: Sequence[Lease], *, now: datetime, lease: timedelta
        ) -> Sequence[Lease | None]:
            renewed.set()
            return await super().renew(leases, now=now, lease=lease)

    async def handler(_: Event, *, confirm: Any) -> None:
        for _n in range(3):
            renewed.clear()
            bench.clock.advance(timedelta(milliseconds=20))
            await renewed.wait()
        await confirm()

    bench = Bench(handler, store=Signals(), lease=timedelta(milliseconds=60))
    start = bench.clock.now()

    await bench.handle(event())

    assert bench.record().until >= start + timedelta(milliseconds=120)


async def test_a_lease_found_lost_on_renewal_is_told_to_the_handler() -> None:
    """It can stop before it does more harm; confirming raises."""
    found = asyncio.Event()

    class Signals(MemoryGuard):
        async def renew(
            self, leases: Sequence[Lease], *, now: datetime, lease: timedelta
        ) -> Sequence[Lease | None]:
            answer = await super().renew(leases, now=now, lease=lease)
            asyncio.get_running_loop().call_soon(found.set)
            return answer

    async def handler(message: Event, *, confirm: Any) -> None:
        bench.clock.advance(LEASE)
        await bench.other_worker_claims(message)
        await found.wait()
        seen.append(confirm.lost)
        await confirm()

    seen: list[bool] = []
    bench = Bench(handler, store=Signals(), lease=timedelta(milliseconds=30))

    with pytest.raises(LeaseLost):
        await bench.handle(event())

    assert seen == [True]


async def test_a_blocked_event_loop_is_named() -> None:
    """The thread sees that nothing gets on, and says in which handler and at which line."""
    noticed = threading.Event()
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())
            noticed.set()

    async def handler(_: Event, *, confirm: Any) -> None:
        assert noticed.wait(timeout=10)  # blocks the loop until the watchdog has noticed
        await confirm()

    listener = Listener(logging.ERROR)
    watchdog_log = logging.getLogger("onefold.engine.watchdog")
    watchdog_log.addHandler(listener)
    try:
        bench = Bench(handler, lease=timedelta(milliseconds=60))
        await bench.handle(event())
    finally:
        watchdog_log.removeHandler(listener)

    assert len(messages) == 1
    assert "while reserve-stock runs" in messages[0]


async def test_the_handler_sees_its_fence() -> None:
    """It can hand it to a foreign system that compares."""
    fences = []

    async def handler(_: Event, *, confirm: Any) -> None:
        fences.append(confirm.fence)
        raise Unreachable("twice")

    bench = Bench(handler)
    for _ in range(2):
        with pytest.raises(Unreachable):
            await bench.handle(event())

    assert fences[0] < fences[1]


# -- handlers in threads -------------------------------------------------------------------


async def test_a_sync_handler_runs_in_a_thread() -> None:
    """The event loop goes on meanwhile; confirm is a plain call there."""
    threads = []

    def handler(_: Event, suffix: str, *, confirm: Any, prefix: str) -> str:
        threads.append(threading.current_thread())
        confirm(result=1)
        return prefix + suffix

    bench = Bench(handler)

    outcome = await bench.handle(event(), "served", prefix="re")

    assert outcome == Outcome.APPLIED("reserved")
    assert threads[0] is not threading.current_thread()
    assert await bench.handle(event(), "served", prefix="re") == Outcome.REPEATED(
        bench.clock.now(), 1
    )


async def test_a_sync_handlers_error_comes_out_once() -> None:
    """As with async ones."""

    def handler(_: Event, *, confirm: Any) -> None:
        raise Unreachable("smtp")

    bench = Bench(handler)

    with pytest.raises(Unreachable):
        await bench.handle(event())

    assert bench.record().state == "released"


async def test_a_cancelled_thread_never_confirms_and_keeps_its_claim_until_it_ends() -> None:
    """A thread cannot be stopped: nobody else begins meanwhile, and it has no say any more."""
    began, go_on = asyncio.Event(), threading.Event()
    released = asyncio.Event()
    loop = asyncio.get_running_loop()
    errors: list[BaseException] = []

    class Signals(MemoryGuard):
        async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
            answer = await super().release(leases, now=now)
            released.set()
            return answer

    def handler(_: Event, *, confirm: Any) -> None:
        loop.call_soon_threadsafe(began.set)
        go_on.wait(timeout=10)
        try:
            confirm()
        except LeaseLost as lost:
            errors.append(lost)
            raise

    bench = Bench(handler, store=Signals())
    task = asyncio.create_task(bench.handle(event()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    meanwhile = bench.record().state
    go_on.set()
    await released.wait()

    assert meanwhile == "leased"
    assert bench.record().state == "released"
    assert len(errors) == 1


# -- messages of any client ----------------------------------------------------------------


class ConfluentMessage:
    """As confluent-kafka has it: everything is a method."""

    def __init__(self, value: bytes | None, headers: Any = None, error: Any = None) -> None:
        self._value, self._headers, self._error = value, headers, error

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return self._headers

    def error(self) -> Any:
        return self._error


def _messages() -> list[Any]:
    body = encode_native(event())
    headers = [("trace", b"1"), ("event_id", event().id.encode())]
    return [
        event(),
        body,
        bytearray(body),
        memoryview(body),
        body.decode(),
        ConfluentMessage(body),
        ConfluentMessage(body, headers),
        SimpleNamespace(value=body, headers=tuple(headers), topic="orders", offset=3),
        SimpleNamespace(value=msgspec.json.decode(body), headers=()),
        SimpleNamespace(body=body, headers={"x-retries": 3}),
        SimpleNamespace(data=body),
        {"value": body, "headers": headers},
        {"value": body.decode(), "headers": None},
        msgspec.json.decode(body),
    ]


@pytest.mark.parametrize("message", _messages(), ids=lambda message: type(message).__name__)
async def test_any_clients_message_is_the_same_event(message: Any) -> None:
    """However it came, its identity is that of the event (B18)."""
    seen = []

    async def handler(got: Any, *, confirm: Any) -> None:
        seen.append(got)
        await confirm()

    bench = Bench(handler)
    await bench.handle(message)

    again = await bench.handle(event())

    assert isinstance(again, Outcome.REPEATED)
    assert seen[0] is message


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"not json",
        "\ud800",
        None,
        {},
        {"value": None},
        {"value": object()},
        ConfluentMessage(None),
        ConfluentMessage(None, error="_PARTITION_EOF"),
        SimpleNamespace(),
        object(),
    ],
    ids=lambda wrong: type(wrong).__name__,
)
async def test_what_is_no_event_never_reaches_the_handler(message: Any) -> None:
    """Nor the guard (B19)."""
    bench = Bench()

    with pytest.raises(InvalidEvent):
        await bench.handle(message)

    assert bench.effects == []
    assert bench.guard.calls == []


# -- terms ---------------------------------------------------------------------------------


async def test_completions_are_kept_as_long_as_their_type_says() -> None:
    """By type where one is named, else for the default (B17)."""
    bench = Bench(keep={"order.placed": timedelta(days=90)}, default_keep=timedelta(days=1))
    await bench.handle(event())

    assert bench.record().forget_at == bench.clock.now() + timedelta(days=90)


async def test_the_default_is_two_weeks() -> None:
    bench = Bench()
    await bench.handle(event())

    assert bench.record().forget_at == bench.clock.now() + timedelta(days=14)
    assert timedelta(minutes=5) == COMPAT_LEASE


def test_a_memory_shorter_than_the_sources_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What can still be redelivered after it was forgotten would be applied again (B17)."""
    month = timedelta(days=30)
    Bench(keep={"order.placed": month}, retention=timedelta(days=21))

    (warning,) = caplog.records
    assert "every other event" in warning.getMessage()


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"lease": timedelta(0)}, "lease"),
        ({"keep": timedelta(0)}, "keep"),
        ({"keep": {"order.placed": timedelta(-1)}}, "keep"),
        ({"on_guard_down": "process"}, "unprotected"),
    ],
)
def test_terms_that_make_no_sense_are_refused(wrong: dict[str, Any], setting: str) -> None:
    """Where the handler is decorated, not when the first message comes."""
    with pytest.raises(InvalidSetting) as refused:
        Bench(**wrong)

    assert refused.value.name == setting


async def test_a_guard_without_sql_cannot_confirm_in_a_transaction() -> None:
    """It says so; the claim is given back."""

    async def handler(_: Event, *, confirm: Any) -> None:
        await confirm(object())

    bench = Bench(handler)

    with pytest.raises(Unsupported):
        await bench.handle(event())

    assert bench.record().state == "released"


def test_the_handler_keeps_its_name() -> None:
    """The decorated function looks like the handler."""
    assert Bench().handle.__name__ == "reserve"


@pytest.mark.parametrize(
    "error",
    [
        NotConfirmed("c", "e", "returned"),
        LeaseLost("c", "e", 3),
        EventBusy("c", "e", ManualClock().now()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: Exception) -> None:
    """They cross process borders."""
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), copy.args, str(copy)) == (type(error), error.args, str(error))
