"""
A guard around a handler that owns its loop and its transaction.

    @idempotent_consumer(guard, name="reserve-stock")
    async def reserve_stock(message, *, confirm) -> None:
        async with session.begin():
            ...
            await confirm(session)  # the completion commits with the effect
        # or, without a SQL guard: await confirm() here, after the commit

    outcome = await reserve_stock(message)

What holds, whatever happens:

- the handler runs at most once a call, outside of anything that handles the guard's errors;
  its own exception comes out unchanged, once;
- it runs only under a lease, or loudly without any (`on_guard_down="process"`);
- `confirm` says the truth: it returns when the completion is on record (or, inside a
  transaction, will be with its commit), and raises `LeaseLost` when another worker has taken
  the event over; inside a transaction that rolls the effect back;
- a handler that returns without its confirmation on record is an error, not a success. After
  `confirm(session)` the record is read back: a transaction that never committed is noticed;
- failing and being cancelled give the claim back; neither undoes a completion.

Record mode `lease`: between the effect's commit and a bare `confirm()` lies a window, in
which a death makes the effect happen twice: it is run at least once and recorded at most
once. `confirm(session)` has no such window. The modes `transaction`, `optimistic` and
`watermark` belong to `engine.consumer`, which owns the transaction.
"""

import asyncio
import contextvars
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import partial, wraps
from typing import Any, Final, Literal, Protocol, TypeVar, cast, get_args

import msgspec

from onefold.core.backoff import Backoff
from onefold.core.clock import Clock, SystemClock
from onefold.core.envelope import Event
from onefold.engine.any_message import event_of
from onefold.engine.handlers import check_handler, is_async
from onefold.engine.outcome import AnyOutcome, Applied, Conflicted, Failed, Repeated, Skipped
from onefold.engine.watchdog import Watch, Watchdog
from onefold.errors import (
    EventBusy,
    InvalidSetting,
    LeaseLost,
    NotConfirmed,
    OnefoldError,
    StoreContended,
    Unavailable,
    Unsupported,
)
from onefold.ports.guard import Busy, Claim, ClaimKey, Confirmation, Done, Guard, Lease, Verdict
from onefold.ports.unit_of_work import KEEP
from onefold.ports.unprotected import Unprotected, UnprotectedLog

__all__ = ["COMPAT_LEASE", "AsyncConfirm", "SyncConfirm", "Terms", "idempotent_consumer"]

log = logging.getLogger("onefold.engine.idempotent")

LEASE: Final = timedelta(seconds=30)
COMPAT_LEASE: Final = timedelta(seconds=300)  # of the earlier system, which did not renew

T = TypeVar("T")
Keep = timedelta | Mapping[str, timedelta]
WhenBusy = Literal["wait", "skip", "reject", "replay"]
OnGuardDown = Literal["wait", "fail", "process"]
Failures = Literal["raise", "return"]
Sleep = Callable[[float], Awaitable[None]]
Guarded = Callable[..., Coroutine[Any, Any, AnyOutcome]]

_WATCHDOG = Watchdog()
_NO_RESULT: Final = object()


