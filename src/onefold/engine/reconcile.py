"""Settles with the guard what was processed while it did not answer (`onefold reconcile`)."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from onefold.ports.guard import Busy, Claim, Confirmation, Done, Guard, Lease, Verdict
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
    keep: timedelta = timedelta(days=14),
    limit: int = 500,
    token: Callable[[], str] = lambda: secrets.token_hex(8),
) -> Reconciled:
    """
    Complete in *guard* what ran without it, at most *limit*; safe to repeat and to run twice.

    Raises:
        StoreUnavailable: the guard or the log does not answer; what was settled stays so.
    """
    noted = await log.unsettled(limit=limit)
    claims = [Claim(event.key, event.fingerprint) for event in noted]
    verdicts = await guard.claim(
        claims, owner=f"reconcile {token()}", now=now, lease=timedelta(minutes=1)
    )
    report = Reconciled()
    free = [(e, v) for e, v in zip(noted, verdicts, strict=True) if isinstance(v, Lease)]
    await _record(guard, free, report, now=now, keep=keep)
    _sort_out(noted, verdicts, report)
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
    free: Sequence[tuple[Unprotected, Lease]],
    report: Reconciled,
    *,
    now: datetime,
    keep: timedelta,
) -> None:
    answers = await guard.confirm([Confirmation(held) for _, held in free], now=now, keep=keep)
    for (event, _), confirmed in zip(free, answers, strict=True):
        if not confirmed:
            report.open.append(event)
        elif event.times > 1:
            report.suspect.append(event)
        else:
            report.recorded.append(event)


def _sort_out(
    noted: Sequence[Unprotected], verdicts: Sequence[Verdict], report: Reconciled
) -> None:
    for event, verdict in zip(noted, verdicts, strict=True):
        if isinstance(verdict, Busy):
            report.open.append(event)
        elif isinstance(verdict, Done):
            report.suspect.append(event)
