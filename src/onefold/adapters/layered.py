"""
A fast guard in front of a durable one: the front answers repeats, the durable one decides.

What the front says is done was confirmed by the durable guard first, so it may be believed.
Everything else is asked there: who gets the lease, whether a confirmation counts. The front
is a cache with leases of its own: when it does not answer, or has lost what it knew, repeats
cost a look at the durable guard and nothing else changes.
"""

from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from onefold.errors import Broken, Unavailable
from onefold.ports.features import Features
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Done, Guard, Lease, Verdict

__all__ = ["DurableGuard", "LayeredGuard"]

T = TypeVar("T")


class DurableGuard(Guard, Protocol):
    """A guard that can also confirm in the caller's SQL transaction."""

    async def confirm_in(
        self,
        target: Any,
        confirmations: Sequence[Confirmation],
        *,
        now: datetime,
        keep: timedelta,
    ) -> Sequence[bool]:
        """See `adapters.sql.confirm_in`."""
        ...

    def confirm_in_sync(
        self,
        target: Any,
        confirmations: Sequence[Confirmation],
        *,
        now: datetime,
        keep: timedelta,
    ) -> Sequence[bool]:
        """See `adapters.sql.confirm_in`."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Both(Lease):
    """The durable guard's lease, and the front's, if it gave one."""

    front: Lease | None = None


class LayeredGuard:
    """
    See `ports.guard.Guard`.

    Cost: a repeat one round trip to the front; a new event one to each, when it is claimed
    and when it is confirmed. An outage of the front adds nothing but its time to fail.

    Args:
        front: Answers repeats; Valkey. What it raises is as if it knew nothing.
        durable: Decides; SQL.
        keep: How long the front remembers what it learns from the durable guard's repeats.
    """

    def __init__(
        self, front: Guard, durable: DurableGuard, *, keep: timedelta = timedelta(days=1)
    ) -> None:
        self._front, self._durable, self._keep = front, durable, keep

    @property
    def features(self) -> Features:
        return self._durable.features

    async def claim(
        self, claims: Sequence[Claim], *, owner: str, now: datetime, lease: timedelta
    ) -> Sequence[Verdict]:
        asked = await _or_nothing(self._front.claim(claims, owner=owner, now=now, lease=lease))
        first = {verdict.key: verdict for verdict in asked or ()}
        # Only a completion is final: a lease of the front may be one that it lost, and a
        # stranger's may stand for an event that the durable guard has long completed.
        open_ = [claim for claim in claims if not isinstance(first.get(claim.key), Done)]
        decided = await self._durable.claim(open_, owner=owner, now=now, lease=lease)
        verdicts = dict(first)
        for verdict in decided:
            verdicts[verdict.key] = _joined(verdict, first.get(verdict.key))
        await self._teach(decided, first, now)
        return [verdicts[claim.key] for claim in claims]

    async def renew(
        self, leases: Sequence[Lease], *, now: datetime, lease: timedelta
    ) -> Sequence[Lease | None]:
        renewed = await self._durable.renew(leases, now=now, lease=lease)
        fronts = _fronts(leases)
        await _or_nothing(self._front.renew(fronts, now=now, lease=lease))
        return [
            None if new is None else _joined_lease(new, _front_of(old))
            for old, new in zip(leases, renewed, strict=True)
        ]

    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        answers = await self._durable.confirm(confirmations, now=now, keep=keep)
        done = [
            Confirmation(front, each.result)
            for each, answer in zip(confirmations, answers, strict=True)
            if answer and (front := _front_of(each.lease)) is not None
        ]
        # Durable first: what the front calls done must be so (test_layered.py).
        await _or_nothing(self._front.confirm(done, now=now, keep=keep))
        return answers

    async def confirm_in(
        self,
        target: Any,
        confirmations: Sequence[Confirmation],
        *,
        now: datetime,
        keep: timedelta,
    ) -> Sequence[bool]:
        """In the caller's transaction; the front learns of it with the next claim."""
        return await self._durable.confirm_in(target, confirmations, now=now, keep=keep)

    def confirm_in_sync(
        self,
        target: Any,
        confirmations: Sequence[Confirmation],
        *,
        now: datetime,
        keep: timedelta,
    ) -> Sequence[bool]:
        """As `confirm_in`."""
        return self._durable.confirm_in_sync(target, confirmations, now=now, keep=keep)

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        answers = await self._durable.release(leases, now=now)
        await _or_nothing(self._front.release(_fronts(leases), now=now))
        return answers

    async def forget(self, *, now: datetime, limit: int) -> int:
        await _or_nothing(self._front.forget(now=now, limit=limit))
        return await self._durable.forget(now=now, limit=limit)

    async def _teach(
        self, decided: Sequence[Verdict], first: dict[ClaimKey, Verdict], now: datetime
    ) -> None:
        """Let the front know what is done, and give back its leases of what others hold."""
        done: list[Confirmation] = []
        back: list[Lease] = []
        for verdict in decided:
            front = first.get(verdict.key)
            if isinstance(front, Lease) and isinstance(verdict, Done) and verdict.same_content:
                done.append(Confirmation(front, verdict.result))
            elif isinstance(front, Lease) and not isinstance(verdict, Lease):
                back.append(front)
        if done:
            await _or_nothing(self._front.confirm(done, now=now, keep=self._keep))
        if back:
            await _or_nothing(self._front.release(back, now=now))


async def _or_nothing(answer: Awaitable[T]) -> T | None:
    """The front's answer; an outage of it is no outage."""
    with suppress(Unavailable, Broken):
        return await answer
    return None


def _front_of(lease: Lease) -> Lease | None:
    return lease.front if isinstance(lease, _Both) else None


def _fronts(leases: Sequence[Lease]) -> list[Lease]:
    return [front for held in leases if (front := _front_of(held)) is not None]


def _joined(verdict: Verdict, front: Verdict | None) -> Verdict:
    if isinstance(verdict, Lease) and isinstance(front, Lease):
        return _joined_lease(verdict, front)
    return verdict


def _joined_lease(lease: Lease, front: Lease | None) -> Lease:
    return _Both(
        key=lease.key,
        fence=lease.fence,
        until=lease.until,
        attempt=lease.attempt,
        fingerprint=lease.fingerprint,
        front=front,
    )
