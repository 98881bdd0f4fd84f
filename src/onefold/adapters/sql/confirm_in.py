"""
Confirmations inside the caller's own transaction: completion and effect, both or neither.

A claim confirmed beside the effect leaves a window: the effect commits, and before the claim
is confirmed the worker dies. Here the very transaction that writes the effect also writes
the completion. It also settles what a zombie did: its fence no longer fits, the answer is
False, and the caller rolls its effect back.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from onefold.adapters.sql.claim_tables import claims
from onefold.adapters.sql.errors import at_the_border
from onefold.ports.guard import Confirmation, Lease
from onefold.ports.unit_of_work import Transaction

__all__ = ["AsyncTarget", "ConfirmsInside", "SyncTarget", "confirm_in", "confirm_in_sync"]

AsyncTarget = AsyncSession | AsyncConnection | Transaction
SyncTarget = Session | Connection


def _of(lease: Lease) -> ColumnElement[bool]:
    key = lease.key
    return and_(
        claims.c.consumer == key.consumer,
        claims.c.source == key.source,
        claims.c.event_id == key.event_id,
        claims.c.fence == lease.fence,
    )


def _completion(confirmation: Confirmation, now: datetime, keep: timedelta) -> Executable:
    return (
        update(claims)
        .where(_of(confirmation.lease), claims.c.state == "leased")
        .values(
            state="completed", completed_at=now, forget_at=now + keep, result=confirmation.result
        )
        .returning(claims.c.fence)
    )


def _earlier(confirmation: Confirmation) -> Executable:
    done = claims.c.state == "completed"
    return select(claims.c.fence).where(_of(confirmation.lease), done)


def _in_order(confirmations: Sequence[Confirmation]) -> Iterator[tuple[int, Confirmation]]:
    """With their places, sorted by key, so that overlapping transactions cannot deadlock."""
    numbered = enumerate(confirmations)
    return iter(sorted(numbered, key=lambda each: each[1].lease.key))


async def confirm_in(
    target: AsyncTarget, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
) -> Sequence[bool]:
    """
    Complete leased claims in *target*'s transaction; final when, and only when, it commits.

    One round trip for each, and one more for each that is not leased any more.

    Args:
        target: An open transaction of the database that keeps the claims: SQLAlchemy's or
            ours. Not committed and not closed here.
        confirmations: What was applied.
        now: Becomes `completed_at`.
        keep: After which the record may be forgotten.

    Returns:
        For each whether it will be completed by this lease. False: the lease was lost; roll
        the effect back.

    Raises:
        StoreUnavailable, StoreContended, SchemaOutdated, StoreFailed: the transaction is fit
            for rollback only.
    """
    answers = [False] * len(confirmations)
    with at_the_border():
        for place, confirmation in _in_order(confirmations):
            changed = await target.execute(_completion(confirmation, now, keep))
            if changed.first() is None:
                changed = await target.execute(_earlier(confirmation))
                answers[place] = changed.first() is not None
            else:
                answers[place] = True
    return answers


def confirm_in_sync(
    target: SyncTarget, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
) -> Sequence[bool]:
    """As `confirm_in`, for SQLAlchemy's synchronous `Session` and `Connection`."""
    answers = [False] * len(confirmations)
    with at_the_border():
        for place, confirmation in _in_order(confirmations):
            changed: Any = target.execute(_completion(confirmation, now, keep))
            if changed.first() is None:
                changed = target.execute(_earlier(confirmation))
                answers[place] = changed.first() is not None
            else:
                answers[place] = True
    return answers


class ConfirmsInside:
    """What makes a SQL guard able to confirm in the caller's transaction."""

    async def confirm_in(
        self,
        target: AsyncTarget | SyncTarget,
        confirmations: Sequence[Confirmation],
        *,
        now: datetime,
        keep: timedelta,
    ) -> Sequence[bool]:
        """See `confirm_in`; a synchronous *target* is used as it is and blocks meanwhile."""
        if isinstance(target, Session | Connection):
            return confirm_in_sync(target, confirmations, now=now, keep=keep)
        return await confirm_in(target, confirmations, now=now, keep=keep)

    def confirm_in_sync(
        self,
        target: SyncTarget,
        confirmations: Sequence[Confirmation],
        *,
        now: datetime,
        keep: timedelta,
    ) -> Sequence[bool]:
        """See `confirm_in_sync`."""
        return confirm_in_sync(target, confirmations, now=now, keep=keep)
