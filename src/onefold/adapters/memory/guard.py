"""The reference guard: claims in a dictionary. Nothing survives the process."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count

from onefold.adapters.claim_record import (
    ClaimRecord,
    claimed,
    confirmed,
    lease_of,
    released,
    renewed,
)
from onefold.adapters.memory.unit_of_work import FEATURES
from onefold.ports.features import Features
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Lease, Verdict


class MemoryGuard:
    """
    See `ports.guard.Guard`. Every call is one step of the event loop: it never waits.

    One counter gives all fences, so that a forgotten claim cannot start over.
    """

    def __init__(self) -> None:
        self.records: dict[ClaimKey, ClaimRecord] = {}
        self._fences = count(1)

    @property
    def features(self) -> Features:
        return FEATURES

    async def claim(
        self, claims: Sequence[Claim], *, owner: str, now: datetime, lease: timedelta
    ) -> Sequence[Verdict]:
        verdicts = []
        for claim in claims:
            new, verdict = claimed(
                self.records.get(claim.key),
                claim,
                owner=owner,
                now=now,
                until=now + lease,
                next_fence=self._next_fence,
            )
            self._write(claim.key, new)
            verdicts.append(verdict)
        return verdicts

    async def renew(
        self, leases: Sequence[Lease], *, now: datetime, lease: timedelta
    ) -> Sequence[Lease | None]:
        prolonged: list[Lease | None] = []
        for held in leases:
            new = renewed(self.records.get(held.key), held, now=now, until=now + lease)
            self._write(held.key, new)
            prolonged.append(None if new is None else lease_of(held.key, new))
        return prolonged

    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        answers = []
        for confirmation in confirmations:
            key = confirmation.lease.key
            new, answer = confirmed(
                self.records.get(key), confirmation, now=now, forget_at=now + keep
            )
            self._write(key, new)
            answers.append(answer)
        return answers

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        answers = []
        for held in leases:
            new, answer = released(self.records.get(held.key), held, now=now)
            self._write(held.key, new)
            answers.append(answer)
        return answers

    async def forget(self, *, now: datetime, limit: int) -> int:
        over = [
            key
            for key, record in self.records.items()
            if record.forget_at is not None and record.forget_at <= now
        ][:limit]
        for key in over:
            del self.records[key]
        return len(over)

    def _next_fence(self) -> int:
        return next(self._fences)

    def _write(self, key: ClaimKey, new: ClaimRecord | None) -> None:
        if new is not None:
            self.records[key] = new
