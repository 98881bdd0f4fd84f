"""How the choices of a schedule are made: by chance, all of them, or as they were made once."""

from collections.abc import Mapping, Sequence
from random import Random

from onefold.testing.schedule.loop import Handle, Label

__all__ = ["ByChance", "Everything", "Pruned", "Replayed"]


class Pruned(BaseException):
    """This run would only repeat another one in a different order."""


class ByChance:
    """Every option as likely as the others."""

    every_step = False

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self.choices: list[int] = []

    def pick(self, ready: Sequence[Handle], _labels: object, _last: int) -> int:
        chosen = int(self._random() * len(ready))
        self.choices.append(chosen)
        return chosen


class Replayed:
    """The choices of an earlier run; never a switch once they are used up."""

    every_step = False

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = list(reversed(choices))
        self.choices: list[int] = []

    def pick(self, ready: Sequence[Handle], _labels: object, _last: int) -> int:
        wanted = self._choices.pop() if self._choices else 0
        self.choices.append(min(wanted, len(ready) - 1))
        return self.choices[-1]


class _Node:
    """One point of the tree: what could be chosen there, what was, what need not be."""

    __slots__ = ("chosen", "labels", "left", "order", "preempts", "sleeping")

    def __init__(self, ready: Sequence[Handle], labels: Mapping[int, Label], last: int) -> None:
        self.order = [handle.actor for handle in ready]
        self.labels = {actor: labels.get(actor) for actor in self.order}
        self.preempts = self.order[0] == last  # it could go on; all but 0 take its turn away
        self.sleeping: dict[int, Label | None] = {}
        self.left = 0  # how many switches are still allowed
        self.chosen = -1


class Everything:
    """
    Walks the tree of all schedules, depth first; one run a leaf.

    Sleep sets (Godefroid, 1996) leave out schedules that differ from one already run only
    in the order of steps that commute: two workers' calls of different resources. A bound on
    the switches away from a worker that could go on makes the tree small; sleep sets would
    then cut off what the bound still allows, so that it is one or the other.

    Args:
        switches: At most so many switches a schedule; None for no bound.
    """

    every_step = True

    def __init__(self, *, switches: int | None = None) -> None:
        self._bound = switches
        self._path: list[_Node] = []
        self._at = 0
        self.choices: list[int] = []
        self.complete = False

    def restart(self) -> None:
        """Begin the next run."""
        self._at, self.choices = 0, []

    def pick(self, ready: Sequence[Handle], labels: Mapping[int, Label], last: int) -> int:
        if self._at == len(self._path):
            self._path.append(self._grown(_Node(ready, labels, last)))
        node = self._path[self._at]
        self._at += 1
        if len(ready) > 1:
            self.choices.append(node.chosen)
        return node.chosen

    def _grown(self, node: _Node) -> _Node:
        """The new node below the last one, standing at its first choice."""
        if self._path:
            above = self._path[-1]
            node.left = above.left - (above.preempts and above.chosen > 0)
            node.sleeping = _still_asleep(above.sleeping, above.labels[above.order[above.chosen]])
        elif self._bound is not None:
            node.left = self._bound
        if not self._advance(node):
            raise Pruned
        return node

    def _advance(self, node: _Node) -> bool:
        """Stand at the node's next choice; False when there is none."""
        if node.chosen >= 0 and self._bound is None:
            done = node.order[node.chosen]
            node.sleeping[done] = node.labels[done]
        for index in range(node.chosen + 1, len(node.order)):
            if self._bound is not None and index > 0 and node.preempts and not node.left:
                break
            if node.order[index] not in node.sleeping:
                node.chosen = index
                return True
        return False

    def backtrack(self) -> None:
        """Turn to the next leaf; `complete` when that was the last."""
        while self._path:
            if self._advance(self._path[-1]):
                return
            self._path.pop()
        self.complete = True


def _still_asleep(
    sleeping: Mapping[int, Label | None], step: Label | None
) -> dict[int, Label | None]:
    if step is None:
        return {}
    return {a: label for a, label in sleeping.items() if step.commutes(label)}
