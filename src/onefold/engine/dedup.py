"""
How it is recorded that an event was applied: one class a mode, and what each lets through.

A record applies a part of a poll: it decides which of its deliveries are new, has the
handler run for those, and sees to it that effect and record are kept together, or says so
where they cannot be (`Leased`). It knows nothing of retries, parking and settling.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import NoReturn, Protocol

from onefold.engine.delivery import Delivery, Environment
from onefold.engine.idempotent import AsyncConfirm, idempotent_consumer
from onefold.engine.outcome import Applied, Repeated, Skipped
from onefold.engine.spec import ConsumerSpec
from onefold.errors import (
    CommitUnknown,
    ConstraintViolated,
    EventBusy,
    IllegalTransition,
    InvalidSetting,
    LeaseLost,
    SchemaOutdated,
    StoreContended,
    StoreFailed,
    Unavailable,
    Unsupported,
)
from onefold.ports.guard import Claim, ClaimKey, Guard, Lease
from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Claimed, Transaction, UnitOfWork
from onefold.ports.watermarks import Watermarks

# Told after the handlers: by a constraint that waits for the commit, by what was held back
# until then, or by an error that a handler swallowed.
COMMIT_TIME_ERRORS = (ConstraintViolated, StoreFailed, SchemaOutdated, IllegalTransition)


class HandlerFailed(Exception):
    """A handler raised; which delivery's, unless it was a batch handler of several."""

    def __init__(self, culprit: int | None, error: Exception) -> None:
        super().__init__(culprit, error)
        self.culprit, self.error = culprit, error


