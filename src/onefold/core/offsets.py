"""The unbroken prefix of what is done in one partition. Pure."""

from collections import deque


class DonePrefix:
    """
    Tells up to where a partition may be committed, although work ends out of order.

    Positions are registered as they are received, in rising order, and done in any order.
    Only what lies before the first one not done is safe: a commit beyond it loses that one
    when the process dies (research note idempotency, B6 and B7). Positions may have gaps:
    compaction and transaction markers leave them.

    One prefix belongs to one hold of a partition. Who reads again from an earlier position
    within that hold may register it again; what is behind the prefix stays behind it. Cost:
    O(1) a position; memory for what was received and lies not yet in the prefix.
    """

    def __init__(self) -> None:
        self._received: deque[int] = deque()  # in order, from the first not in the prefix
        self._open: set[int] = set()  # received and not done
        self._next: int | None = None

    def received(self, position: int) -> None:
        """Note a received position; one that was received before is not noted twice."""
        if self._next is None or position >= self._next:
            self._received.append(position)
            self._open.add(position)
            self._next = position + 1

    def done(self, position: int) -> None:
        """Note that *position* was dealt with; one never received, or done before, is no news."""
        self._open.discard(position)

    def committable(self) -> int | None:
        """The position after the unbroken done prefix; None when nothing new is in it."""
        safe = None
        while self._received and self._received[0] not in self._open:
            safe = self._received.popleft() + 1
        return safe

    @property
    def unfinished(self) -> int:
        """How many positions were received and not yet found in the done prefix."""
        return len(self._received)
