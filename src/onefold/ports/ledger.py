"""What a consumer remembers of its messages besides their effects."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from onefold.ports.transport import Message, Partition
from onefold.ports.unit_of_work import Transaction


class PositionSpan(NamedTuple):
    """An unbroken run of positions of one partition, both ends included."""

    partition: Partition
    first: int
    last: int

    def overlaps(self, other: "PositionSpan") -> bool:
        """Whether a message is in both."""
        here = self.partition == other.partition
        return here and self.first <= other.last and other.first <= self.last


class Begun(NamedTuple):
    """A span that was begun before, and the token of the call that noted it."""

    span: PositionSpan
    token: str


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """
    A message that was parked: everything that is needed to see why, and to run it again.

    Attributes:
        consumer: Which consumer could not apply it.
        partition: Where it came from.
        position: Its place there.
        event_id: The event's identity; None when the bytes are no event.
        event_type: Its type, if it is one.
        key: What orders it.
        value: The raw bytes.
        headers: The raw headers.
        reason: Stable code: an error's `code` or class, `undecodable`, `killed_its_worker`.
        detail: The error in words.
        attempts: How often it was begun.
        parked_at: When.
    """

    consumer: str
    partition: Partition
    position: int
    event_id: str | None
    event_type: str | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = field(default=())
    reason: str
    detail: str
    attempts: int
    parked_at: datetime


class Ledger(Protocol):
    """
    Starts counted before handling, and messages that were given up.

    `begin` and `count` are durable when they return, in a transaction of their own: they
    must survive the handler killing its process. `park` belongs to the caller's.
    """

    async def begin(
        self, consumer: str, spans: Collection[PositionSpan], *, token: str, now: datetime
    ) -> Collection[Begun]:
        """
        Note that these spans are about to be handled; one write, whatever their number.

        Args:
            consumer: Whose.
            spans: One a partition at the most.
            token: At most 32 characters, unique to this call. Where it noted last nothing is
                noted again, and the first answer is given: a lost answer may be asked again.
            now: When.

        Returns:
            For each partition the span noted before, if it overlaps the new one: somebody
            began these messages and did not get to settle them. One of them may kill.
        """
        ...

    async def count(
        self, consumer: str, partition: Partition, position: int, *, token: str, now: datetime
    ) -> int:
        """
        Count one more start of a single message; how many that makes.

        Args:
            consumer: Whose.
            partition: Where the message is.
            position: Its place there.
            token: At most 32 characters, unique to this start. Under the token that was
                counted last nothing is counted again: a lost answer may be asked again.
            now: When.
        """
        ...

    async def park(self, tx: Transaction, letter: DeadLetter) -> None:
        """Keep *letter*; parking the same message again changes nothing."""
        ...

    async def letters(
        self,
        *,
        consumer: str | None = None,
        state: str | None = None,
        reason: str | None = None,
        limit: int = 100,
    ) -> Sequence[Mapping[str, Any]]:
        """
        Dead letters, the oldest first, as flat rows.

        With `id`, `topic`, `partition` (its number), header values in hexadecimal, and
        `state`: `parked`, `asked`, `replayed` or `discarded`.
        """
        ...

    async def move(
        self, ids: Collection[str], *, to: str, note: str, now: datetime
    ) -> Sequence[str]:
        """Ask for a replay (`asked`) or discard parked letters; which ones moved."""
        ...

    async def replayed(self, tx: Transaction, id_: str, *, now: datetime) -> None:
        """Note that a letter was applied after all, in the transaction that applied it."""
        ...


def letter_message(letter: Mapping[str, Any]) -> Message:
    """The message of a dead letter that `Ledger.letters` gave, as it was received."""
    return Message(
        partition=Partition(letter["topic"], letter["partition"]),
        position=letter["position"],
        key=letter["key"],
        value=letter["value"],
        headers=[(name, bytes.fromhex(value)) for name, value in letter["headers"]],
        sent_at=letter["parked_at"],
    )