@dataclass(frozen=True, kw_only=True)
class Terms:
    """
    How a handler is guarded.

    Attributes:
        name: Of the consumer: stable, 1-64 characters, one for each handler and group.
        lease: How long a dead worker's event stays with it; renewed at each third.
        keep: How long completions are remembered: for all, or by event type.
        default_keep: For event types that *keep* does not name.
        when_busy: What a concurrent duplicate does. `wait`: until the other has finished or
            lost its lease, then it is a repeat or its own turn. `replay`: the same, and the
            handler must confirm with a result. `skip`: gives `BUSY` at once. `reject`: raises
            `EventBusy`.
        patience: How long `wait` and `replay` wait before they give `BUSY`; None: for ever.
        on_guard_down: `wait`: ask again with backoff. `fail`: raise `StoreUnavailable`;
            nothing was run. `process`: run without protection, write it down.
        failures: Of the handler. `raise`: its exception comes out of the call, so that a
            caller that ignores outcomes loses nothing. `return`: as `FAILED`.
        retention: How long the source can redeliver; completions kept shorter are warned of.
    """

    name: str
    lease: timedelta = LEASE
    keep: Keep = KEEP
    default_keep: timedelta = KEEP
    when_busy: WhenBusy = "wait"
    patience: timedelta | None = None
    on_guard_down: OnGuardDown = "wait"
    failures: Failures = "raise"
    retention: timedelta | None = None

    def keep_for(self, event_type: str) -> timedelta:
        """How long a completion of that type is remembered."""
        if isinstance(self.keep, timedelta):
            return self.keep
        return self.keep.get(event_type, self.default_keep)

    def check(self) -> None:
        """Raise `InvalidSetting` for terms that make no sense; warn of a short memory."""
        if problem := wrong_name(self.name):
            raise InvalidSetting("name", problem)
        for setting, allowed in (
            ("when_busy", WhenBusy),
            ("on_guard_down", OnGuardDown),
            ("failures", Failures),
        ):
            if (given := getattr(self, setting)) not in get_args(allowed):
                choices = ", ".join(get_args(allowed))
                raise InvalidSetting(setting, f"one of {choices}; not {given!r}")
        if self.lease <= timedelta(0):
            raise InvalidSetting("lease", "a lease lasts longer than nothing")
        for what, keep in self._keeps().items():
            if keep <= timedelta(0):
                raise InvalidSetting("keep", f"{what} would be forgotten at once")
            if self.retention is not None and keep < self.retention:
                log.warning(
                    "%s forgets %s after %s, but its source can redeliver for %s: "
                    "what is redelivered later is applied again",
                    self.name,
                    what,
                    keep,
                    self.retention,
                )

    def _keeps(self) -> Mapping[str, timedelta]:
        if isinstance(self.keep, timedelta):
            return {"every event": self.keep}
        return {**self.keep, "every other event": self.default_keep}


def wrong_name(name: object) -> str | None:
    """Why *name* cannot be a consumer's; None when it can."""
    if not isinstance(name, str) or not 1 <= len(name) <= 64 or not name.isprintable():
        return f"a consumer's name has 1 to 64 printable characters, and got {name!r:.80}"
    return None


@dataclass(frozen=True, kw_only=True)
class GuardEnvironment:
    """
    What is asked of the world outside, and replaced in tests.

    Attributes:
        clock: What time it is.
        sleep: Waits for that many seconds.
        jitter: Uniform in [0, 1).
        token: Names an attempt, so that a lost reply can be asked again.
        watchdog: Renews leases.
    """

    clock: Clock
    sleep: Sleep
    jitter: Callable[[], float]
    token: Callable[[], str]
    watchdog: Watchdog


class _ConfirmsInside(Protocol):
    async def confirm_in(
        self, target: Any, confirmations: Sequence[Confirmation], *, now: Any, keep: timedelta
    ) -> Sequence[bool]: ...

    def confirm_in_sync(
        self, target: Any, confirmations: Sequence[Confirmation], *, now: Any, keep: timedelta
    ) -> Sequence[bool]: ...


class _Stage(Enum):
    """How far the confirmation of a run is."""

    OPEN = auto()
    CONFIRMED = auto()  # on record
    INSIDE = auto()  # written in the caller's transaction; on record when that commits
    UNPROTECTED = auto()  # no guard; written down for `onefold reconcile`


class _Run:
    """One run of a handler, and what its confirmation is about."""

    def __init__(self, claim: Claim, owner: str, lease: Lease | None, keep: timedelta) -> None:
        self.claim, self.owner, self.lease, self.keep = claim, owner, lease, keep
        self.stage = _Stage.OPEN
        self.revoked = False  # cancelled, or the lease was lost: never confirm any more
        self.with_result = False

    @property
    def attempt(self) -> int:
        return 1 if self.lease is None else self.lease.attempt

    @property
    def fence(self) -> int:
        return 0 if self.lease is None else self.lease.fence

    def lost(self) -> LeaseLost:
        """The error of a run that has no say any more."""
        return LeaseLost(self.claim.key.consumer, self.claim.key.event_id, self.fence)


