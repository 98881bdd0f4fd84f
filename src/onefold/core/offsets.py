"""The unbroken prefix of what is done in one partition. Pure."""

from heapq import heappop, heappush


class DonePrefix:
    """
    Tells up to where a partition may be committed, although work ends out of order.

    Positions are registered as they are received, in rising order, and done in any order.
    Only what lies before the first one not done is safe: a commit beyond it loses that one
    when the process dies (research note idempotency, B6 and B7).
    """

    def __init__(self) -> None:
        self._open: list[int] = []  # received, in order; a heap whose head is the oldest
        self._done: set[int] = set()
        self._next: int | None = None

    def received(self, position: int) -> None:
        """Note a received position; one that was received before is not noted twice."""
        if self._next is None or position >= self._next:
            heappush(self._open, position)
            self._next = position + 1

    def done(self, position: int) -> None:
        """Note that *position* was dealt with."""
        self._done.add(position)

    def committable(self) -> int | None:
        """The position after the unbroken done prefix; None when nothing new is in it."""
        safe = None
        while self._open and self._open[0] in self._done:
            position = heappop(self._open)
            self._done.discard(position)
            safe = position + 1
        return safe

    @property
    def unfinished(self) -> int:
        """How many positions were received and not yet found in the done prefix."""
        return len(self._open)