class ClaimBusy(Exception):
    """Another worker is at the event until then; nothing was run, nothing is done."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


class Run(Protocol):
    """Runs the handler for the deliveries of *part* at the indices *first*."""

    async def __call__(
        self, tx: Transaction, part: Sequence[Delivery], first: Sequence[int], *, fence: int = 0
    ) -> None:
        """Raises `HandlerFailed`, and what a failing store raises."""
        ...


class Then(Protocol):
    """What else belongs to the transaction of a replay."""

    async def __call__(self, tx: Transaction) -> None:
        """See the class."""
        ...


class InboxFirst:
    """
    `transaction`: the inbox row is written first, in the handler's own transaction.

    A concurrent duplicate waits for that row; a repeat costs a round trip and no handler.
    """

    alone = False  # whether each delivery must be applied by itself

    def __init__(self, spec: ConsumerSpec, uow: UnitOfWork, env: Environment) -> None:
        self._spec, self._uow, self._env = spec, uow, env

    async def apply(self, part: Sequence[Delivery], run: Run) -> Sequence[Claimed]:
        """Apply what is new in *part*, all in one transaction; a verdict for each."""
        async with self._uow.begin() as tx:
            verdicts = await self._claim(tx, part)
            await run(tx, part, [i for i, v in enumerate(verdicts) if v is Claimed.FIRST])
        return verdicts

    async def replay(self, delivery: Delivery, run: Run, then: Then) -> None:
        """Apply a dead letter, unless its event was applied meanwhile, and do *then*."""
        async with self._uow.begin() as tx:
            (verdict,) = await self._claim(tx, [delivery])
            await run(tx, [delivery], [0] if verdict is Claimed.FIRST else [])
            await then(tx)

    async def give_up(self, tx: Transaction, delivery: Delivery) -> bool:
        """
        Let a message go that is parked or dropped; False when it was applied meanwhile.

        It is not claimed: a replay must be able to.
        """
        return True

    async def has(self, delivery: Delivery) -> bool:
        """Whether it need not be run any more; a question only."""
        return await self._has_any([delivery])

    def order_key(self, delivery: Delivery) -> object:
        """Deliveries with equal ones are applied in the order of their arrival."""
        return delivery.order_key

    async def _has_any(self, part: Sequence[Delivery]) -> bool:
        verdicts: Sequence[Claimed] = ()
        with suppress(_TakeBack):  # what was asked must not stay claimed
            async with self._uow.begin() as tx:
                verdicts = await self._claim(tx, part)
                raise _TakeBack
        return _any_repeated(verdicts)

    async def _claim(self, tx: Transaction, part: Sequence[Delivery]) -> Sequence[Claimed]:
        claims = [delivery.claim_for(self._spec.keep_for) for delivery in part]
        return await tx.claim_many(self._spec.name, claims, now=self._env.clock.now())


class InboxLast(InboxFirst):
    """
    `optimistic`: the handler runs, and the inbox row is the last write before the commit.

    The row is locked for a moment only. A repeat has run its handler when it is found out,
    and is rolled back; the others of its part are then applied as `transaction` does.
    """

    async def apply(self, part: Sequence[Delivery], run: Run) -> Sequence[Claimed]:
        """See `InboxFirst`."""
        try:
            async with self._uow.begin() as tx:
                await run(tx, part, range(len(part)))
                return await self._claim_new(tx, part)
        except _TakeBack:
            return await super().apply(part, run)
        except (HandlerFailed, *COMMIT_TIME_ERRORS):
            # A repeat may fail because its effect is there; that is no failure to be counted.
            if not await self._has_any(part):
                raise
            return await super().apply(part, run)

    async def _claim_new(self, tx: Transaction, part: Sequence[Delivery]) -> Sequence[Claimed]:
        """Claim all of *part*; with a repeat in it the transaction must not commit."""
        verdicts = await self._claim(tx, part)
        if _any_repeated(verdicts):
            raise _TakeBack
        return verdicts


class _TakeBack(Exception):
    """Rolls a transaction back; nobody else sees it."""


def _any_repeated(verdicts: Sequence[Claimed]) -> bool:
    return any(verdict is not Claimed.FIRST for verdict in verdicts)


class AtWatermark(InboxFirst):
    """
    `watermark`: the last applied position of each partition, in the handler's transaction.

    No row per event. What stands at or before the mark is a repeat, whatever its id; hence
    nothing may be applied past a message that is not dealt with: a failing one holds up its
    partition, and parking or dropping it moves the mark. Two workers that both think the
    partition theirs cannot both move it: the second's write finds the mark elsewhere, and
    its transaction begins again, among repeats.

    Limit: an event that its producer sent twice stands at two positions and is applied twice.
    """

    def __init__(
        self, spec: ConsumerSpec, uow: UnitOfWork, env: Environment, marks: Watermarks
    ) -> None:
        super().__init__(spec, uow, env)
        self._marks = marks

    async def apply(self, part: Sequence[Delivery], run: Run) -> Sequence[Claimed]:
        """See `InboxFirst`."""
        async with self._uow.begin() as tx:
            new = await self._pass(tx, part)  # first: a second worker waits here, not later
            await run(tx, part, new)
        verdicts = [Claimed.REPEATED] * len(part)
        for i in new:
            verdicts[i] = Claimed.FIRST
        return verdicts

    async def give_up(self, tx: Transaction, delivery: Delivery) -> bool:
        """See `InboxFirst`."""
        return bool(await self._pass(tx, [delivery]))

    async def has(self, delivery: Delivery) -> bool:
        """See `InboxFirst`."""
        message = delivery.message
        async with self._uow.read() as tx:
            held = await self._marks.held(tx, self._spec.name, [message.partition])
        return message.position <= held.get(message.partition, -1)

    def order_key(self, delivery: Delivery) -> object:
        """The partition: a mark cannot say that one message before it is still open."""
        return delivery.message.partition

    async def _pass(self, tx: Transaction, part: Sequence[Delivery]) -> Sequence[int]:
        """Move the marks past *part*; the indices of what they had not passed before."""
        name, now = self._spec.name, self._env.clock.now()
        places = {delivery.message.partition for delivery in part}
        seen = await self._marks.held(tx, name, places)
        reached = dict(seen)
        new = [i for i, delivery in enumerate(part) if _rises(reached, delivery)]
        for partition in sorted(reached):
            before, to = seen.get(partition), reached[partition]
            if before != to and not await self._marks.advance(
                tx, name, partition, seen=before, to=to, now=now
            ):
                raise StoreContended(f"another worker of {name} moved the mark of {partition}")
        return new


def _rises(reached: dict[Partition, int], delivery: Delivery) -> bool:
    partition, position = delivery.message.partition, delivery.message.position
    if position <= reached.get(partition, -1):
        return False
    reached[partition] = position
    return True


class Leased(InboxFirst):
    """
    `lease`: a guard's lease around the handler, confirmed after it; the effect is elsewhere.

    Run at least once, recorded at most once: between the handler's effect and the
    confirmation a death makes the effect happen again. `tx.fence` tells a foreign system
    which run is the later one.
    """

    alone = True

    def __init__(self, spec: ConsumerSpec, uow: UnitOfWork, env: Environment, guard: Guard) -> None:
        super().__init__(spec, uow, env)
        self._guard = guard
        self._guarded = idempotent_consumer(
            guard,
            name=spec.name,
            lease=spec.lease,
            keep=spec.keep,
            default_keep=spec.default_keep,
            when_busy="skip",  # the waiting is the consumer's: other keys go on meanwhile
            on_guard_down=spec.on_guard_down,
            unprotected=spec.unprotected,
            clock=env.clock,
            sleep=env.sleep,
            jitter=env.jitter,
            token=lambda: env.random(16).hex(),
        )(self._under_lease)

    async def apply(self, part: Sequence[Delivery], run: Run) -> Sequence[Claimed]:
        """
        Apply one delivery, unless it was applied before or another worker is at it.

        Raises:
            Held: another worker is, or took it over.
        """
        (delivery,) = part
        try:
            outcome = await self._guarded(delivery.event, delivery, run)
        except LeaseLost:
            raise ClaimBusy(self._env.clock.now()) from None
        except (Unavailable, CommitUnknown, Unsupported) as error:
            # The guard's, with on_guard_down="fail"; the handler's store's; an event published.
            raise HandlerFailed(0, error) from error
        if isinstance(outcome, Skipped):
            raise self._held(delivery, outcome.until)
        if isinstance(outcome, Applied):
            return [Claimed.FIRST]
        return [Claimed.REPEATED if isinstance(outcome, Repeated) else Claimed.CONFLICT]

    async def has(self, delivery: Delivery) -> bool:
        """See `InboxFirst`; what another worker is at need not be run here either."""
        key = ClaimKey(self._spec.name, "", delivery.claim.event_id)
        asked = [Claim(key, delivery.claim.fingerprint)]
        owner, now = self._env.random(16).hex(), self._env.clock.now()
        (verdict,) = await self._guard.claim(asked, owner=owner, now=now, lease=self._spec.lease)
        if not isinstance(verdict, Lease):
            return True
        await self._guard.release([verdict], now=now)
        return False

    async def replay(self, delivery: Delivery, run: Run, then: Then) -> None:
        """See `InboxFirst`; dying before *then* replays again, and finds it repeated."""
        await self.apply([delivery], run)
        async with self._uow.begin() as tx:
            await then(tx)

    async def _under_lease(
        self, _: object, delivery: Delivery, run: Run, *, confirm: AsyncConfirm
    ) -> None:
        await run(_NoTransaction(), [delivery], [0], fence=confirm.fence)
        await confirm()

    def _held(self, delivery: Delivery, until: datetime) -> Exception:
        if self._spec.when_busy == "reject":
            busy = EventBusy(self._spec.name, delivery.claim.event_id, until)
            return HandlerFailed(0, busy)
        return ClaimBusy(until)


class _NoTransaction:
    """What a handler in lease mode is given: every call says where it has to write instead."""

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported("record='lease'", f"{name} in a transaction: the effect is elsewhere")


def record_of(
    spec: ConsumerSpec, uow: UnitOfWork, env: Environment, marks: Watermarks | None
) -> InboxFirst:
    """The record that *spec* asks for."""
    if spec.record == "optimistic":
        return InboxLast(spec, uow, env)
    if spec.record == "lease" and spec.guard is not None:
        return Leased(spec, uow, env, spec.guard)
    if spec.record == "watermark":
        if marks is None:
            raise InvalidSetting("record", f"consumer {spec.name!r}: nothing keeps watermarks here")
        return AtWatermark(spec, uow, env, marks)
    return InboxFirst(spec, uow, env)
