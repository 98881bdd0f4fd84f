"""Claims with leases and fences: who may apply an event now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from onefold.ports.features import Features


class ClaimKey(NamedTuple):
    """
    What is claimed. Two consumers of one event have two claims, and never meet.

    Attributes:
        consumer: Stable name of the consumer, 1-64 characters.
        source: Who made the event; ids are unique only within a source. Empty where
            the id says it all (`Event.identity`).
        event_id: The event's identity.
    """

    consumer: str
    source: str
    event_id: str


@dataclass(frozen=True, kw_only=True)
class Lease:
    """
    The right to apply one event until an instant, as `Guard.claim` gave it.

    Attributes:
        key: What was claimed.
        fence: Higher than that of every earlier lease of this key, released and forgotten
            ones too; hand it to foreign systems that can compare.
        until: When others may take the claim over.
        attempt: How often this event was claimed, from 1; survives releases, so that an
            event that kills its worker is counted.
        fingerprint: Of the content, as it was claimed.
    """

    key: ClaimKey
    fence: int
    until: datetime
    attempt: int
    fingerprint: bytes


@dataclass(frozen=True, kw_only=True)
class Busy:
    """Another worker holds the claim until then. It is not done: never move an offset on it."""

    key: ClaimKey
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Done:
    """
    The event was applied before.

    Attributes:
        key: What was claimed.
        completed_at: When it was confirmed.
        same_content: False when the same id came with other content: a conflict.
        result: What was stored with the confirmation, if anything.
    """

    key: ClaimKey
    completed_at: datetime
    same_content: bool
    result: bytes | None


Verdict = Lease | Busy | Done


class Claim(NamedTuple):
    """One event somebody wants to apply."""

    key: ClaimKey
    fingerprint: bytes  # SHA-256 of the content, 32 bytes


class Confirmation(NamedTuple):
    """One event that was applied."""

    lease: Lease
    result: bytes | None = None  # kept with the record and given to repeats


class Guard(Protocol):
    """
    Keeps claims by the state table of `core.claim`.

    Every call is one atomic step per key and one round trip for all keys together; keys
    are taken in their order, so that two overlapping calls cannot deadlock. Time is what
    the caller passes as *now*; a store's own expiry is housekeeping only. Safe to share by
    any number of tasks and processes.

    All calls raise StoreUnavailable when the store does not answer: a claim may then have
    been taken (it ends with its lease, and claiming again with the same *owner* before
    gives the same lease back), a confirmation may have been recorded (confirm again).
    """

    @property
    def features(self) -> Features:
        """What this adapter can do."""
        ...

    async def claim(
        self, claims: Sequence[Claim], *, owner: str, now: datetime, lease: timedelta
    ) -> Sequence[Verdict]:
        """
        Take the lease of each event that is free, and tell of the others.

        Args:
            claims: What is wanted; no key twice.
            owner: Unique to this attempt of this worker. Claiming again what the same
                owner holds gives the same lease and fence: a lost reply can be repeated.
            now: The caller's time.
            lease: How long others must wait.

        Returns:
            A verdict for each claim, in their order.
        """
        ...

    async def renew(
        self, leases: Sequence[Lease], *, now: datetime, lease: timedelta
    ) -> Sequence[Lease | None]:
        """Prolong leases to now + *lease*; None for one that was lost to another worker."""
        ...

    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        """
        Make leased claims completed; final from then on.

        Confirming again what this lease completed is True and changes nothing. False: the
        lease was lost, another worker has or had the claim; nothing changed.

        Args:
            confirmations: What was applied.
            now: The caller's time; becomes `completed_at`.
            keep: After which the record may be forgotten (`forget`).
        """
        ...

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        """Give leases back, so that others may claim at once; False for one that was lost."""
        ...

    async def forget(self, *, now: datetime, limit: int) -> int:
        """Remove at most *limit* completed records whose time to be kept is over; how many."""
        ...
