"""Messages in and out of a broker."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from msgspec import Struct


@dataclass(frozen=True, kw_only=True)
class TransportFeatures:
    """
    What a transport promises; contract suites read it.

    Attributes:
        name: `memory`, `sql`, `kafka`, `valkey`.
        order: `key`: messages of one key arrive in the order of their sending, also when
            one is redelivered. `none`: a redelivered message may come after later ones.
        settles_singly: Each message is settled by itself; otherwise only the unbroken
            prefix of a partition is durable, and a gap makes what follows come again.
        survives_process: Unsettled messages are there after the process ended.
        replays: Settled messages stay in the broker and can be read again from the start.
    """

    name: str
    order: str
    settles_singly: bool
    survives_process: bool
    replays: bool


class Partition(NamedTuple):
    """Where a message stands: within one, messages have an order."""

    topic: str
    number: int


class Message(Struct, frozen=True, kw_only=True, gc=False):
    """
    One message as it was received.

    Attributes:
        partition: Where it came from.
        position: Its place there: rises with every message, not always by one.
        key: What orders it; None for no order.
        value: Its bytes; None for a tombstone.
        headers: Names and values in the order of the wire; a name may come twice.
        sent_at: What the broker says, if it does.
        epoch: Of this subscription's hold on the partition: higher each time it gets the
            partition anew, unchanged by a rebalance that lets it keep the partition.
        token: The transport's own handle (a stream's entry id); opaque to others.
    """

    partition: Partition
    position: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    sent_at: datetime | None = None
    epoch: int = 0
    token: str = ""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """One message to be sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = field(default=())


class Subscription(Protocol):
    """
    One member of a consumer group. Used by one task; other members run beside it.

    Everything received is delivered again, to this member or another, until it was settled
    by a member that still holds its partition. A member that dies loses nothing.
    """

    @property
    def features(self) -> TransportFeatures:
        """What this transport promises."""
        ...

    async def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Message]:
        """
        The next messages, in order within each partition; none when *wait_s* passed.

        Returns as soon as there is any; never waits to fill up. Returns early, with none,
        when partitions were lost (see `lost`) or the subscription is closed meanwhile. What
        was received and not settled does not come again to a member that keeps the partition:
        to try again is the caller's work. Cancelling loses nothing.

        Raises:
            StoreUnavailable: the broker does not answer; nothing was lost.
            StoreFailed: the broker refuses for good, as for a wrong password.
            IllegalTransition: this subscription was closed before.
        """
        ...

    async def settle(self, messages: Sequence[Message]) -> Sequence[Message]:
        """
        Report messages as dealt with for good (applied, repeated or parked), in any order.

        What is durable afterwards: each of them, or with `settles_singly` false the unbroken
        prefix of each partition. Settling twice is harmless. May run beside `receive`.

        Returns:
            Those that could not be settled because their partition was lost (their epoch
            is over): another member will get them, and must find them repeated.

        Raises:
            StoreUnavailable: may have been settled; settle again.
        """
        ...

    async def lost(self) -> Collection[tuple[Partition, int]]:
        """Partitions and epochs that this member no longer holds, since the last call."""
        ...

    def standing(self) -> Mapping[Partition, int | None]:
        """
        The partitions held, and how many messages of each are not settled; no round trip.

        As far as the broker has told lately; None where it has not.
        """
        ...

    async def pause(self, partitions: Collection[Partition]) -> None:
        """Receive nothing more from these until `resume`; keeps membership alive."""
        ...

    async def resume(self, partitions: Collection[Partition]) -> None:
        """Receive from these again, from where they were paused."""
        ...

    async def close(self) -> None:
        """Leave the group; unsettled messages go to other members. Safe twice."""
        ...


class Transport(Protocol):
    """A broker: opens subscriptions and sends."""

    @property
    def features(self) -> TransportFeatures:
        """What this transport promises."""
        ...

    async def subscribe(self, group: str, topics: Collection[str]) -> Subscription:
        """
        Join *group* as a new member, from the earliest message it has not settled.

        Raises:
            StoreUnavailable: the broker does not answer.
        """
        ...

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[BaseException | None]:
        """
        Send, in order for each key; return when the broker has made them durable or said no.

        Returns:
            For each message None, or why it is not known to be durable. After a failure no
            later message of the same key in this call is reported as sent, and none stands
            in the broker unless the failed one does too: send them again, in order.

        Raises:
            IllegalTransition: this transport was closed before; nothing was sent.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection. Safe twice."""
        ...