class AsyncConfirm:
    """
    What an async handler calls when its effect is done.

    Attributes:
        fence: Of the lease: higher than of any earlier run; for foreign systems that compare.
            0 without a guard.
        attempt: How often this event was begun, from 1.
        lost: Whether the lease is known to be lost; stop, nothing will be confirmed.
    """

    def __init__(self, consumer: "_Consumer", run: _Run) -> None:
        self._consumer, self._run = consumer, run

    @property
    def fence(self) -> int:
        return self._run.fence

    @property
    def attempt(self) -> int:
        return self._run.attempt

    @property
    def lost(self) -> bool:
        return self._run.revoked

    async def __call__(self, session: Any = None, *, result: Any = _NO_RESULT) -> None:
        """
        Put on record that the event was applied. Idempotent.

        Args:
            session: Your SQLAlchemy session or connection with its transaction open: the
                record is written there and commits with the effect. Without one, call it
                after the commit.
            result: JSON value kept with the record and given to repeats.

        Raises:
            LeaseLost: another worker has the event. Roll back.
            StoreUnavailable: it may be on record (`on_guard_down="fail"` only; otherwise it
                is asked again until the guard answers).
            Unsupported: the guard cannot confirm in a SQL transaction.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # a `finally` on its way out
            raise asyncio.CancelledError
        await self._consumer.confirm(self._run, session, _encoded(self._run, result))


class SyncConfirm(AsyncConfirm):
    """The same for a handler that runs in a thread; see `AsyncConfirm`."""

    def __init__(self, consumer: "_Consumer", run: _Run, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(consumer, run)
        self._loop = loop

    def __call__(self, session: Any = None, *, result: Any = _NO_RESULT) -> None:  # type: ignore[override]
        """See `AsyncConfirm`; *session* is a synchronous one."""
        kept = _encoded(self._run, result)
        if session is not None and self._run.lease is not None:
            self._consumer.confirm_inside_sync(self._run, session, kept)
            return
        confirming = self._consumer.confirm(self._run, None, kept)
        asyncio.run_coroutine_threadsafe(confirming, self._loop).result()


def _encoded(run: _Run, result: Any) -> bytes | None:
    if result is _NO_RESULT:
        return None
    run.with_result = True
    return msgspec.json.encode(result)


def idempotent_consumer(
    guard: Guard,
    *,
    name: str,
    lease: timedelta = LEASE,
    keep: Keep = KEEP,
    default_keep: timedelta = KEEP,
    when_busy: WhenBusy = "wait",
    patience: timedelta | None = None,
    on_guard_down: OnGuardDown = "wait",
    failures: Failures = "raise",
    retention: timedelta | None = None,
    unprotected: UnprotectedLog | None = None,
    clock: Clock | None = None,
    sleep: Sleep = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
    token: Callable[[], str] = lambda: secrets.token_hex(16),
    watchdog: Watchdog = _WATCHDOG,
) -> Callable[[Callable[..., Any]], Guarded]:
    """
    Make a handler apply each event once; see the module for what holds.

    The handler is called as `handler(message, *args, confirm=…, **kwargs)`; a synchronous
    one in a thread. The decorated function is async and returns an outcome (`Outcome`).

    Args:
        guard: Keeps the claims.
        name: See `Terms`, as for all that follow up to *retention*.
        lease: See `Terms`.
        keep: See `Terms`.
        default_keep: See `Terms`.
        when_busy: See `Terms`.
        patience: See `Terms`.
        on_guard_down: See `Terms`.
        failures: See `Terms`.
        retention: See `Terms`.
        unprotected: Where `on_guard_down="process"` writes down what ran without a guard.
        clock: What time it is.
        sleep: Waits for that many seconds.
        jitter: Uniform in [0, 1).
        token: A name for each attempt, unique for ever.
        watchdog: The thread that renews leases.

    Raises:
        InvalidSetting: the terms make no sense.
    """
    terms = Terms(
        name=name,
        lease=lease,
        keep=keep,
        default_keep=default_keep,
        when_busy=when_busy,
        patience=patience,
        on_guard_down=on_guard_down,
        failures=failures,
        retention=retention,
    )
    terms.check()
    if on_guard_down == "process" and unprotected is None:
        raise InvalidSetting("unprotected", "say where unprotected events are written down")
    env = GuardEnvironment(
        clock=clock or SystemClock(), sleep=sleep, jitter=jitter, token=token, watchdog=watchdog
    )
    consumer = _Consumer(guard, terms, env, unprotected)

    def decorate(handler: Callable[..., Any]) -> Guarded:
        check_handler(handler, name, named="confirm")
        awaited = is_async(handler)

        @wraps(handler)
        async def guarded(message: Any, *args: Any, **kwargs: Any) -> AnyOutcome:
            call = consumer.call_async if awaited else consumer.call_in_thread
            return await consumer.handle(message, partial(call, handler, message, args, kwargs))

        return guarded

    return decorate


class _Consumer:
    """What one decorated handler has in common among its messages."""

    def __init__(
        self, guard: Guard, terms: Terms, env: GuardEnvironment, unprotected: UnprotectedLog | None
    ) -> None:
        self._guard, self._terms, self._env = guard, terms, env
        self._unprotected = unprotected
        self._when_down = Backoff(first_s=0.1, most_s=10)
        self._when_busy = Backoff(first_s=0.05, most_s=1)
        self._outliving: set[asyncio.Task[None]] = set()

    # -- from a message to an outcome ------------------------------------------------------

    async def handle(self, message: Any, call: Callable[[_Run], Awaitable[Any]]) -> AnyOutcome:
        # Nothing is claimed and nothing run for bytes that are no event (B19).
        event = event_of(message, received_at=self._env.clock.now())
        claim = Claim(ClaimKey(self._terms.name, "", event.identity), event.fingerprint())
        owner = self._env.token()
        verdict = await self._claimed(claim, owner)
        if isinstance(verdict, Busy):
            return Skipped(verdict.until)
        if isinstance(verdict, Done):
            return _of_done(verdict)
        run = _Run(claim, owner, verdict, self._terms.keep_for(event.type))
        return await self._run(run, event, call)

    async def _run(
        self, run: _Run, event: Event, call: Callable[[_Run], Awaitable[Any]]
    ) -> AnyOutcome:
        watch = Watch(self._terms.name, self._terms.lease.total_seconds() / 3, self._renewer(run))
        with self._env.watchdog.watching(watch):
            try:
                result = await call(run)
            except Exception as error:
                confirmed = await self._failed(run)
                if self._terms.failures == "return":
                    return Failed(error, run.attempt, confirmed)
                error.add_note(f"in attempt {run.attempt} of {run.claim.key.consumer}")
                raise
        return await self._finished(run, result)

    async def _finished(self, run: _Run, result: Any) -> AnyOutcome:
        if run.stage is _Stage.OPEN:
            await self._release(run)
            raise self._not_confirmed(run, "returned without calling confirm")
        if run.stage is _Stage.INSIDE:
            await self._read_back(run)
        if self._terms.when_busy == "replay" and not run.with_result:
            raise self._not_confirmed(run, "confirmed without the result it promises to replay")
        return Applied(result, protected=run.stage is not _Stage.UNPROTECTED)

    async def _failed(self, run: _Run) -> bool:
        """Give the claim back after the handler's own error; whether it was completed before."""
        if run.stage in {_Stage.CONFIRMED, _Stage.UNPROTECTED}:
            return True
        released = await self._release(run)
        return run.stage is _Stage.INSIDE and not released and await self._is_done(run)

    def _not_confirmed(self, run: _Run, reason: str) -> NotConfirmed:
        return NotConfirmed(run.claim.key.consumer, run.claim.key.event_id, reason)

    # -- calling the handler: nothing of the guard is caught here --------------------------

    async def call_async(
        self,
        handler: Callable[..., Awaitable[Any]],
        message: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        run: _Run,
    ) -> Any:
        try:
            return await handler(message, *args, confirm=AsyncConfirm(self, run), **kwargs)
        except asyncio.CancelledError:
            run.revoked = True
            await asyncio.shield(self._release(run))
            raise

    async def call_in_thread(
        self,
        handler: Callable[..., Any],
        message: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        run: _Run,
    ) -> Any:
        loop = asyncio.get_running_loop()
        confirm = SyncConfirm(self, run, loop)
        work = partial(handler, message, *args, confirm=confirm, **kwargs)
        thread = loop.run_in_executor(None, contextvars.copy_context().run, work)
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            run.revoked = True
            self._outlive(run, thread)
            raise

    def _outlive(self, run: _Run, thread: "asyncio.Future[Any]") -> None:
        """A thread cannot be cancelled: hold the lease until it ends, then give it back."""

        async def until_it_ends() -> None:
            every_s = self._terms.lease.total_seconds() / 3
            watch = Watch(self._terms.name, every_s, self._renewer(run))
            with self._env.watchdog.watching(watch):
                await asyncio.wait([thread])
            if not thread.cancelled() and thread.exception() is not None:
                log.info("cancelled %s ended in %r", self._terms.name, thread.exception())
            await self._release(run)

        task = asyncio.get_running_loop().create_task(until_it_ends(), name="outlived")
        self._outliving.add(task)
        task.add_done_callback(self._outliving.discard)

    # -- claiming --------------------------------------------------------------------------

    async def _claimed(self, claim: Claim, owner: str) -> Verdict | None:
        """A verdict after all the waiting that the terms ask for; None: run unprotected."""
        patience = self._terms.patience
        give_up = None if patience is None else self._env.clock.now() + patience
        tries = 0
        while True:
            verdict = await self._ask(claim, owner)
            if not isinstance(verdict, Busy) or self._terms.when_busy == "skip":
                return verdict
            if self._terms.when_busy == "reject":
                raise EventBusy(claim.key.consumer, claim.key.event_id, verdict.until)
            now = self._env.clock.now()
            if give_up is not None and now >= give_up:
                return verdict
            tries += 1
            left_s = max((verdict.until - now).total_seconds(), 0.001)
            await self._env.sleep(min(self._pause_s(self._when_busy, tries), left_s))

    async def _ask(self, claim: Claim, owner: str) -> Verdict | None:
        """One claim. Asked again under the same owner, a lost reply does no harm (B14)."""
        if self._terms.on_guard_down != "process":
            return await self._patiently("claim", partial(self._claim_once, claim, owner))
        try:
            return await self._claim_once(claim, owner)
        except StoreContended:
            return await self._claim_once(claim, owner)
        except Unavailable as down:
            what = "%s processes event %s WITHOUT PROTECTION: %s"
            log.error(what, *claim.key[::2], down)  # noqa: TRY400 (expected, no trace needed)
            return None

    async def _claim_once(self, claim: Claim, owner: str) -> Verdict:
        now = self._env.clock.now()
        (verdict,) = await self._guard.claim([claim], owner=owner, now=now, lease=self._terms.lease)
        return verdict

    async def _patiently(self, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until the guard answers; with `on_guard_down="fail"`, once."""
        tries = 0
        while True:
            try:
                return await ask()
            except Unavailable as down:
                if self._terms.on_guard_down == "fail" and not isinstance(down, StoreContended):
                    raise
                tries += 1
                pause_s = self._pause_s(self._when_down, tries)
                log.warning(
                    "%s cannot %s, tries again in %.1f s: %s",
                    self._terms.name,
                    what,
                    pause_s,
                    down,
                )
                await self._env.sleep(pause_s)

    def _pause_s(self, backoff: Backoff, tries: int) -> float:
        return backoff.bound_s(tries) * (0.5 + self._env.jitter() / 2)

    # -- ending a claim --------------------------------------------------------------------

    async def confirm(self, run: _Run, session: Any, result: bytes | None) -> None:
        """See `AsyncConfirm`."""
        if run.revoked:
            raise run.lost()
        if run.lease is None:
            if run.stage is _Stage.OPEN:
                await self._note(run)
        elif session is not None:
            await self._confirm_inside(run, run.lease, session, result)
        elif run.stage is _Stage.OPEN:
            await self._confirm_outside(run, run.lease, result)

    async def _confirm_outside(self, run: _Run, lease: Lease, result: bytes | None) -> None:
        async def once() -> bool:
            confirmation = Confirmation(lease, result)
            now = self._env.clock.now()
            (done,) = await self._guard.confirm([confirmation], now=now, keep=run.keep)
            return done

        if not await self._patiently("confirm", once):
            run.revoked = True
            raise run.lost()
        run.stage = _Stage.CONFIRMED

    async def _confirm_inside(
        self, run: _Run, lease: Lease, session: Any, result: bytes | None
    ) -> None:
        run.stage = _Stage.INSIDE  # from here on no renewal: the row is the transaction's
        (done,) = await self._inside().confirm_in(
            session, [Confirmation(lease, result)], now=self._env.clock.now(), keep=run.keep
        )
        self._learn(run, done=done)

    def confirm_inside_sync(self, run: _Run, session: Any, result: bytes | None) -> None:
        """As `confirm` with a session, in the handler's thread."""
        if run.revoked or run.lease is None:
            raise run.lost()
        run.stage = _Stage.INSIDE
        (done,) = self._inside().confirm_in_sync(
            session,
            [Confirmation(run.lease, result)],
            now=self._env.clock.now(),
            keep=run.keep,
        )
        self._learn(run, done=done)

    def _learn(self, run: _Run, *, done: bool) -> None:
        if not done:
            run.stage = _Stage.OPEN
            run.revoked = True
            raise run.lost()

    def _inside(self) -> _ConfirmsInside:
        if not hasattr(self._guard, "confirm_in"):
            raise Unsupported(self._guard.features.name, "confirming in a SQL transaction")
        return cast("_ConfirmsInside", self._guard)

    async def _read_back(self, run: _Run) -> None:
        """Make sure that the transaction with the completion has committed: never guessed."""
        try:
            verdict = await self._guard_answer(run)
        except StoreContended:
            verdict = None  # the row is still locked: the transaction is open
        if isinstance(verdict, Done):
            return
        if isinstance(verdict, Busy):
            raise run.lost()
        if isinstance(verdict, Lease):
            run.lease = verdict
            await self._release(run)
        raise self._not_confirmed(run, "confirmed in a transaction that was not committed")

    async def _is_done(self, run: _Run) -> bool:
        try:
            return isinstance(await self._claim_once(run.claim, run.owner), Done)
        except OnefoldError:
            return False

    async def _guard_answer(self, run: _Run) -> Verdict:
        tries = 0
        while True:
            try:
                return await self._claim_once(run.claim, run.owner)
            except StoreContended:
                raise
            except Unavailable:
                if self._terms.on_guard_down == "fail":
                    raise
                tries += 1
                await self._env.sleep(self._pause_s(self._when_down, tries))

    async def _note(self, run: _Run) -> None:
        """Write down an unprotected run; if even that fails, the log line has its id."""
        event = Unprotected(
            key=run.claim.key,
            fingerprint=run.claim.fingerprint,
            processed_at=self._env.clock.now(),
            keep=run.keep,
        )
        run.stage = _Stage.UNPROTECTED
        try:
            await cast("UnprotectedLog", self._unprotected).note(event)
        except OnefoldError as down:  # also a broken one: the effect is there all the same
            log.critical("unprotected and not written down: %s (%s)", event, down)

    async def _release(self, run: _Run) -> bool:
        """Give the claim back. A guard that does not answer lets the lease run out instead."""
        if run.lease is None:
            return False
        try:
            (released,) = await self._guard.release([run.lease], now=self._env.clock.now())
        except OnefoldError as error:
            log.warning("%s could not release %s: %s", self._terms.name, run.claim.key, error)
            return False
        return released

    def _renewer(self, run: _Run) -> Callable[[], Awaitable[bool]]:
        async def renew() -> bool:
            if run.lease is None or run.stage is not _Stage.OPEN:
                return False
            try:
                (held,) = await self._guard.renew(
                    [run.lease], now=self._env.clock.now(), lease=self._terms.lease
                )
            except OnefoldError as error:  # asked again at the next third
                log.warning("%s could not renew %s: %s", self._terms.name, run.claim.key, error)
                return True
            if held is None and run.stage is _Stage.OPEN:
                run.revoked = True
                log.error("%s", run.lost())
            return held is not None

        return renew


def _of_done(verdict: Done) -> AnyOutcome:
    if not verdict.same_content:
        log.warning("%s: event %s came again with other content", *verdict.key[::2])
        return Conflicted(verdict.key, verdict.completed_at)
    result = None if verdict.result is None else msgspec.json.decode(verdict.result)
    return Repeated(verdict.completed_at, result)
