"""Ctrl-C: at once while we wait for input, after the commit while a batch is on its way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Interrupt:
    """
    Holds SIGINT back until it does no harm. A second one is not held back.

    Attributes:
        asked: Whether to stop as soon as it can be.
    """

    def __init__(self) -> None:
        self.asked = False
        self._at_once = False

    def __enter__(self) -> "Interrupt":
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let SIGINT raise `KeyboardInterrupt` within the block, for nothing is half done."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self._at_once or self.asked:
            raise KeyboardInterrupt
        self.asked = True
