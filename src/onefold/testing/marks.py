"""Proof that a search went where it should: a race that was never run proves nothing."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["collected", "sometimes"]

_seen: ContextVar[Counter[str] | None] = ContextVar("onefold_marks", default=None)


def sometimes(mark: str, *, when: bool = True) -> None:
    """
    Note that this place was reached; `Explored.marks` counts how often, over all runs.

    Outside of an exploration it does nothing, so it may stand in code that others use.

    Args:
        mark: What was reached, in words.
        when: Count only if this holds: `sometimes("taken over", when=lease.attempt > 1)`.
    """
    seen = _seen.get()
    if seen is not None and when:
        seen[mark] += 1


@contextmanager
def collected() -> Iterator[Counter[str]]:
    """Count the marks that are reached in the block, tasks begun in it included."""
    seen: Counter[str] = Counter()
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)
