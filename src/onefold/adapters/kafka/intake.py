"""
What lies between the polling thread and the event loop: holds, buffers, done prefixes.

Both sides call this under one lock, held for microseconds. The thread gains and loses
holds, and fills; the loop takes and marks as done. A message can only be taken or settled
under the hold it was fetched under: that is what makes a late confirmation impossible.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import Condition

from onefold.core.offsets import DonePrefix
from onefold.errors import OnefoldError
from onefold.ports.transport import Message, Partition


@dataclass(kw_only=True)
class Hold:
    """This member's hold on one partition, from its assignment to its revocation."""

    epoch: int
    buffer: deque[Message] = field(default_factory=deque)
    prefix: DonePrefix = field(default_factory=DonePrefix)
    done_to: int | None = None  # all before it is done
    committed: int | None = None  # and the broker knows


class KafkaIntake:
    """
    See the module.

    Args:
        limit: How many messages may wait to be taken.
        wake: Called when there is news for the event loop; from any thread.
    """

    def __init__(self, *, limit: int, wake: Callable[[], None]) -> None:
        self._limit, self._wake = limit, wake
        self._changed = Condition()
        self._holds: dict[Partition, Hold] = {}
        self._lost: list[tuple[Partition, int]] = []
        self._paused: set[Partition] = set()
        self._error: OnefoldError | None = None
        self._epochs = count(1)
        self._turn = 0
        self._loss_unseen = False

    # The thread's side.

    def epochs(self) -> dict[Partition, int]:
        """What is held, and since when."""
        with self._changed:
            return {partition: hold.epoch for partition, hold in self._holds.items()}

    def gain(self, partitions: Iterable[Partition]) -> None:
        """Partitions were assigned."""
        with self._changed:
            for partition in partitions:
                self._holds[partition] = Hold(epoch=next(self._epochs))

    def lose(self, partitions: Iterable[Partition]) -> None:
        """Partitions are another's from now on; what was fetched of them is forgotten."""
        with self._changed:
            for partition in partitions:
                hold = self._holds.pop(partition, None)
                if hold:
                    self._lost.append((partition, hold.epoch))
                    self._paused.discard(partition)
                    self._loss_unseen = True
        self._wake()

    def fill(self, messages: Iterable[Message]) -> None:
        """Messages were fetched, each under the hold that its epoch names."""
        with self._changed:
            for message in messages:
                hold = self._holds.get(message.partition)
                if hold is not None and hold.epoch == message.epoch:
                    hold.buffer.append(message)
        self._wake()

    def fail(self, error: OnefoldError) -> None:
        """Something for `receive` to raise."""
        with self._changed:
            self._error = error
        self._wake()

    def wait_for_room(self, timeout_s: float, *, unless: Callable[[], object]) -> bool:
        """Whether messages may be fetched; waits a little for it, unless there is other work."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting() < self._limit or unless(), timeout_s)
            return self._waiting() < self._limit or bool(unless())

    def poke(self) -> None:
        """There is other work: `wait_for_room` looks again."""
        with self._changed:
            self._changed.notify_all()

    def working(self) -> bool:
        """Whether messages are out that may be settled at any moment."""
        with self._changed:
            return any(hold.prefix.unfinished for hold in self._holds.values())

    def half_empty(self) -> bool:
        """Whether a choked intake should fill again."""
        with self._changed:
            return self._waiting() <= self._limit // 2

    def paused_until(self) -> set[Partition]:
        """What the user has paused, of what is held."""
        with self._changed:
            return self._paused & self._holds.keys()

    def _waiting(self) -> int:
        # A paused partition's messages wait for their own reasons: they choke no other.
        held = self._holds.items()
        return sum(len(hold.buffer) for partition, hold in held if partition not in self._paused)

    # The loop's side.

    def deliverable(self) -> bool:
        """Whether `receive` should look."""
        with self._changed:
            ready = any(h.buffer for p, h in self._holds.items() if p not in self._paused)
            return ready or self._loss_unseen or self._error is not None

    def take(self, most: int) -> list[Message]:
        """
        The next messages; the partition that comes first changes from call to call.

        Raises:
            OnefoldError: what `fail` was told, once, when there is nothing to take.
        """
        taken: list[Message] = []
        with self._changed:
            self._loss_unseen = False
            ready = [h for p, h in self._holds.items() if h.buffer and p not in self._paused]
            self._turn += 1
            first = self._turn % max(1, len(ready))
            for hold in ready[first:] + ready[:first]:
                while hold.buffer and len(taken) < most:
                    message = hold.buffer.popleft()
                    hold.prefix.received(message.position)
                    taken.append(message)
            self._changed.notify_all()
            error, self._error = self._error, None if not taken else self._error
        if error and not taken:
            raise error
        return taken

    def pause(self, partitions: Collection[Partition]) -> None:
        with self._changed:
            self._paused.update(partitions)
            self._changed.notify_all()

    def resume(self, partitions: Collection[Partition]) -> None:
        with self._changed:
            self._paused.difference_update(partitions)
        self._wake()

    def lost(self) -> list[tuple[Partition, int]]:
        """What was lost since the last call."""
        with self._changed:
            lost, self._lost = self._lost, []
        return lost

    def unsettled(self) -> dict[Partition, int]:
        """How many messages of each held partition were fetched and not found settled."""
        with self._changed:
            return {
                partition: len(hold.buffer) + hold.prefix.unfinished
                for partition, hold in self._holds.items()
            }

    # Settling, in the thread.

    def done(self, messages: Sequence[Message]) -> list[Message]:
        """Mark what is still held; returns what is not."""
        refused = []
        with self._changed:
            for message in messages:
                hold = self._holds.get(message.partition)
                if hold is None or hold.epoch != message.epoch:
                    refused.append(message)
                else:
                    hold.prefix.done(message.position)
        return refused

    def committable(self, partitions: Collection[Partition] | None = None) -> dict[Partition, int]:
        """Up to where each of *partitions*, or of all, is done and the broker does not know."""
        found = {}
        with self._changed:
            for partition, hold in self._holds.items():
                if partitions is not None and partition not in partitions:
                    continue
                hold.done_to = hold.prefix.committable() or hold.done_to
                if hold.done_to is not None and hold.done_to != hold.committed:
                    found[partition] = hold.done_to
        return found

    def committed(self, offsets: dict[Partition, int]) -> None:
        """The broker knows."""
        with self._changed:
            for partition, offset in offsets.items():
                if partition in self._holds:
                    self._holds[partition].committed = offset
