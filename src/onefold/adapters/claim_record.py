"""
One claim's record, and what each call of a guard makes of it. No clock, no storage here.

The state table of `core.claim` applied to what is written down. The memory and the SQLite
guard run these functions; the PostgreSQL statements and the Valkey scripts say the same in
their own words, and one contract suite holds all of them to it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from onefold.core.claim import NEXT, ClaimFact, ClaimState
from onefold.ports.guard import Busy, Claim, ClaimKey, Confirmation, Done, Lease, Verdict

Written = Literal["leased", "released", "completed"]


@dataclass(frozen=True, kw_only=True)
class ClaimRecord:
    """
    What is written down of one claim; there is none before the first claim.

    Attributes:
        state: `released` is ABSENT with a memory: fence and attempts go on from here.
        fence: Of the last lease.
        owner: Who got the last lease.
        until: When the last lease ends or ended.
        attempt: How many leases there were.
        fingerprint: Of the content as last claimed; as applied, once completed.
        completed_at: When it was confirmed.
        forget_at: From when on a completed record may be removed.
        result: What was stored with the confirmation.
    """

    state: Written
    fence: int
    owner: str
    until: datetime
    attempt: int
    fingerprint: bytes
    completed_at: datetime | None = None
    forget_at: datetime | None = None
    result: bytes | None = None

    def stands(self, now: datetime) -> ClaimState:
        """Where the claim stands at *now*, in the words of the state table."""
        if self.completed_at is not None:
            return ClaimState.COMPLETED
        if self.state == "released":
            return ClaimState.ABSENT
        return ClaimState.EXPIRED if self.until <= now else ClaimState.LEASED


def claimed(
    record: ClaimRecord | None,
    claim: Claim,
    *,
    owner: str,
    now: datetime,
    until: datetime,
    next_fence: Callable[[], int],
) -> tuple[ClaimRecord | None, Verdict]:
    """The record to write, None for no change, and what the claimant is told."""
    if record is None or (record.stands(now), ClaimFact.CLAIMED) in NEXT:
        new = ClaimRecord(
            state="leased",
            fence=next_fence(),
            owner=owner,
            until=until,
            attempt=1 if record is None else record.attempt + 1,
            fingerprint=claim.fingerprint,
        )
        return new, lease_of(claim.key, new)
    return None, told(claim, record, owner=owner)


def told(claim: Claim, record: ClaimRecord, *, owner: str) -> Verdict:
    """What a claimant is told of a record that it cannot take."""
    if record.completed_at is not None:
        same = record.fingerprint == claim.fingerprint
        return Done(
            key=claim.key,
            completed_at=record.completed_at,
            same_content=same,
            result=record.result,
        )
    if record.owner == owner:
        return lease_of(claim.key, record)
    return Busy(key=claim.key, until=record.until)


def lease_of(key: ClaimKey, record: ClaimRecord) -> Lease:
    """The lease that *record* tells of."""
    return Lease(
        key=key,
        fence=record.fence,
        until=record.until,
        attempt=record.attempt,
        fingerprint=record.fingerprint,
    )


def renewed(
    record: ClaimRecord | None, lease: Lease, *, now: datetime, until: datetime
) -> ClaimRecord | None:
    """The record with a later end; None when the lease was lost."""
    if not _may(record, lease, now, ClaimFact.RENEWED):
        return None
    assert record is not None  # noqa: S101 (`_may` has seen it)
    return replace(record, until=until)


def confirmed(
    record: ClaimRecord | None, confirmation: Confirmation, *, now: datetime, forget_at: datetime
) -> tuple[ClaimRecord | None, bool]:
    """The record to write, None for no change, and whether it is completed by this lease."""
    if not _may(record, confirmation.lease, now, ClaimFact.CONFIRMED):
        by_this = record is not None and record.fence == confirmation.lease.fence
        return None, by_this and record is not None and record.state == "completed"
    assert record is not None  # noqa: S101 (`_may` has seen it)
    new = replace(
        record,
        state="completed",
        completed_at=now,
        forget_at=forget_at,
        result=confirmation.result,
    )
    return new, True


def released(
    record: ClaimRecord | None, lease: Lease, *, now: datetime
) -> tuple[ClaimRecord | None, bool]:
    """The record to write, None for no change, and whether the lease is given back."""
    if not _may(record, lease, now, ClaimFact.RELEASED):
        again = record is not None and record.fence == lease.fence
        return None, again and record is not None and record.state == "released"
    assert record is not None  # noqa: S101 (`_may` has seen it)
    return replace(record, state="released"), True


def _may(record: ClaimRecord | None, lease: Lease, now: datetime, fact: ClaimFact) -> bool:
    """Whether the holder of *lease* may do that: its fence is the claim's, the state allows."""
    if record is None or record.fence != lease.fence:
        return False
    return (record.stands(now), fact) in NEXT
