"""Settles with the guard what was processed while it did not answer (`onefold reconcile`)."""

import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from onefold.ports.guard import Busy, Claim, Confirmation, Guard, Lease
from onefold.ports.unprotected import Unprotected, UnprotectedLog

__all__ = ["Reconciled", "reconcile", "reconcile_all"]


@dataclass
class Reconciled:
    """
    What became of unprotected runs.

    Attributes:
        recorded: Now completed in the guard: a redelivery will be a repeat.
        suspect: Completed by another run, or processed so more than once: applied twice,
            unless the handler is idempotent by nature. Somebody should look.
        open: A worker is at it, or its lease was lost meanwhile; they stay unsettled.
    """

    recorded: list[Unprotected] = field(default_factory=list)
    suspect: list[Unprotected] = field(default_factory=list)
    open: list[Unprotected] = field(default_factory=list)


async def reconcile(
    guard: Guard,
    log: UnprotectedLog,
    *,
    now: datetime,
    limit: int = 500,
    token: Callable[[], str] = lambda: secrets.token_hex(8),
) -> Reconciled:
    """
    Complete in *guard* what ran without it, at most *limit*; safe to repeat and to run twice.

    A record is kept as long as the handler that ran would have had it kept. Costs a round trip
    for the claims, and one for each instant at which something had run.

    Raises:
        StoreUnavailable: the guard or the log does not answer; what was settled stays so.
    """
    noted = await log.unsettled(limit=limit)
    claims = [Claim(event.key, event.fingerprint) for event in noted]
    verdicts = await guard.claim(
        claims, owner=f"reconcile {token()}", now=now, lease=timedelta(minutes=1)
    )
    report = Reconciled()
    free: dict[tuple[datetime, timedelta], list[tuple[Unprotected, Lease]]] = defaultdict(list)
    for event, verdict in zip(noted, verdicts, strict=True):
        if isinstance(verdict, Lease):
            free[event.processed_at, event.keep].append((event, verdict))
        elif isinstance(verdict, Busy):
            report.open.append(event)
        else:
            _of_settled(report, event, by_us=verdict.completed_at == event.processed_at)
    for (processed_at, keep), ran in free.items():
        await _record(guard, ran, report, at=processed_at, keep=keep)
    settled = [event.key for event in (*report.recorded, *report.suspect)]
    await log.settle(settled, now=now)
    return report


async def reconcile_all(guard: Guard, log: UnprotectedLog, *, now: datetime) -> Reconciled:
    """
    `reconcile` until nothing is left but what others are at.

    Raises:
        StoreUnavailable: as there.
    """
    total = Reconciled()
    while True:
        part = await reconcile(guard, log, now=now)
        total.recorded += part.recorded
        total.suspect += part.suspect
        total.open = part.open
        if not part.recorded and not part.suspect:
            return total


async def _record(
    guard: Guard,
    ran: Sequence[tuple[Unprotected, Lease]],
    report: Reconciled,
    *,
    at: datetime,
    keep: timedelta,
) -> None:
    """
    Complete what ran at one instant, as of that instant.

    By it a later call knows its own record, whose settling it did not live to see, from that of
    another run (test_reconciling_that_was_interrupted_suspects_nobody).
    """
    answers = await guard.confirm([Confirmation(held) for _, held in ran], now=at, keep=keep)
    for (event, _), confirmed in zip(ran, answers, strict=True):
        if confirmed:
            _of_settled(report, event, by_us=True)
        else:
            report.open.append(event)


def _of_settled(report: Reconciled, event: Unprotected, *, by_us: bool) -> None:
    (report.recorded if by_us and event.times == 1 else report.suspect).append(event)
