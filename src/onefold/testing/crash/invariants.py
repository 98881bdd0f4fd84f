"""What must hold whatever died: nothing lost, nothing doubled, order per key, claims end."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

__all__ = ["Effect", "Violation", "judged"]


class Effect(NamedTuple):
    """One thing that must happen exactly once, and the key within which order counts."""

    what: Hashable
    key: Hashable = None  # None: in no order


class Violation(NamedTuple):
    """A promise that did not hold."""

    promise: str  # `lost`, `doubled`, `unasked`, `order`, `claim`, `check`, `raised`
    detail: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.detail}"


def judged(
    expected: Sequence[Effect], got: Sequence[Effect], *, repeats: bool = False
) -> list[Violation]:
    """
    What is wrong with the effects that happened.

    Args:
        expected: What should have happened, in the order of each key.
        got: What did happen, in its order.
        repeats: Whether an effect may be seen again under the same name, as a message may
            leave a relay again under the same id; its first time is what counts.
    """
    counts = Counter(effect.what for effect in got)
    wanted = {effect.what for effect in expected}
    broken = [Violation("lost", str(e.what)) for e in expected if not counts[e.what]]
    broken += [Violation("unasked", str(what)) for what in counts if what not in wanted]
    if not repeats:
        broken += [Violation("doubled", f"{w}, {n} times") for w, n in counts.items() if n > 1]
    return broken + _disorder(expected, got)


def _disorder(expected: Sequence[Effect], got: Sequence[Effect]) -> list[Violation]:
    broken = []
    happened = _by_key(got)
    for key, wanted in _by_key(expected).items():
        there = [what for what in wanted if what in happened[key]]
        came = [what for what in happened[key] if what in wanted]
        if there != came:
            broken.append(Violation("order", f"of key {key!r}: {came}, expected {there}"))
    return broken


def _by_key(effects: Sequence[Effect]) -> dict[Hashable, list[Hashable]]:
    """What happened under each key, each thing at its first time."""
    found: dict[Hashable, list[Hashable]] = defaultdict(list)
    for what, key in dict.fromkeys(effects):
        if key is not None:
            found[key].append(what)
    return found
